"""What is asked (campaign), what is allowed (policy), what was agreed to (approval)."""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from ldp_client.errors import PolicyRefusedError
from ldp_client.privacy.image_spec import CampaignRelease, ReleaseKind, kinds_needed
from ldp_client.privacy.loss import MAX_MICRO_EPSILON, PrivacyLoss
from ldp_client.wire.canonical import (
    CampaignId,
    Digest,
    MicroEpsilon,
    PlainText,
    Position,
    SiteId,
    Wire,
    canonical_bytes,
    digest,
)

Unit = Literal["patient", "image"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9 _-]{0,62}$")]


def _real_day(text: str) -> str:
    datetime.date.fromisoformat(text)
    return text


Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_real_day)]

WARN_ABOVE = PrivacyLoss.of(4)
FLAG_ABOVE = PrivacyLoss.of(8)
USUAL_MECHANISMS: tuple[ReleaseKind, ...] = ("joint_discrete_laplace", "joint_codebook")
"""What a policy allows that does not name any: those that noise X-ray and label together."""


class Campaign(Wire):
    """What the centre asks every site to release, signed by the centre.

    `micro_epsilon_per_record` covers X-ray and label together and must be the loss that `release` has: it is what the
    officer reads, so it cannot say less than what happens. No unit ever spends more than cap * epsilon on a campaign.
    """

    schema_version: Literal[1] = 1
    name: Name
    purpose: Annotated[PlainText, StringConstraints(min_length=1, max_length=500)]
    encoder: Digest
    release: CampaignRelease
    label_names: tuple[LabelName, ...]
    unit: Unit
    cap: int = Field(ge=1, le=1000)
    micro_epsilon_per_record: int
    ends: Day

    @model_validator(mode="after")
    def _consistent(self) -> Campaign:
        if len(self.label_names) != self.release.classes or len(set(self.label_names)) != self.release.classes:
            raise ValueError(f"{self.release.classes} classes need as many different label names")
        if self.release.loss.micro_epsilon != self.micro_epsilon_per_record:
            raise ValueError(
                f"the release costs epsilon {self.release.loss} per record, "
                f"the campaign says {PrivacyLoss(self.micro_epsilon_per_record)}"
            )
        if self.cap * self.micro_epsilon_per_record > MAX_MICRO_EPSILON:
            raise ValueError("cap * epsilon is beyond what any ledger can hold")
        if self.unit == "image" and self.cap != 1:
            raise ValueError("where the unit is one image, the cap is 1: no image is released twice")
        return self

    @property
    def loss_per_record(self) -> PrivacyLoss:
        """epsilon of one record, image and label together."""
        return PrivacyLoss(self.micro_epsilon_per_record)

    @property
    def bound_per_unit(self) -> PrivacyLoss:
        """cap * epsilon: the most that this campaign takes of one unit."""
        return self.loss_per_record * self.cap

    def ended(self, today: datetime.date) -> bool:
        """Whether the last day is over. No draw after it."""
        return today > datetime.date.fromisoformat(self.ends)


@lru_cache(maxsize=64)
def campaign_id(campaign: Campaign) -> CampaignId:
    """The campaign's name in every ledger: the digest of its canonical bytes."""
    return CampaignId(digest("ldp-glow/campaign", canonical_bytes(campaign)))


class EvaluationRule(Wire):
    """Evaluations that a policy allows: which share of the units is held out for them, and what each may take of one.

    A unit that is held out is never released (`evaluation_set`).
    """

    share_percent: int = Field(ge=1, le=50)
    max_micro_epsilon: MicroEpsilon


class Policy(Wire):
    """A site's upper bound, whatever a campaign asks, signed by the site's privacy officer.

    A policy with a lower serial than one in the ledger is refused, so an old, laxer one cannot be put back.
    """

    schema_version: Literal[1] = 1
    site: SiteId
    serial: Position
    encoders: tuple[Digest, ...]
    mechanisms: tuple[ReleaseKind, ...] = USUAL_MECHANISMS
    units: tuple[Unit, ...] = ("patient",)
    max_micro_epsilon_per_record: MicroEpsilon = 2_000_000
    lifetime_micro_epsilon: MicroEpsilon
    accept_epsilon_above_8: bool = False
    evaluations: EvaluationRule | None = None

    @model_serializer(mode="wrap")
    def _as_written_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The field came later: a policy without it keeps the bytes, and the digest, that it always had.
        written: dict[str, Any] = handler(self)
        if self.evaluations is None:
            del written["evaluations"]
        return written

    @model_validator(mode="after")
    def _flagged(self) -> Policy:
        if self.max_micro_epsilon_per_record > FLAG_ABOVE.micro_epsilon and not self.accept_epsilon_above_8:
            raise ValueError("more than epsilon 8 per record needs accept_epsilon_above_8 = true")
        rule = self.evaluations
        if rule is not None and rule.max_micro_epsilon > FLAG_ABOVE.micro_epsilon and not self.accept_epsilon_above_8:
            raise ValueError("more than epsilon 8 per evaluation needs accept_epsilon_above_8 = true")
        if rule is not None and len(set(self.units)) != 1:
            raise ValueError(
                "where evaluations are allowed there is one unit: by another, what is held out would differ"
            )
        return self

    @property
    def lifetime_budget(self) -> PrivacyLoss:
        """What one unit may ever spend at this site."""
        return PrivacyLoss(self.lifetime_micro_epsilon)

    def check(self, campaign: Campaign) -> None:
        """Return if the policy allows the campaign.

        Raises:
            PolicyRefusedError: it does not; the text names the first rule that stands against it.
        """
        self.check_encoder(campaign.encoder)
        for kind in kinds_needed(campaign.release):
            if kind not in self.mechanisms:
                raise PolicyRefusedError(
                    f"the campaign asks for the mechanism {kind}; the policy allows {', '.join(self.mechanisms)}"
                )
        self.check_unit(campaign.unit)
        allowed = PrivacyLoss(self.max_micro_epsilon_per_record)
        if campaign.loss_per_record > allowed:
            raise PolicyRefusedError(
                f"the campaign asks epsilon {campaign.loss_per_record} per record; the policy allows {allowed}"
            )
        if campaign.bound_per_unit > self.lifetime_budget:
            raise PolicyRefusedError(
                f"the campaign may take epsilon {campaign.bound_per_unit} of one {campaign.unit}; "
                f"the policy's lifetime budget is {self.lifetime_budget}"
            )

    def check_encoder(self, wanted: str) -> None:
        """Return if the policy allows this encoder.

        Raises:
            PolicyRefusedError: it does not.
        """
        if wanted not in self.encoders:
            raise PolicyRefusedError(
                f"the campaign asks for the encoder {wanted[:12]}; the policy allows "
                f"{', '.join(encoder[:12] for encoder in self.encoders) or 'none'}. "
                "Install the encoder, compare its digest, and sign a policy that names it"
            )

    def check_unit(self, unit: Unit) -> None:
        """Return if the policy allows this unit.

        Raises:
            PolicyRefusedError: it does not.
        """
        if unit not in self.units:
            raise PolicyRefusedError(
                f"the campaign protects one {unit} as the unit; the policy allows {', '.join(self.units)}. "
                'A unit of "image" promises nothing about a person with several X-rays: '
                "sign a policy that lists it if that is what is meant"
            )


def policy_id(policy: Policy) -> str:
    """The policy's digest, which an approval cites."""
    return digest("ldp-glow/policy", canonical_bytes(policy))


class Plan(Wire):
    """What a campaign would cost this site, computed without a draw. It stays at the site; a salted digest leaves."""

    schema_version: Literal[1] = 1
    campaign: Digest
    policy: Digest
    unit: Unit
    records: int
    units: int
    units_at_cap: int
    units_without_budget: int
    quarantined: int
    micro_epsilon_per_record: int
    bound_micro_epsilon_per_unit: int


def plan_commitment(plan: Plan, salt: bytes) -> str:
    """What an approval cites of its plan: Digest(label, salt, canonical bytes), with 32 fresh random bytes of salt.

    A bare digest of a few small counts could be tried out, and an approval leaves the site.
    """
    return digest("ldp-glow/plan", salt, canonical_bytes(plan))


class Approval(Wire):
    """The officer's agreement to one campaign under one policy and one plan, until a day, in one ledger."""

    schema_version: Literal[1] = 1
    site: SiteId
    ledger_id: Digest
    campaign: Digest
    policy: Digest
    plan: Digest
    expires: Day
