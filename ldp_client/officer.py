"""What the privacy officer signs: the site's policy, and an approval of one campaign."""

from __future__ import annotations

import datetime
import os

from ldp_client.errors import ConfigurationError, WaitingError
from ldp_client.plan import file_plan, make_plan
from ldp_client.site import Site, data_set
from ldp_client.wire.campaign import Approval, Plan, Policy, policy_id
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import APPROVAL, POLICY, close_envelope
from ldp_client.wire.evaluation import Asked, asked_id, check_policy
from ldp_client.wire.signing import Signer


def put_into_force(site: Site, policy: Policy, officer: Signer) -> None:
    """Sign a policy and file it.

    Raises:
        EnvelopeError: the key is no officer's of this site.
        PolicyRefusedError: another site's policy, or a serial not above the one in force.
    """
    site.ledger.file_policy(close_envelope(POLICY, canonical_bytes(policy), officer))


def policy_in_force(site: Site) -> Policy:
    """The policy that holds now.

    Raises:
        WaitingError: none was signed yet.
    """
    found = site.ledger.policy()
    if found is None:
        raise WaitingError("no policy is in force; the officer signs one with `ldp-client policy sign policy.toml`")
    return found[1]


def approve(site: Site, campaign: Asked, officer: Signer, expires: str | None = None) -> Plan:
    """Sign an approval of what is asked, under the policy in force and the plan as it stands; file it; return the plan.

    Args:
        expires: last day, YYYY-MM-DD; the campaign's own last day if not given.

    Raises:
        ConfigurationError: `expires` is no day.
        EnvelopeError: the key is no officer's of this site.
        PolicyRefusedError: the policy does not allow the campaign.
        WaitingError: no policy is in force.
    """
    policy = policy_in_force(site)
    check_policy(policy, campaign)
    plan = make_plan(campaign, policy, data_set(site, campaign), site.ledger)
    try:
        wanted = datetime.date.fromisoformat(expires or campaign.ends)
    except ValueError as error:
        raise ConfigurationError(f"an approval expires on a day such as 2027-12-31; found {expires!r}") from error
    last = min(wanted, datetime.date.fromisoformat(campaign.ends)).isoformat()
    if last < datetime.datetime.now(datetime.UTC).date().isoformat():
        raise ConfigurationError(f"campaign {campaign.name} or the approval would have ended on {last} already")
    approval = Approval(
        site=site.ledger.genesis.site,
        ledger_id=site.ledger.genesis.ledger_id,
        campaign=asked_id(campaign),
        policy=policy_id(policy),
        # Salted: a bare digest of the plan's few small counts could be tried out, and the approval leaves the site.
        plan=file_plan(plan, site.ledger, os.urandom(32)),
        expires=last,
    )
    site.ledger.file_approval(close_envelope(APPROVAL, canonical_bytes(approval), officer), campaign)
    return plan
