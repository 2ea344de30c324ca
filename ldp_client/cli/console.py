"""What every command shares: the site's folder, the output format, refusals turned into exit codes."""

from __future__ import annotations

import datetime
import json
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from ldp_client.damage import is_damage
from ldp_client.errors import ConfigurationError, DamagedError, LdpError, WaitingError
from ldp_client.wire.evaluation import Asked, asked_id


class Format(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


AnyAsked = TypeVar("AnyAsked", bound=Asked)
State = Annotated[Path, typer.Option("--state", envvar="LDP_STATE", help="The site's folder.", show_default=True)]
Output = Annotated[Format, typer.Option("--format", help="table for people, json for programs.")]
HERE = Path()


def show(rows: Sequence[Mapping[str, Any]], output: Format, title: str | None = None) -> None:
    """Print rows as a table or as a JSON list."""
    if output is Format.JSON:
        typer.echo(json.dumps([dict(row) for row in rows], indent=2))
        return
    console = Console(soft_wrap=not sys.stdout.isatty())
    widths = [max(len(str(row[name])) for row in (*rows, {name: name})) for name in rows[0]] if rows else []
    if sys.stdout.isatty() and sum(widths) + 3 * len(widths) + 1 > console.width:
        # Columns that break inside words are read by nobody.
        for row in rows:
            say([*(f"{name.replace('_', ' ')}: {value}" for name, value in row.items()), ""])
        return
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing to show",):
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    if not sys.stdout.isatty():
        console.width = max(console.width, sum(widths) + 3 * len(widths) + 1)
    console.print(table)


def say(text: str | Iterable[str]) -> None:
    """Print plain lines."""
    for line in (text,) if isinstance(text, str) else text:
        typer.echo(line)


def choose(campaigns: Sequence[AnyAsked], wanted: str) -> AnyAsked:
    """The campaign with that name, or whose id begins so.

    Raises:
        WaitingError: none was offered yet.
        ConfigurationError: none of those offered, or more than one, fits.
    """
    if not campaigns:
        raise WaitingError("no campaign has been offered to this site yet; the courier brings them with its next round")
    fits = [c for c in campaigns if c.name == wanted or (len(wanted) >= 6 and asked_id(c).startswith(wanted))]
    if len(fits) != 1:
        offered = ", ".join(f"{campaign.name} ({asked_id(campaign)[:12]})" for campaign in campaigns)
        raise ConfigurationError(f"{len(fits)} campaigns are called {wanted!r}; offered are: {offered}")
    return fits[0]


def day(text: str | None) -> str | None:
    """A day that was typed, or None.

    Raises:
        ConfigurationError: not a day of the calendar.
    """
    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigurationError(f"a day is written YYYY-MM-DD, such as 2027-03-31; found {text!r}") from None


def days(since: str | None, until: str | None) -> tuple[str | None, str | None]:
    """The first and the last day of a time that was typed.

    Raises:
        ConfigurationError: as `day`; or the last lies before the first, and nothing could be found.
    """
    first, last = day(since), day(until)
    if first is not None and last is not None and last < first:
        raise ConfigurationError(f"--until {last} lies before --since {first}, so nothing can be found; exchange them")
    return first, last


@contextmanager
def refusals(program: str) -> Any:
    """Turn an LdpError into a sentence and its exit code."""
    try:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Met while a ledger was read.
            if is_damage(error):
                raise DamagedError from error
            raise
    except LdpError as refusal:
        typer.echo(f"{program}: {refusal}", err=True)
        raise SystemExit(refusal.exit_code) from refusal
