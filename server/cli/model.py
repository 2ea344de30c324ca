"""`ldp-server model`: the classifier as a bundle that hospitals run."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ldp_client.cli.console import say
from ldp_client.diagnosis.bundle import load
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.wire.signing import fingerprint
from server.cli.opened import HERE, State, answers_to, opened, stored
from server.cli.published import published_command
from server.cli.pupils import (
    ESTIMATED,
    CapOption,
    EncoderOption,
    HeadOption,
    KeyOption,
    PublicOption,
    Pupil,
    SharesOption,
    SplitOption,
    StudentOption,
)
from server.learning.calibrate import calibrated, judged_bundle
from server.learning.classifier_bundle import A_CLASSIFIER, linear_card, require_words, write_classifier
from server.learning.image_bundle import image_card
from server.learning.image_training import ImageRecipe, PictureSet, TrainedOnPictures, train_on_pictures
from server.learning.new_folder import require_new

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Learning is post-processing of records, which costs no epsilon."""


@app.command()
def export(
    which: Annotated[str, typer.Argument(help="The campaign's name or id.")],
    out: Annotated[Path, typer.Option(help="A new folder for the bundle.")],
    name: Annotated[str | None, typer.Option(help="The classifier's name; the campaign's if not given.")] = None,
    head: HeadOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    public_shares: SharesOption = ESTIMATED,
    cap_sites: CapOption = False,
    calibration: Annotated[
        str | None,
        typer.Option(help="An evaluation of this same classifier, whose answers make its scores probabilities."),
    ] = None,
    state: State = HERE,
) -> None:
    """Learn a classifier from a campaign's records and write it as a signed bundle for `ldp-client diagnose`.

    With --head and --student, public X-rays without labels weigh it and teach it further. From pictures, small networks
    learn.
    """
    pupil = Pupil(head, student, encoder, key, split, public, cap_sites, public_shares)
    with opened(state) as centre:
        campaign = centre.find_campaign(which)
        payloads, sites = stored(centre, campaign)
        command, weights, words = published_command(sys.argv[1:]), b"", list[str]()
        require_words(name or campaign.name, command)
        require_new(out, A_CLASSIFIER)
        evaluation = None if calibration is None else centre.find_evaluation(calibration)
        if isinstance(campaign.release, ImageSpec):
            if head is not None or student is not None or cap_sites:
                raise ConfigurationError(
                    f"the records of campaign {campaign.name} are pictures, and what networks learn from takes no "
                    "public X-rays beside them, nor is there a cap on sites; leave out --head, --student and "
                    "--cap-sites"
                )
            learnt = _learn_from_pictures(PictureSet.from_payloads(campaign, payloads))
            card, weights = image_card(name or campaign.name, campaign, learnt, command)
        else:
            found = pupil.learn(campaign, payloads, sites)
            words = found.words
            card = linear_card(name or campaign.name, campaign, found.trained, command, found.head, found.student)
        if evaluation is not None:
            card = calibrated(card, weights, evaluation, answers_to(centre, evaluation))
        bundle = write_classifier(card, out, centre.keys.signing, weights)
        signer = fingerprint(centre.keys.signing.public_key)
    say(
        [*words, *bundle.card.lines(), f"wrote {out}, digest {bundle.digest[:16]}, signed by the centre's key {signer}"]
    )


@app.command()
def calibrate(
    evaluation: Annotated[str, typer.Argument(help="The evaluation's name or the beginning of its id.")],
    out: Annotated[Path, typer.Option(help="A new folder for the bundle.")],
    state: State = HERE,
) -> None:
    """Write the classifier that an evaluation has judged, with the probabilities that its answers give.

    Nothing is learnt anew, so records that came since do not matter.
    """
    with opened(state) as centre:
        asked = centre.find_evaluation(evaluation)
        judged = judged_bundle(asked)
        card = calibrated(judged.card, judged.weights, asked, answers_to(centre, asked))
        bundle = write_classifier(card, out, centre.keys.signing, judged.weights)
        signer = fingerprint(centre.keys.signing.public_key)
    say([*bundle.card.lines(), f"wrote {out}, digest {bundle.digest[:16]}, signed by the centre's key {signer}"])


def _learn_from_pictures(pictures: PictureSet) -> TrainedOnPictures:
    recipe = ImageRecipe()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("training", total=recipe.networks * recipe.epochs)
        trained = train_on_pictures(pictures, recipe, lambda network, epoch: bar.advance(task))
    chance = math.log(len(pictures.campaign.label_names))
    shown = ", ".join(f"{value:.3f}" for value in trained.cross_entropy)
    say(f"learnt from {trained.records} pictures; cross-entropy of those held out {shown} nats, {chance:.3f} is chance")
    return trained


@app.command()
def card(folder: Annotated[Path, typer.Argument(help="A classifier's bundle.")], state: State = HERE) -> None:
    """Check a bundle and that this centre has signed it, and print its model card. Exit 6 where it does not hold."""
    bundle = load(folder)
    with opened(state) as centre:
        bundle.check_signature(centre.signer)
    say([*bundle.card.lines(), f"digest {bundle.digest}, signed by this centre"])
