"""`ldp-client dataset`: what of this site's X-rays can be released, and which files are set aside and why.

File names may be patients' names. They are printed on the site's own screen, on standard output, and nowhere else:
never in a log, an error or anything that leaves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.markup import escape

from ldp_client import desk
from ldp_client.cli.console import HERE, Format, Output, State, choose, say, show
from ldp_client.errors import ConfigurationError, QuarantinedError
from ldp_client.imaging.dataset import DataSet, read_dataset
from ldp_client.imaging.files import Unit
from ldp_client.site import Site, data_set, open_site

app = typer.Typer(no_args_is_help=True)


class PrivacyUnit(StrEnum):
    """Who is protected: a patient with all their X-rays, or one image."""

    PATIENT = "patient"
    IMAGE = "image"


_UNITS: Final[dict[PrivacyUnit, Unit]] = {PrivacyUnit.PATIENT: "patient", PrivacyUnit.IMAGE: "image"}


@app.callback()
def _describe() -> None:
    """The folder and the labels file that agent.toml names."""


@app.command()
def check(
    campaign: Annotated[
        str | None, typer.Option(help="Take unit and labels from this campaign (its name or the beginning of its id).")
    ] = None,
    unit: Annotated[PrivacyUnit | None, typer.Option(help="Without a campaign: the privacy unit.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Without a campaign: a label's name; once for each label.")
    ] = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """Read every file once; count and list what is set aside, and end with code 8 if anything is. Nothing is drawn."""
    site = open_site(state)
    try:
        held = _read(site, campaign, unit, tuple(label or ()))
    finally:
        site.close()
    counts = {reason.value: count for reason, count in held.counts().items()}
    units = len({item.patient for item in held.items})
    if output is Format.JSON:
        row = {"xrays": len(held.items), "units": units, "unit": held.unit, "counts": counts}
        show([{**row, "set_aside": set_aside_rows(held)}], output)
    else:
        say(f"{len(held.items)} X-rays of {units} {held.unit}s can be released; {sum(counts.values())} are set aside")
        if counts:
            show([{"reason": reason, "files": count} for reason, count in counts.items()], output)
        show_set_aside(held)
    end_with_set_aside(held)


def _read(site: Site, campaign: str | None, unit: PrivacyUnit | None, labels: tuple[str, ...]) -> DataSet:
    if campaign is not None and unit is None and not labels:
        desk.read_mail(site)
        return data_set(site, choose(desk.asked(site), campaign))
    if campaign is not None or unit is None or not labels:
        raise ConfigurationError(
            "a data set is checked for a campaign or for a unit and labels; "
            "give --campaign NAME, or --unit and one --label for each label, and not both"
        )
    section = site.config.data_set
    return read_dataset(
        site.path(section.folder),
        site.path(section.labels),
        unit=_UNITS[unit],
        secret=site.secret,
        label_names=labels,
    )


def set_aside_rows(held: DataSet) -> list[dict[str, str]]:
    """The files that are set aside, each with its reason."""
    return [{"file": entry.file, "reason": entry.reason.value} for entry in held.quarantined]


def show_set_aside(held: DataSet) -> None:
    """List them on the screen, if there are any."""
    rows = [{**row, "file": printable(row["file"])} for row in set_aside_rows(held)]
    if rows:
        show(rows, Format.TABLE, title="set aside")


def end_with_set_aside(held: DataSet) -> None:
    """End the command with the code of inputs that were set aside, when there are any; everything is printed by now."""
    if held.quarantined:
        raise typer.Exit(QuarantinedError.exit_code)


def printable(name: str) -> str:
    """A file's name without what would move the cursor, change colours or be no text: such characters as escapes."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
    return escape(shown)
