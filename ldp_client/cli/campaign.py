"""`ldp-client campaign`: what is asked of this site, what it would cost, and the officer's answer."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ldp_client import desk
from ldp_client.cli.console import HERE, Format, Output, State, choose, say, show
from ldp_client.cli.dataset import end_with_set_aside, set_aside_rows, show_set_aside
from ldp_client.errors import ConfigurationError, PolicyRefusedError, WaitingError
from ldp_client.imaging.png import png_bytes
from ldp_client.officer import approve as approve_campaign
from ldp_client.officer import policy_in_force
from ldp_client.plan import lines, make_plan
from ldp_client.privacy.forecast import outlook, outlook_lines
from ldp_client.privacy.image_spec import ImageSpec, kinds_needed, noised_release
from ldp_client.privacy.meaning import in_words, unit_in_words, what_leaves
from ldp_client.privacy.planner import prevalence as typed_prevalence
from ldp_client.site import Site, data_set, open_site
from ldp_client.wire.campaign import FLAG_ABOVE, WARN_ABOVE, Campaign
from ldp_client.wire.evaluation import Asked, Evaluation, asked_id, check_policy
from ldp_client.wire.exchange import CampaignCode
from ldp_client.wire.signing import SigningKey, read_secret

app = typer.Typer(no_args_is_help=True)
Which = Annotated[str, typer.Argument(help="A campaign's or an evaluation's name or the beginning of its id.")]


@contextmanager
def _site(state: Path) -> Iterator[tuple[Site, list[Asked]]]:
    site = open_site(state)
    try:
        desk.read_mail(site)
        yield site, desk.asked(site)
    finally:
        site.close()


def _unit_words(campaign: Campaign) -> list[str]:
    # With one record a unit's bound is the record's, which was said already.
    return [unit_in_words(campaign.loss_per_record, campaign.cap, campaign.unit)] if campaign.cap > 1 else []


@app.command("list")
def list_campaigns(state: State = HERE, output: Output = Format.TABLE) -> None:
    """Campaigns and evaluations offered to this site, and its answer to each."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    with _site(state) as (site, offered):
        show(
            [
                {
                    "campaign": campaign.name,
                    "id": asked_id(campaign)[:12],
                    "asks": "evaluation" if isinstance(campaign, Evaluation) else "records",
                    "epsilon_per_record": str(campaign.loss_per_record) if isinstance(campaign, Campaign) else "",
                    "epsilon_per_unit": str(campaign.bound_per_unit),
                    "unit": campaign.unit,
                    "ends": campaign.ends,
                    "answer": desk.answer_in_words(site, campaign, today),
                }
                for campaign in offered
            ],
            output,
        )


@app.command("show")
def show_campaign(which: Which, state: State = HERE) -> None:
    """What leaves, at what epsilon, for what; and what one record could reveal at best."""
    with _site(state) as (site, offered):
        campaign = choose(offered, which)
        if isinstance(campaign, Evaluation):
            _show_evaluation(site, campaign)
            return
        say(
            [
                f"campaign {campaign.name} ({asked_id(campaign)[:12]}), until {campaign.ends}",
                f"purpose: {campaign.purpose}",
                f"leaves the site: {what_leaves(campaign.release, campaign.label_names)}",
                f"encoder: {campaign.encoder}; mechanism: {', '.join(kinds_needed(campaign.release))}",
                f"cost: epsilon {campaign.loss_per_record} per record, at most {campaign.cap} per {campaign.unit}: "
                f"epsilon {campaign.bound_per_unit} per {campaign.unit}",
                in_words(campaign.loss_per_record, "record"),
                *_unit_words(campaign),
            ]
        )
        if campaign.unit == "image":
            say("the unit is one image: nothing is promised about a person of whom there are several images")
        if campaign.loss_per_record > WARN_ABOVE:
            say(f"warning: above epsilon {WARN_ABOVE} a record says a lot about its X-ray")
        if campaign.loss_per_record > FLAG_ABOVE:
            say(f"warning: above epsilon {FLAG_ABOVE} a record protects very little")
        _say_policy(site, campaign)


def _show_evaluation(site: Site, evaluation: Evaluation) -> None:
    unit, loss, rows = evaluation.unit, evaluation.bound_per_unit, evaluation.histogram.classes
    say(
        [
            f"evaluation {evaluation.name} ({asked_id(evaluation)[:12]}), until {evaluation.ends}",
            f"purpose: {evaluation.purpose}",
            f"leaves the site: one noised histogram of the classifier's scores on this site's held-out X-rays, "
            f"{rows} rows ({', '.join(evaluation.label_names)}, by pairs) of {evaluation.histogram.bins} bins; "
            "no X-ray, no score of one, and not how many there are",
            f"encoder: {evaluation.encoder}; classifier: {hashlib.sha256(evaluation.classifier).hexdigest()}",
            f"cost: epsilon {loss} of each held-out {unit}, once, all its X-rays (at most {evaluation.cap}) and labels "
            "together",
            f"the promise is one of this site's whole set, which the site noises, to each {unit} in it; it is not a "
            "local one about each X-ray",
            in_words(loss, unit),
        ]
    )
    if unit == "image":
        say("the unit is one image: nothing is promised about a person of whom there are several images")
    if loss > WARN_ABOVE:
        say(f"warning: above epsilon {WARN_ABOVE} the histogram says a lot about each {unit}")
    _say_policy(site, evaluation)


def _say_policy(site: Site, asked: Asked) -> None:
    try:
        check_policy(policy_in_force(site), asked)
        say("policy: allows it")
    except (PolicyRefusedError, WaitingError) as refusal:
        say(f"policy: {refusal}")


@app.command()
def plan(
    which: Which,
    records: Annotated[
        int | None, typer.Option(help="Records that all sites together are expected to give, for the forecast.", min=1)
    ] = None,
    auc: Annotated[
        float | None, typer.Option(help="AUC that a classifier without noise would reach, for the forecast.")
    ] = None,
    prevalence: Annotated[
        str | None, typer.Option(help="Share of each label, such as 0.75,0.25; default: equally frequent.")
    ] = None,
    state: State = HERE,
    output: Output = Format.TABLE,
) -> None:
    """What it would cost here, what it would be worth, and which files are set aside (then it ends with code 8).

    Free: nothing is drawn.
    """
    with _site(state) as (site, offered):
        campaign = choose(offered, which)
        policy = policy_in_force(site)
        check_policy(policy, campaign)
        held = data_set(site, campaign)
        made = make_plan(campaign, policy, held, site.ledger)
    if isinstance(campaign, Evaluation):
        if output is Format.JSON:
            show([{**made.model_dump(), "set_aside": set_aside_rows(held)}], output)
        else:
            say(lines(made, campaign))
            show_set_aside(held)
    else:
        count = records or made.records
        shares = None if prevalence is None else typed_prevalence(prevalence, campaign.release.classes)
        # A picture adds nothing to what the mechanism drew: what that is worth is the most that it can be worth.
        noised = noised_release(campaign.release)
        if output is Format.JSON:
            forecast = outlook(noised, count, shares, auc) if count else []
            show([{**made.model_dump(), "outlook": forecast, "set_aside": set_aside_rows(held)}], output)
        else:
            say([*lines(made, campaign), *_unit_words(campaign)])
            if count:
                say(outlook_lines(noised, count, total=records is not None, prevalence=shares, auc=auc))
            show_set_aside(held)
    end_with_set_aside(held)


@app.command()
def approve(
    which: Which,
    officer_key: Annotated[Path, typer.Option(help="The officer's private key.")],
    expires: Annotated[
        str | None, typer.Option(help="Last day, YYYY-MM-DD; the campaign's last day if not given.")
    ] = None,
    state: State = HERE,
) -> None:
    """Sign an approval of this campaign, under the policy in force and the plan as it stands now."""
    signer = SigningKey(read_secret(officer_key))
    with _site(state) as (site, offered):
        campaign = choose(offered, which)
        made = approve_campaign(site, campaign, signer, expires)
        does = "releases" if isinstance(campaign, Campaign) else "answers"
        say(
            [
                *lines(made, campaign),
                f"approved until {min(expires or campaign.ends, campaign.ends)}; the agent {does} when the centre has "
                "witnessed",
            ]
        )


@app.command()
def refuse(which: Which, state: State = HERE) -> None:
    """Say no. The centre hears one word and no reason."""
    with _site(state) as (site, offered):
        campaign = choose(offered, which)
        site.ledger.decide(asked_id(campaign), CampaignCode.REFUSED)
        say(f"refused {campaign.name}")


@app.command()
def preview(
    which: Which,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Where records are pictures: write a PNG of the phantoms and of what would leave for each."),
    ] = None,
    state: State = HERE,
) -> None:
    """The same pipeline on synthetic phantoms: what a record of this campaign looks like. Nothing private is drawn."""
    # Loaded here and not above: of all these commands only this one needs torch.
    from ldp_client.preview import preview as preview_of

    with _site(state) as (site, offered):
        campaign = choose(offered, which)
        if isinstance(campaign, Evaluation):
            raise ConfigurationError(
                f"{campaign.name} is an evaluation: it releases no record, so there is none to preview. "
                "`ldp-client campaign show` says what leaves"
            )
        if pictures is not None and not isinstance(campaign.release, ImageSpec):
            raise ConfigurationError(
                f"--pictures: the records of campaign {campaign.name} are numbers, no pictures; leave it out"
            )
        shown = preview_of(site, campaign)
    if pictures is not None and shown.sheet is not None:
        try:
            pictures.write_bytes(png_bytes(shown.sheet))
        except OSError as error:
            raise ConfigurationError(
                f"{pictures} cannot be written ({error.strerror}); name a file in a folder that exists"
            ) from error
    say(shown.lines)
