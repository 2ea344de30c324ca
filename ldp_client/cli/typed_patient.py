"""A patient, named by the officer on this machine and hashed at once: the id stands in no argument and no history."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from ldp_client.errors import ConfigurationError
from ldp_client.imaging.xray import normal_id, patient_key
from ldp_client.privacy.loss import NOTHING
from ldp_client.site import Site

Patient = Annotated[
    bool, typer.Option("--patient", help="Only one patient's: the id is asked for, or read from standard input.")
]
Issuer = Annotated[str, typer.Option(help="Who gave the patient id, where the DICOM files name an issuer.")]


def typed_patient(site: Site, issuer: str, asked: str = "patient id (not shown): ") -> bytes:
    """The key of the patient whose id is typed at a terminal, or is the next line of standard input.

    Raises:
        ConfigurationError: no id was given. The text does not repeat it.
    """
    typed = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not normal_id(typed):
        raise ConfigurationError("no patient id was given; type it, or give it as a line of standard input")
    return patient_key(site.secret, issuer, typed)


def asked_for(site: Site, issuer: str) -> bytes:
    """As `typed_patient`, for a question: an id that was never charged may be written otherwise in the X-rays' files.

    Raises:
        ConfigurationError: as `typed_patient`.
    """
    unit = typed_patient(site, issuer)
    if site.ledger.spent(unit) == NOTHING:
        typer.echo(
            "nothing was ever charged for this id: is it as in the X-rays' files, with --issuer where they name one?",
            err=True,
        )
    return unit
