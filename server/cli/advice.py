"""`ldp-server campaign advise`: which release to ask for, before there is a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.errors import ConfigurationError
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.planner import SCENARIOS, Advice, campaign_keys, prevalence
from ldp_client.privacy.planner import advise as advise_on
from ldp_client.privacy.prediction import Population
from server.learning.public_signal import PublicSignal, measure

USUAL_COORDINATES = 4


def usual_coordinates(given: int) -> int:
    """How many of an encoder's coordinates a record holds where nothing says otherwise: the first four, if it has them.

    Each further one costs signal in all others, and the first are those that are thought to tell most.
    """
    return min(USUAL_COORDINATES, given)


def advise(
    epsilon: Annotated[str, typer.Option(help="Of one record, X-ray and label together.")],
    records: Annotated[int, typer.Option(help="Records that all sites together are expected to give.")],
    auc: Annotated[
        list[float] | None,
        typer.Option(help="AUC that a classifier without noise would reach; repeat it. Default: 0.7, 0.8 and 0.9."),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option("--prevalence", help="Share of each label, such as 0.75,0.25; default: equally frequent."),
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of labels, 2 if nothing says otherwise.")] = None,
    dimension: Annotated[
        int | None,
        typer.Option(help="Coordinates that a record holds; with an encoder its first ones, up to 4 if not said."),
    ] = None,
    latents: Annotated[int | None, typer.Option(help="Latents of the flow, to compare dp_glow as well.")] = None,
    encoder: Annotated[str | None, typer.Option(help='A bundle, or "shipped:NAME".')] = None,
    public: Annotated[
        Path | None,
        typer.Option(
            help="Public X-rays for the encoder: an .npz of images, or a folder. With an array of labels the AUC "
            "without noise and the prevalence are measured on them."
        ),
    ] = None,
    public_split: Annotated[str, typer.Option(help="Only rows of that .npz whose field `split` says so.")] = "",
    shift: Annotated[float, typer.Option(help="Distance of the hospitals' mean from the public one, in sd.")] = 0.0,
    output: Output = Format.TABLE,
) -> None:
    """Compare the mechanisms before there is a campaign: expected AUC of each, and which one to ask for."""
    if dimension is None and encoder is None:
        raise ConfigurationError("say --dimension or --encoder: how many coordinates would be released")
    seen: PublicSignal | None = None
    if encoder is not None:
        bundle = open_bundle(encoder, Path())
        dimension = usual_coordinates(bundle.dimension) if dimension is None else dimension
        if dimension > bundle.dimension:
            raise ConfigurationError(f"--dimension: the encoder has {bundle.dimension} coordinates; found {dimension}")
        latents = latents or bundle.output_dimension("latents")
        seen = None if public is None else measure(bundle, public, dimension, split=public_split)
    elif public is not None:
        raise ConfigurationError("--public needs --encoder: which encoder is to look at these X-rays?")
    assumed = auc or _measured(seen) or [*SCENARIOS.values()]
    frequent = (seen.prevalence if seen is not None and shares is None else None) or prevalence(shares, classes)
    found = [
        advise_on(
            Population(one, frequent, shift),
            records,
            epsilon=epsilon,
            dimension=int(dimension or 0),
            latents=latents,
            outputs=None if seen is None else seen.outputs,
        )
        for one in assumed
    ]
    if output is Format.JSON:
        show([row for advice in found for row in _rows(advice)], output)
        return
    if seen is not None:
        say(seen.sentence())
    show([{name: value for name, value in row.items() if name != "keys"} for a in found for row in _rows(a)], output)
    for advice in found:
        say([f"AUC {advice.population.auc:.3g} without noise:", *(f"  {line}" for line in advice.sentences())])
        if not advice.at_chance:
            keys = campaign_keys(advice.recommended.candidate.release)
            say("  campaign.toml: " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in keys.items()))


def _measured(seen: PublicSignal | None) -> list[float]:
    if seen is None or seen.auc is None:
        return []
    if seen.auc <= 0.5:
        raise ConfigurationError(
            "what the encoder says of these public X-rays does not tell their labels apart "
            f"(AUC {seen.auc:.3f}): no release of it would teach anything; take another encoder, or say --auc if you "
            "know better"
        )
    return [min(seen.auc, 0.999)]


def _rows(advice: Advice) -> list[dict[str, object]]:
    return [
        {
            "auc_without_noise": round(advice.population.auc, 3),
            "release": row.candidate.name,
            "auc": round(row.prediction.auc, 3),
            "nine_in_ten_above": round(row.prediction.low, 3),
            "error_over_signal": float(f"{row.prediction.error:.3g}"),
            "recommended": row is advice.recommended,
            "keys": campaign_keys(row.candidate.release),
        }
        for row in advice.rows
    ]
