"""`ldp-server campaign`: what every site is asked."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ldp_client.cli.console import Format, Output, say, show
from ldp_client.config import Section, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.meaning import in_words
from ldp_client.privacy.spec import joint_laplace
from ldp_client.wire.campaign import WARN_ABOVE, Campaign, Unit, campaign_id
from server.centre import close_campaign
from server.centre import publish as publish_campaign
from server.cli.opened import HERE, State, opened
from server.store import campaigns

app = typer.Typer(no_args_is_help=True)


class CampaignSection(Section):
    """[campaign]. Epsilon and radius are text, so that they are exact; radius is in units of the bottleneck."""

    name: str
    purpose: str
    encoder: str
    labels: tuple[str, ...]
    unit: Unit = "patient"
    cap: int = 1
    epsilon: str = "2"
    radius: str = "1"
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
    release = joint_laplace(
        epsilon=wanted.epsilon,
        classes=len(wanted.labels),
        bottleneck_dimension=encoder.dimension,
        radius=wanted.radius,
    )
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
