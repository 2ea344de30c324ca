"""What queries are narrowed by, spelt alike in every command of both programs."""

from __future__ import annotations

from typing import Annotated

import typer

Since = Annotated[str | None, typer.Option(help="Only what was drawn on this day or later, YYYY-MM-DD.")]
Until = Annotated[str | None, typer.Option(help="Only what was drawn on this day or earlier, YYYY-MM-DD.")]
OneSite = Annotated[str | None, typer.Option("--site", help="Only this site.")]
OneCampaign = Annotated[
    str | None, typer.Option("--campaign", help="Only this campaign, by name or the beginning of its id.")
]
