"""A site ledger as one file that anybody can verify: `python -m ldp_client.verify FILE`."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ldp_client.errors import ConfigurationError
from ldp_client.new_file import appearing_whole
from ldp_client.site import Site
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import CHECKPOINT, close_envelope
from ldp_client.wire.exchange import Checkpoint
from ldp_client.wire.export_lines import written


def write_export(site: Site, path: Path) -> int:
    """Write every entry and every document filed, and close with a signed checkpoint; the number of entries.

    Openings of subject commitments are not written: they say who is who. The file appears whole or not at all.

    Raises:
        ConfigurationError: the file exists already or cannot be written.
    """
    genesis, count = site.ledger.genesis, 0
    # One moment: an agent that works meanwhile files receipts of entries that come after the head written here.
    with appearing_whole(path) as part, part.open("wb") as file, site.ledger.snapshot():
        head = site.ledger.head()
        file.write(
            written(
                type="ledger",
                side="site",
                format=1,
                site=genesis.site,
                ledger_id=genesis.ledger_id,
                signing_key=site.signer.public_key.hex(),
                centre_signing_key=site.centre.signing_key,
            )
        )
        for kind in ("campaign", "evaluation", "receipt"):
            for _, body in site.ledger.documents(kind):
                file.write(written(type="document", kind=kind, body=body))
        for envelope in site.ledger.headers():
            file.write(written(type="document", kind="header", body=envelope))
        for row in site.ledger.rows(1, head.sequence):
            file.write(written(type="entry", sequence=row.sequence, body=row.body, head=row.head))
            count += 1
        checkpoint = Checkpoint(party=genesis.site, ledger_id=genesis.ledger_id, sequence=head.sequence, head=head.head)
        file.write(
            written(type="checkpoint", body=close_envelope(CHECKPOINT, canonical_bytes(checkpoint), site.signer))
        )
    return count


def write_openings(site: Site, path: Path) -> int:
    """Write (charge, unit, salt) for every charge and (query, units, salt) for every query, in their order.

    For the hospital's own auditor: `ldp_client.openings` reads it.

    Raises:
        ConfigurationError: the file exists already or cannot be written.
    """
    count = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made ({error.strerror}); name a new file") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for _, row in heapq.merge(_charges(site), _queries(site)):
            file.write(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n")
            count += 1
    return count


def _charges(site: Site) -> Iterator[tuple[int, dict[str, object]]]:
    for charge, unit, salt in site.ledger.openings():
        yield charge, {"charge": charge, "salt": salt.hex(), "unit": unit.hex()}


def _queries(site: Site) -> Iterator[tuple[int, dict[str, object]]]:
    for query, salt, units in site.ledger.query_openings():
        yield query, {"query": query, "salt": salt.hex(), "units": [unit.hex() for unit in units]}
