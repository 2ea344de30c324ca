"""`ldp-server model`: the classifier as a bundle that hospitals run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.diagnosis.bundle import load
from ldp_client.wire.campaign import campaign_id
from ldp_client.wire.signing import fingerprint
from server.cli.opened import HERE, State, opened
from server.cli.pupils import EncoderOption, KeyOption, PublicOption, SplitOption, StudentOption, public_coordinates
from server.learning.classifier_bundle import linear_card, write_classifier
from server.learning.student import teach
from server.learning.train import TrainingSet, train
from server.store.queries import records_of

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Learning is post-processing of records, which costs no epsilon."""


@app.command()
def export(
    which: Annotated[str, typer.Argument(help="The campaign's name or id.")],
    out: Annotated[Path, typer.Option(help="A new folder for the bundle.")],
    name: Annotated[str | None, typer.Option(help="The classifier's name; the campaign's if not given.")] = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    state: State = HERE,
) -> None:
    """Learn a classifier from a campaign's records and write it as a signed bundle for `ldp-client diagnose`.

    With --student, public X-rays without labels teach it further.
    """
    with opened(state) as centre:
        campaign = centre.find_campaign(which)
        with centre.database.snapshot() as connection:
            payloads = [record.payload for record in records_of(connection, campaign_id(campaign))]
        trained = train(TrainingSet.from_payloads(campaign, payloads))
        if student is not None:
            trained = teach(trained, public_coordinates(campaign, student, encoder, key=key, split=split, count=public))
        command = shlex.join(["ldp-server", *sys.argv[1:]])
        card = linear_card(name or campaign.name, campaign, trained, command)
        bundle = write_classifier(card, out, centre.keys.signing)
        key = fingerprint(centre.keys.signing.public_key)
    say([*bundle.card.lines(), f"wrote {out}, digest {bundle.digest[:16]}, signed by the centre's key {key}"])


@app.command()
def card(folder: Annotated[Path, typer.Argument(help="A classifier's bundle.")], state: State = HERE) -> None:
    """Check a bundle and that this centre has signed it, and print its model card. Exit 6 where it does not hold."""
    bundle = load(folder)
    with opened(state) as centre:
        bundle.check_signature(centre.signer)
    say([*bundle.card.lines(), f"digest {bundle.digest}, signed by this centre"])
