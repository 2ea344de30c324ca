"""`ldp-client policy`: the site's upper bounds, signed by the officer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field, ValidationError

from ldp_client.cli.console import HERE, Format, Output, State, say, show
from ldp_client.config import Section, read_toml
from ldp_client.errors import ConfigurationError
from ldp_client.officer import policy_in_force, put_into_force
from ldp_client.privacy.image_spec import ReleaseKind
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.site import open_site
from ldp_client.wire.campaign import USUAL_MECHANISMS, WARN_ABOVE, EvaluationRule, Policy
from ldp_client.wire.signing import SigningKey, read_secret

app = typer.Typer(no_args_is_help=True)


class EvaluationsSection(Section):
    """[policy.evaluations]: without it, no evaluation is allowed. What the hash holds out is never released."""

    share_percent: int
    max_epsilon: str = "1"


class PolicySection(Section):
    """[policy]: what the officer allows. Epsilons are text, so that they are exact."""

    serial: int
    encoders: tuple[str, ...]
    mechanisms: tuple[ReleaseKind, ...] = USUAL_MECHANISMS
    units: tuple[Literal["patient", "image"], ...] = ("patient",)
    max_epsilon_per_record: str = "2"
    lifetime_epsilon: str
    accept_epsilon_above_8: bool = False
    evaluations: EvaluationsSection | None = None


class PolicyFile(Section):
    """policy.toml."""

    policy: PolicySection = Field()


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="policy.toml, written by the officer.")],
    officer_key: Annotated[Path, typer.Option(help="The officer's private key.")],
    state: State = HERE,
) -> None:
    """Check a policy, sign it and put it into force."""
    wanted = read_toml(file, PolicyFile, {}).policy
    site = open_site(state)
    try:
        policy = Policy(
            site=site.config.site.id,
            serial=wanted.serial,
            encoders=wanted.encoders,
            mechanisms=wanted.mechanisms,
            units=wanted.units,
            max_micro_epsilon_per_record=PrivacyLoss.of(wanted.max_epsilon_per_record).micro_epsilon,
            lifetime_micro_epsilon=PrivacyLoss.of(wanted.lifetime_epsilon).micro_epsilon,
            accept_epsilon_above_8=wanted.accept_epsilon_above_8,
            evaluations=_evaluations(wanted.evaluations),
        )
        put_into_force(site, policy, SigningKey(read_secret(officer_key)))
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in fault["loc"]) or "policy"
        raise ConfigurationError(
            f"{file}: the key [policy] {key} is wrong: {fault['msg'].removeprefix('Value error, ')}"
        ) from None
    finally:
        site.close()
    most = PrivacyLoss(policy.max_micro_epsilon_per_record)
    say(
        [
            f"policy {policy.serial} is in force: at most epsilon {most} per record "
            f"and {policy.lifetime_budget} per unit ever; units: {', '.join(policy.units)}; "
            f"{len(policy.encoders)} encoders",
            f"mechanisms: {', '.join(policy.mechanisms) or 'none'}",
            _evaluations_in_words(policy),
            "approvals given under an earlier policy no longer hold: approve their campaigns again",
        ]
    )
    if most > WARN_ABOVE:
        say(f"warning: more than epsilon {WARN_ABOVE} per record says a lot about one X-ray; read docs/privacy.md, 5")


@app.command("show")
def show_policy(state: State = HERE, output: Output = Format.TABLE) -> None:
    """The policy in force."""
    site = open_site(state)
    try:
        policy = policy_in_force(site)
    finally:
        site.close()
    show(
        [
            {
                "serial": policy.serial,
                "encoders": ", ".join(encoder[:12] for encoder in policy.encoders),
                "mechanisms": ", ".join(policy.mechanisms),
                "units": ", ".join(policy.units),
                "most_epsilon_per_record": str(PrivacyLoss(policy.max_micro_epsilon_per_record)),
                "lifetime_epsilon_per_unit": str(policy.lifetime_budget),
                "evaluations": _evaluations_in_words(policy),
            }
        ],
        output,
    )


def _evaluations(wanted: EvaluationsSection | None) -> EvaluationRule | None:
    if wanted is None:
        return None
    return EvaluationRule(
        share_percent=wanted.share_percent, max_micro_epsilon=PrivacyLoss.of(wanted.max_epsilon).micro_epsilon
    )


def _evaluations_in_words(policy: Policy) -> str:
    rule = policy.evaluations
    if rule is None:
        return "no evaluation is allowed"
    return (
        f"evaluations: at most epsilon {PrivacyLoss(rule.max_micro_epsilon)} of each unit held out; "
        f"{rule.share_percent} % of the units are held out and never released"
    )
