"""`ldp-server evaluate`: how well a classifier does on the held-out X-rays of the sites."""

from __future__ import annotations

import dataclasses
import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.diagnosis.bundle import ClassifierBundle, load
from ldp_client.diagnosis.calibration import MILLION, PairCurve
from ldp_client.diagnosis.scoring import DEFAULT_BINS, default_edges
from ldp_client.errors import ConfigurationError
from ldp_client.privacy.histogram import histogram, noise_variance
from ldp_client.privacy.loss import exact_fraction
from ldp_client.privacy.meaning import in_words
from ldp_client.privacy.spec import MAX_BINS
from ldp_client.wire.campaign import WARN_ABOVE, Unit
from ldp_client.wire.evaluation import MAX_CLASSIFIER_BYTES, Evaluation, asked_id
from server.centre import close_campaign
from server.centre import publish as publish_asked
from server.cli.opened import HERE, State, answers_to, opened
from server.learning.calibrate import CHANCE, calibrate, stated_errors
from server.learning.evaluate import PairReport
from server.learning.evaluate import report as make_report
from server.store import campaigns
from server.store.queries import records_of

app = typer.Typer(no_args_is_help=True)
Which = Annotated[str, typer.Argument(help="The evaluation's name or the beginning of its id.")]


@app.callback()
def _describe() -> None:
    """Sites score their own held-out X-rays and each returns one noised histogram, at a charge of its own."""


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="The evaluation's name, as officers see it.")],
    classifier: Annotated[Path, typer.Option(help="The classifier's bundle, as `ldp-server model export` wrote it.")],
    epsilon: Annotated[str, typer.Option(help="Of each unit of a site's evaluation set, once, such as 1.")],
    ends: Annotated[str, typer.Option(help="Last day, YYYY-MM-DD.")],
    purpose: Annotated[str | None, typer.Option(help="What it is for; the classifier's purpose if not given.")] = None,
    unit: Annotated[str, typer.Option(help="patient or image.")] = "patient",
    cap: Annotated[int, typer.Option(help="X-rays of one unit that count, at most.", min=1)] = 1,
    bins: Annotated[int, typer.Option(help="Bins of the score.", min=2, max=MAX_BINS)] = DEFAULT_BINS,
    edges: Annotated[
        str | None, typer.Option(help="Borders between bins, such as -1,0,1; if not given, from the classifier's card.")
    ] = None,
    state: State = HERE,
) -> None:
    """Sign an evaluation, which carries the classifier, and offer it to every site whose policy allows evaluations."""
    bundle = load(classifier)
    with opened(state) as centre:
        # What this centre did not sign, it does not ask its sites to run.
        bundle.check_signature(centre.signer)
        evaluation = build(name, bundle, epsilon, ends, purpose or bundle.card.purpose, unit, cap, bins, edges)
        if evaluation.ended(datetime.datetime.now(datetime.UTC).date()):
            raise ConfigurationError(f"--ends: the evaluation would have ended on {evaluation.ends} already")
        published = publish_asked(centre, evaluation)
    say(
        [
            f"published {evaluation.name} ({published[:12]}): classifier {bundle.card.name} ({bundle.digest[:12]}), "
            f"{evaluation.histogram.bins} bins",
            in_words(evaluation.bound_per_unit, evaluation.unit),
            f"each count is moved by noise of {noise_variance(evaluation.histogram) ** 0.5:.1f} "
            "(one standard deviation) at each site",
        ]
    )
    if evaluation.bound_per_unit > WARN_ABOVE:
        say(f"warning: above epsilon {WARN_ABOVE} a histogram says a lot about each {evaluation.unit}")


def build(
    name: str,
    bundle: ClassifierBundle,
    epsilon: str,
    ends: str,
    purpose: str,
    unit: str,
    cap: int,
    bins: int,
    edges: str | None,
) -> Evaluation:
    """The evaluation that these options describe.

    Raises:
        ConfigurationError: they describe none; the text names the option.
        ParameterError: epsilon or the histogram is impossible.
    """
    if len(bundle.card_bytes) + len(bundle.weights) > MAX_CLASSIFIER_BYTES:
        raise ConfigurationError(
            f"--classifier: an evaluation carries at most {MAX_CLASSIFIER_BYTES} bytes of classifier; this one has "
            f"{len(bundle.card_bytes) + len(bundle.weights)}. Export a smaller one"
        )
    borders = default_edges(_spread(bundle), bins) if edges is None else tuple(edges.replace(" ", "").split(","))
    classes = len(bundle.card.label_names)
    spec = histogram(
        epsilon=_epsilon(epsilon), classes=classes * (classes - 1), bins=len(borders) + 1, cap=cap * (classes - 1)
    )
    try:
        return Evaluation(
            name=name,
            purpose=purpose,
            encoder=bundle.card.encoder,
            classifier=bundle.card_bytes,
            weights=bundle.weights,
            label_names=bundle.card.label_names,
            histogram=spec,
            edges=borders,
            unit=_unit(unit),
            cap=cap,
            micro_epsilon_per_unit=spec.loss.micro_epsilon,
            ends=ends,
        )
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = "".join(f"--{part}: " for part in fault["loc"][:1])
        raise ConfigurationError(f"{where}{fault['msg'].removeprefix('Value error, ')}") from None


def _spread(bundle: ClassifierBundle) -> float:
    spread = float(bundle.card.spread)
    if spread == 0:
        raise ConfigurationError("--edges: the classifier's card states no spread of its scores; give the borders")
    return spread


def _epsilon(text: str) -> Fraction:
    try:
        return exact_fraction(text)
    except ValueError as error:
        raise ConfigurationError(f"--epsilon: {error}; found {text!r}") from None


def _unit(text: str) -> Unit:
    if text == "patient":
        return "patient"
    if text == "image":
        return "image"
    raise ConfigurationError(f"--unit: patient or image; found {text!r}")


@app.command("list")
def list_evaluations(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Evaluations ever published, and how many sites have answered each."""
    rows = []
    with opened(state) as centre, centre.database.snapshot() as connection:
        offered = campaigns.open_ones(connection)
        for name, one in sorted(campaigns.every(connection, centre.signer).items(), key=lambda pair: pair[1].name):
            if isinstance(one, Evaluation):
                rows.append(
                    {
                        "evaluation": one.name,
                        "id": name[:12],
                        "epsilon_per_unit": str(one.bound_per_unit),
                        "unit": one.unit,
                        "ends": one.ends,
                        "open": "yes" if name in offered else "no",
                        "answers": len(list(records_of(connection, name))),
                    }
                )
    show(rows, output)


@app.command()
def close(which: Which, state: State = HERE) -> None:
    """Offer an evaluation no longer. Answers drawn for it are still taken."""
    with opened(state) as centre:
        evaluation = centre.find_evaluation(which)
        close_campaign(centre, asked_id(evaluation))
        say(f"closed {evaluation.name}")


@app.command()
def report(which: Which, state: State = HERE, output: Output = Format.TABLE) -> None:
    """AUC of each pair of labels, per site and over all, with a 95 % interval that includes the privacy noise."""
    with opened(state) as centre:
        evaluation = centre.find_evaluation(which)
        answers = answers_to(centre, evaluation)
    rows = make_report(evaluation, answers)
    found = calibrate(evaluation, answers)
    curves = {} if found is None else {(one.negative, one.positive): one for one in found.curves}
    stated = {(one.negative, one.positive): one for one in stated_errors(evaluation, answers)}
    shown = [_row(one, output) for one in rows]
    if output is Format.JSON:
        for one, row in zip(rows, shown, strict=True):
            pair = (one.negative, one.positive)
            if one.site is None:
                row["calibration"] = _ranges(curves[pair]) if pair in curves else None
                row["stated"] = dataclasses.asdict(stated[pair]) if pair in stated else None
    show(shown, output)
    if output is Format.TABLE:
        say(
            [
                f"epsilon {evaluation.bound_per_unit} of each held-out {evaluation.unit} at each site, all its X-rays "
                "and labels together; a promise of each site's set, not a local one per X-ray",
                "xrays: noised totals, so they may be negative. error: one standard deviation, sampling and privacy "
                "noise together; noise: the privacy noise alone",
            ]
        )
        if any(one.auc is None for one in rows):
            say(
                "no AUC is stated where the noise hides how many X-rays there are: "
                "more sites or more epsilon would tell"
            )
        for one in rows:
            if one.site is None and one.high is not None and (one.negative, one.positive) not in curves:
                say(f"no probability of {one.positive}, not {one.negative}: {_why_none(one.high)}")
        for curve in curves.values():
            show(
                [_for_people(one) for one in _ranges(curve)],
                output,
                title=f"probability of {curve.positive}, not {curve.negative}, all sites",
            )
        if found is not None:
            say([*found.lines(), "`ldp-server model calibrate` writes the classifier with these probabilities"])
        for error in stated.values():
            say(
                f"the probabilities of {error.positive}, not {error.negative}, that the classifier came with miss what "
                f"was found by {error.found:.3f} on average (expected calibration error); were all of them right, "
                f"sampling and privacy noise would make it {error.by_chance:.3f}"
            )


def _why_none(high: float) -> str:
    if high < CHANCE:
        return "the scores rank these labels the wrong way round"
    return "the AUC may be one half, and a curve would climb with the noise"


def _ranges(curve: PairCurve) -> list[dict[str, object]]:
    """Each range of the score difference, open at both ends, with its probability and the interval of that."""
    borders: list[str | None] = [None, *curve.edges, None]
    parts = zip(curve.probability, curve.low, curve.high, strict=True)
    return [
        {"from": low, "to": high, **dict(zip(("probability", "low", "high"), (x / MILLION for x in one), strict=True))}
        for low, high, one in zip(borders, borders[1:], parts, strict=False)
    ]


def _for_people(one: dict[str, object]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in one.items()}


def _row(one: PairReport, output: Format) -> dict[str, object]:
    numbers = {"auc": one.auc, "low": one.low, "high": one.high, "error": one.error, "noise": one.noise_error}
    shown: dict[str, object] = dict(numbers)
    if output is Format.TABLE:
        shown = {name: "" if value is None else f"{value:.3f}" for name, value in numbers.items()}
    return {
        "site": one.site or "all",
        "pair": f"{one.negative} / {one.positive}",
        "xrays": f"{one.xrays[0]} / {one.xrays[1]}" if output is Format.TABLE else list(one.xrays),
        **shown,
    }
