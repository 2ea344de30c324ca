"""What a site is asked besides records: how well a classifier does on its own held-out X-rays."""

from __future__ import annotations

import datetime
import itertools
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from ldp_client.errors import PolicyRefusedError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.spec import HistogramSpec
from ldp_client.wire.campaign import Campaign, Day, LabelName, Name, Policy, Unit, campaign_id
from ldp_client.wire.canonical import CampaignId, Digest, PlainText, Wire, canonical_bytes, digest, parse
from ldp_client.wire.envelope import CAMPAIGN, EVALUATION, Keyring, is_of_type, open_envelope

# Base64 takes a third more, and a document of the exchange has at most 1 MiB.
MAX_CLASSIFIER_BYTES = 700_000
Edge = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,12})?$")]


class Evaluation(Wire):
    """What the centre asks every site to answer once: noised counts of score differences, by pair of labels.

    Rows of the histogram are (label, other label), in the order of `diagnosis.scoring.pair_rows`; an X-ray of label a
    counts once in each row (a, b), by the bin of its score difference s_max(a,b) - s_min(a,b). So an X-ray has K-1
    counts, and `histogram.cap` is `cap` (K-1).

    `micro_epsilon_per_unit` is the loss of each unit of the site's evaluation set, all its X-rays and labels together,
    and must be the histogram's. It is a promise of the site's set, not a local one about each X-ray.

    `classifier` and `weights` are the bytes of the classifier's bundle.
    """

    schema_version: Literal[1] = 1
    name: Name
    purpose: Annotated[PlainText, StringConstraints(min_length=1, max_length=500)]
    encoder: Digest
    classifier: bytes
    weights: bytes = b""
    label_names: tuple[LabelName, ...]
    histogram: HistogramSpec
    edges: tuple[Edge, ...]
    unit: Unit
    cap: int = Field(ge=1, le=1000)
    micro_epsilon_per_unit: int
    ends: Day

    @model_validator(mode="after")
    def _consistent(self) -> Evaluation:
        classes, spec = len(self.label_names), self.histogram
        if classes < 2 or len(set(self.label_names)) != classes:
            raise ValueError("an evaluation needs at least two labels, all of different names")
        if (spec.classes, spec.cap) != (classes * (classes - 1), self.cap * (classes - 1)):
            raise ValueError(
                f"{classes} labels and {self.cap} X-rays per unit make a histogram of {classes * (classes - 1)} rows "
                f"and {self.cap * (classes - 1)} counts per unit; it has {spec.classes} and {spec.cap}"
            )
        values = [Fraction(edge) for edge in self.edges]
        if len(values) != spec.bins - 1 or any(low >= high for low, high in itertools.pairwise(values)):
            raise ValueError(f"{spec.bins} bins have {spec.bins - 1} edges between them, each above the one before")
        if spec.loss.micro_epsilon != self.micro_epsilon_per_unit:
            raise ValueError(
                f"the histogram costs epsilon {spec.loss} per unit, "
                f"the evaluation says {PrivacyLoss(self.micro_epsilon_per_unit)}"
            )
        if self.unit == "image" and self.cap != 1:
            raise ValueError("where the unit is one image, the cap is 1")
        if not self.classifier or len(self.classifier) + len(self.weights) > MAX_CLASSIFIER_BYTES:
            raise ValueError(f"an evaluation carries a classifier of at most {MAX_CLASSIFIER_BYTES} bytes")
        return self

    @property
    def bound_per_unit(self) -> PrivacyLoss:
        """epsilon of each unit of the set: an evaluation is answered once."""
        return PrivacyLoss(self.micro_epsilon_per_unit)

    def ended(self, today: datetime.date) -> bool:
        """Whether the last day is over. No draw after it."""
        return today > datetime.date.fromisoformat(self.ends)


Asked = Campaign | Evaluation
"""Whatever the centre asks of a site: records of its X-rays, or an answer about a classifier."""


def asked_id(asked: Asked) -> CampaignId:
    """Its name in every ledger: the digest of its canonical bytes, under a label of its own kind."""
    if isinstance(asked, Campaign):
        return campaign_id(asked)
    return CampaignId(digest("ldp-glow/evaluation", canonical_bytes(asked)))


def open_asked(envelope: bytes, centre: Keyring) -> Asked:
    """What the centre signed.

    Raises:
        FormatError, EnvelopeError: neither a campaign nor an evaluation of this version, or not the centre's.
    """
    if is_of_type(envelope, EVALUATION):
        return parse(Evaluation, open_envelope(envelope, EVALUATION, centre)[1])
    return parse(Campaign, open_envelope(envelope, CAMPAIGN, centre)[1])


def check_policy(policy: Policy, asked: Asked) -> None:
    """Return if a site's policy allows what is asked.

    Raises:
        PolicyRefusedError: it does not; the text names the first rule that stands against it.
    """
    if isinstance(asked, Campaign):
        policy.check(asked)
        return
    policy.check_encoder(asked.encoder)
    if policy.evaluations is None:
        raise PolicyRefusedError(
            f"the evaluation {asked.name} asks for a noised histogram of held-out X-rays; the policy allows no "
            "evaluation. Sign one with [policy.evaluations] share_percent and max_epsilon if that is meant"
        )
    policy.check_unit(asked.unit)
    allowed = PrivacyLoss(policy.evaluations.max_micro_epsilon)
    if asked.bound_per_unit > allowed:
        raise PolicyRefusedError(
            f"the evaluation {asked.name} asks epsilon {asked.bound_per_unit} of each {asked.unit} of the set; "
            f"the policy allows {allowed}"
        )
    if asked.bound_per_unit > policy.lifetime_budget:
        raise PolicyRefusedError(
            f"the evaluation takes epsilon {asked.bound_per_unit} of one {asked.unit}; "
            f"the policy's lifetime budget is {policy.lifetime_budget}"
        )
