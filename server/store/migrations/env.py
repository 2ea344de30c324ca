"""Alembic reads this file: run the steps inside the transaction that `open_database` holds."""

from __future__ import annotations

from alembic import context

from server.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
