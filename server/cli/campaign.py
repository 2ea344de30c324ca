"""`ldp-server campaign`: what every site is asked."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.config import Section, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.codebook_design import DEFAULT_CODEWORDS
from ldp_client.privacy.labels import LabelCode
from ldp_client.privacy.meaning import in_words
from ldp_client.privacy.planner import SCENARIOS, campaign_keys
from ldp_client.privacy.planner import advise as advise_on
from ldp_client.privacy.prediction import Population
from ldp_client.privacy.release_spec import (
    MechanismKind,
    ReleaseSpec,
    dp_glow,
    joint_codebook,
    joint_laplace,
    latent,
)
from ldp_client.wire.campaign import WARN_ABOVE, Campaign, Unit, campaign_id
from server.centre import close_campaign
from server.centre import publish as publish_campaign
from server.cli.opened import HERE, State, opened
from server.store import campaigns

app = typer.Typer(no_args_is_help=True)


class CampaignSection(Section):
    """[campaign]. Numbers that privacy rests on are text, so that they are exact.

    `radius` and `bound` are in units of the encoder's output. A key that the mechanism has no use for is refused.
    """

    name: str
    purpose: str
    encoder: str
    labels: tuple[str, ...]
    unit: Unit = "patient"
    cap: int = 1
    epsilon: str = "2"
    mechanism: MechanismKind = "joint_discrete_laplace"
    label_code: LabelCode | None = None
    constant: str | None = None
    radius: str | None = None
    bound: str | None = None
    codewords: int | None = None
    label_epsilon: str | None = None
    ends: str


class CampaignFile(Section):
    """campaign.toml."""

    campaign: CampaignSection


def read_campaign(path: Path) -> Campaign:
    """The campaign that a campaign.toml describes.

    Raises:
        ConfigurationError: a key is unknown, missing or impossible; the text names it.
        EncoderError: the encoder is not a usable bundle.
    """
    wanted = read_toml(path, CampaignFile, {}).campaign
    encoder = open_bundle(wanted.encoder, path.parent)
    release = _release(path, wanted, encoder)
    try:
        return Campaign(
            name=wanted.name,
            purpose=wanted.purpose,
            encoder=encoder.digest,
            release=release,
            label_names=wanted.labels,
            unit=wanted.unit,
            cap=wanted.cap,
            micro_epsilon_per_record=release.loss.micro_epsilon,
            ends=wanted.ends,
        )
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError(f"{path}: [campaign] {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


# What each mechanism takes besides epsilon, and what is meant where a key is not given.
_KEYS: dict[MechanismKind, dict[str, object]] = {
    "joint_discrete_laplace": {"radius": "1", "label_code": "simplex", "constant": None},
    "joint_codebook": {"codewords": DEFAULT_CODEWORDS, "label_code": "simplex", "constant": None},
    "latent": {"radius": "1", "label_epsilon": None},
    "dp_glow": {"bound": "3", "label_epsilon": None},
}
_OPTIONAL = ("label_code", "constant", "radius", "bound", "codewords", "label_epsilon")


def _release(path: Path, wanted: CampaignSection, encoder: Encoder) -> ReleaseSpec:
    keys = _KEYS[wanted.mechanism]
    given = {key: getattr(wanted, key) for key in _OPTIONAL if getattr(wanted, key) is not None}
    foreign = sorted(given.keys() - keys.keys())
    if foreign:
        raise ConfigurationError(
            f"{path}: [campaign] {foreign[0]}: the mechanism {wanted.mechanism} takes {', '.join(keys)}; leave it out"
        )
    chosen: dict[str, Any] = {**keys, **given, "epsilon": wanted.epsilon, "classes": len(wanted.labels)}
    if "label_epsilon" in keys and wanted.label_epsilon is None:
        raise ConfigurationError(
            f"{path}: [campaign] label_epsilon: say how much of epsilon {wanted.epsilon} the label takes of its own"
        )
    if wanted.mechanism == "joint_discrete_laplace":
        return joint_laplace(bottleneck_dimension=encoder.dimension, **chosen)
    if wanted.mechanism == "joint_codebook":
        return joint_codebook(bottleneck_dimension=encoder.dimension, **chosen)
    if wanted.mechanism == "latent":
        return latent(bottleneck_dimension=encoder.dimension, **chosen)
    return dp_glow(latents=encoder.output_dimension("latents"), **chosen)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="campaign.toml.")],
    state: State = HERE,
) -> None:
    """Sign a campaign and offer it to every site."""
    campaign = read_campaign(file)
    if campaign.ended(datetime.datetime.now(datetime.UTC).date()):
        raise ConfigurationError(f"{file}: [campaign] ends: the campaign would have ended on {campaign.ends} already")
    with opened(state) as centre:
        name = publish_campaign(centre, campaign)
    say([f"published {campaign.name} ({name[:12]})", in_words(campaign.loss_per_record, "record")])
    if campaign.loss_per_record > WARN_ABOVE:
        say(f"warning: above epsilon {WARN_ABOVE} a record says a lot about its X-ray; sites allow 2 by default")


@app.command()
def advise(
    epsilon: Annotated[str, typer.Option(help="Of one record, X-ray and label together.")],
    records: Annotated[int, typer.Option(help="Records that all sites together are expected to give.")],
    auc: Annotated[
        list[float] | None,
        typer.Option(help="AUC that a classifier without noise would reach; repeat it. Default: 0.7, 0.8 and 0.9."),
    ] = None,
    prevalence: Annotated[
        str | None, typer.Option(help="Share of each label, such as 0.75,0.25; default: equally frequent.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of labels, 2 if nothing says otherwise.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Coordinates of the bottleneck, where no encoder is.")] = None,
    latents: Annotated[int | None, typer.Option(help="Latents of the flow, to compare dp_glow as well.")] = None,
    encoder: Annotated[str | None, typer.Option(help='A bundle, or "shipped:NAME".')] = None,
    shift: Annotated[float, typer.Option(help="Distance of the hospitals' mean from the public one, in sd.")] = 0.0,
    output: Output = Format.TABLE,
) -> None:
    """Compare the mechanisms before there is a campaign: expected AUC of each, and which one to ask for."""
    if (dimension is None) == (encoder is None):
        raise ConfigurationError("say either --dimension or --encoder: how many coordinates would be released")
    if encoder is not None:
        bundle = open_bundle(encoder, Path())
        dimension, latents = bundle.dimension, latents or bundle.output_dimension("latents")
    shares = _shares(prevalence, classes)
    found = [
        advise_on(
            Population(one, shares, shift), records, epsilon=epsilon, dimension=int(dimension or 0), latents=latents
        )
        for one in auc or SCENARIOS.values()
    ]
    rows: list[dict[str, object]] = []
    for advice in found:
        for row in advice.rows:
            rows.append(
                {
                    "auc_without_noise": advice.population.auc,
                    "release": row.candidate.name,
                    "auc": round(row.prediction.auc, 3),
                    "nine_in_ten_above": round(row.prediction.low, 3),
                    "error_over_signal": float(f"{row.prediction.error:.3g}"),
                    "recommended": row is advice.recommended,
                    "keys": campaign_keys(row.candidate.release),
                }
            )
    if output is Format.JSON:
        show(rows, output)
        return
    show([{name: value for name, value in row.items() if name != "keys"} for row in rows], output)
    for advice in found:
        say([f"AUC {advice.population.auc:g} without noise:", *(f"  {line}" for line in advice.sentences())])
        if not advice.at_chance:
            keys = campaign_keys(advice.recommended.candidate.release)
            say("  campaign.toml: " + ", ".join(f'{key} = "{value}"' for key, value in keys.items()))


def _shares(prevalence: str | None, classes: int | None) -> tuple[float, ...]:
    if prevalence is None:
        count = 2 if classes is None else classes
        if count < 2:
            raise ConfigurationError(f"--classes: a campaign has at least 2 labels; found {count}")
        return (1 / count,) * count
    try:
        shares = tuple(float(part) for part in prevalence.split(","))
    except ValueError as error:
        raise ConfigurationError(f"--prevalence: shares such as 0.75,0.25; found {prevalence!r}") from error
    if classes not in (None, len(shares)):
        raise ConfigurationError(f"--prevalence: {classes} labels need as many shares; found {len(shares)}")
    return shares


@app.command("list")
def list_campaigns(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Campaigns that are offered now."""
    with opened(state) as centre, centre.database.snapshot() as connection:
        names = set(campaigns.open_ones(connection))
        published = campaigns.published(connection, names, centre.signer)
    show(
        [
            {
                "campaign": campaign.name,
                "id": name[:12],
                "epsilon_per_record": str(campaign.loss_per_record),
                "unit": campaign.unit,
                "cap": campaign.cap,
                "ends": campaign.ends,
            }
            for name, campaign in sorted(published.items())
            if isinstance(campaign, Campaign)
        ],
        output,
    )


@app.command()
def close(which: Annotated[str, typer.Argument(help="The campaign's name or id.")], state: State = HERE) -> None:
    """Offer a campaign no longer. Records drawn for it are still taken."""
    with opened(state) as centre:
        campaign = centre.find_campaign(which)
        close_campaign(centre, campaign_id(campaign))
        say(f"closed {campaign.name}")
