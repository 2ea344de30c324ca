"""`ldp-server campaign`: what every site is asked."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from pydantic import BeforeValidator, ValidationError

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.config import Section, read_toml
from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.fault import first_fault, shown
from ldp_client.privacy.image_spec import DEFAULT_CANDIDATES, CampaignRelease, image
from ldp_client.privacy.labels import LabelCode
from ldp_client.privacy.meaning import in_words
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import MechanismKind, ReleaseSpec
from ldp_client.wire.campaign import WARN_ABOVE, Campaign, Unit, campaign_id
from server.centre import close_campaign
from server.centre import publish as publish_campaign
from server.cli.advice import advise, usual_coordinates
from server.cli.opened import HERE, State, opened
from server.store import campaigns

app = typer.Typer(no_args_is_help=True)
app.command()(advise)


def _quoted(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f'write it in quotes, as text, so that it is exact, such as "0.5"; found {shown(value)}')
    return value


def _whole(value: object) -> object:
    if type(value) is not int:
        raise ValueError(f"write a whole number without quotes; found {shown(value)}")
    return value


def _whole_or_auto(value: object) -> object:
    if value != "auto" and type(value) is not int:
        raise ValueError(f'write a whole number without quotes, such as 1024, or "auto"; found {shown(value)}')
    return value


def _mechanism(value: object) -> object:
    known = get_args(MechanismKind)
    if value not in known:
        raise ValueError(f"write one of {', '.join(known)}; found {shown(value)}")
    return value


Number = Annotated[str, BeforeValidator(_quoted)]


class CampaignSection(Section):
    """[campaign]. Numbers that privacy rests on are text, so that they are exact.

    `radius` and `bound` are in units of the encoder's output. `codewords = "auto"` takes as many as bring the error
    within 1 % of the least. `coordinates` is how many of the encoder's a record holds, the first ones; up to four if
    nothing says otherwise. A key that the mechanism has no use for is refused.
    With `record = "image"` a picture leaves that is made of what the mechanism drew (`image_spec.ImageSpec`).
    """

    name: str
    purpose: str
    encoder: str
    labels: tuple[str, ...]
    unit: Unit = "patient"
    cap: Annotated[int, BeforeValidator(_whole)] = 1
    epsilon: Number = "2"
    mechanism: Annotated[MechanismKind, BeforeValidator(_mechanism)] = "joint_discrete_laplace"
    label_code: LabelCode | None = None
    constant: Number | None = None
    radius: Number | None = None
    bound: Number | None = None
    coordinates: Annotated[int | None, BeforeValidator(_whole)] = None
    codewords: Annotated[int | Literal["auto"] | None, BeforeValidator(_whole_or_auto)] = None
    label_epsilon: Number | None = None
    record: Literal["numbers", "image"] = "numbers"
    candidates: Annotated[int | None, BeforeValidator(_whole)] = None
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
    try:
        release = _pictured(path, wanted, encoder, _release(path, wanted, encoder))
    except ParameterError as error:
        raise ConfigurationError(f"{path}: [campaign] {error}") from None
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
        raise ConfigurationError(f"{path}: [campaign] {first_fault(error)}") from None


# What each mechanism takes besides epsilon, and what is meant where a key is not given.
_KEYS: dict[MechanismKind, dict[str, object]] = {
    "joint_discrete_laplace": {"coordinates": None, "radius": "1", "label_code": "simplex", "constant": None},
    "joint_codebook": {"coordinates": None, "codewords": "auto", "label_code": "simplex", "constant": None},
    "latent": {"coordinates": None, "radius": "1", "label_epsilon": None},
    "dp_glow": {"bound": "3", "label_epsilon": None},
}
_OPTIONAL = ("coordinates", "label_code", "constant", "radius", "bound", "codewords", "label_epsilon")


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
    if wanted.mechanism == "dp_glow":
        return dp_glow(latents=encoder.output_dimension("latents"), **chosen)
    dimension = _coordinates(path, chosen.pop("coordinates"), encoder)
    if wanted.mechanism == "joint_discrete_laplace":
        return joint_laplace(bottleneck_dimension=dimension, **chosen)
    if wanted.mechanism == "joint_codebook":
        return joint_codebook(bottleneck_dimension=dimension, **chosen)
    return latent(bottleneck_dimension=dimension, **chosen)


def _coordinates(path: Path, wanted: int | None, encoder: Encoder) -> int:
    if wanted is None:
        return usual_coordinates(encoder.dimension)
    if not 1 <= wanted <= encoder.dimension:
        raise ConfigurationError(
            f"{path}: [campaign] coordinates: the encoder has {encoder.dimension}, of which a record holds the first "
            f"ones; found {shown(wanted)}; ask for 1 to {encoder.dimension}"
        )
    return wanted


def _pictured(path: Path, wanted: CampaignSection, encoder: Encoder, noised: ReleaseSpec) -> CampaignRelease:
    """The release itself, or pictures made of it, as the key `record` says."""
    sampled = wanted.record == "image" and wanted.mechanism != "dp_glow"
    if wanted.candidates is not None and not sampled:
        raise ConfigurationError(
            f'{path}: [campaign] candidates: they are for pictures of the bottleneck, record = "image" and another '
            "mechanism than dp_glow; leave it out"
        )
    if wanted.record == "numbers":
        return noised
    candidates = DEFAULT_CANDIDATES if wanted.candidates is None else wanted.candidates
    return image(noised, side=encoder.content, candidates=candidates)


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
