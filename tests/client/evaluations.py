"""An evaluation of a classifier for the stand-in encoder, and a policy that allows it."""

from __future__ import annotations

from ldp_client.diagnosis.bundle import ClassifierCard, LearntFrom
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.diagnosis.scoring import default_edges
from ldp_client.privacy.histogram import histogram
from ldp_client.wire.campaign import EvaluationRule
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.evaluation import Evaluation
from tests.client.world import LABELS, MeanEncoder

RULE = EvaluationRule(share_percent=50, max_micro_epsilon=2_000_000)


def a_card(**changes: object) -> ClassifierCard:
    fields: dict[str, object] = {
        "name": "pneumonia",
        "purpose": "find pneumonia",
        "encoder": MeanEncoder.digest,
        "label_names": LABELS,
        "learnt_from": (
            LearntFrom(
                campaign="1" * 64,
                name="earlier",
                mechanism="joint_codebook",
                records=100,
                micro_epsilon_per_record=2_000_000,
                unit="patient",
                cap=1,
            ),
        ),
        "noise_error": "0.1",
        "spread": "1.0",
        "model": LinearModel(source="bottleneck", mean=(("1", "0.5"),)),
        "command": "ldp-server model export",
    }
    return ClassifierCard(**(fields | changes))  # type: ignore[arg-type]


def make_evaluation(**changes: object) -> Evaluation:
    """Epsilon 1 of each patient, two X-rays of each at most, 8 bins."""
    cap = changes.get("cap", 2)
    spec = histogram(epsilon=changes.pop("epsilon", 1), classes=2, bins=8, cap=cap)  # type: ignore[arg-type]
    fields: dict[str, object] = {
        "name": "held-out",
        "purpose": "how well the classifier does",
        "encoder": MeanEncoder.digest,
        "classifier": canonical_bytes(a_card()),
        "label_names": LABELS,
        "histogram": spec,
        "edges": default_edges(1.0, 8),
        "unit": "patient",
        "cap": 2,
        "micro_epsilon_per_unit": spec.loss.micro_epsilon,
        "ends": "2030-12-31",
    }
    return Evaluation(**(fields | changes))  # type: ignore[arg-type]
