"""`ldp-server records`: what the hospitals released, as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import say
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.meaning import shown_by_pictures
from ldp_client.privacy.release_spec import JointCodebookSpec, JointLaplaceSpec
from server.cli.opened import HERE, State, opened, payloads_of
from server.learning.image_training import PictureSet
from server.learning.picture_files import write_pictures

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Writing records elsewhere is post-processing, which costs no epsilon."""


@app.command()
def export(
    which: Annotated[str, typer.Argument(help="The campaign's name or id.")],
    out: Annotated[Path, typer.Option(help="A new folder for the files.")],
    images: Annotated[bool, typer.Option("--images", help="Pictures as PNG, with labels.csv beside them.")] = False,
    state: State = HERE,
) -> None:
    """Write the pictures of a campaign as PNG files with their labels in labels.csv.

    What they show is said at the end: pictures of the bottleneck show no patient, the public encoder made them up. So
    is what their labels are: those of joint mechanisms were drawn by lot.
    """
    if not images:
        raise ConfigurationError("say --images: pictures are what this version exports")
    with opened(state) as centre:
        campaign = centre.find_campaign(which)
        pictures = PictureSet.from_payloads(campaign, payloads_of(centre, campaign))
    write_pictures(pictures, out)
    say(
        f"wrote {len(pictures.labels)} pictures and labels.csv to {out}; each was released at epsilon "
        f"{campaign.loss_per_record}, picture and label together; {shown_by_pictures(pictures.spec)}"
    )
    if labels_by_lot(pictures.spec):
        say(
            "each label was drawn by lot, whatever the X-ray's own is, and the picture is for it or against it: "
            "labels.csv holds no diagnosis"
        )


def labels_by_lot(release: ImageSpec) -> bool:
    """Whether the labels of these pictures are fair draws, as where X-ray and label were noised together."""
    return isinstance(release.noised, JointLaplaceSpec | JointCodebookSpec)
