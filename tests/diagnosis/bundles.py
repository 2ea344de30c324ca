"""A classifier's bundle on disk, for the shipped encoder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ldp_client.diagnosis.bundle import ClassifierBundle, ClassifierCard, LearntFrom
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.wire.signing import SigningKey
from server.learning.classifier_bundle import write_classifier

CENTRE = SigningKey(b"c" * 32)
LABELS = ("normal", "pneumonia")


@lru_cache
def encoder() -> Encoder:
    return Encoder.load(shipped())


def a_card(**changes: object) -> ClassifierCard:
    fields: dict[str, object] = {
        "name": "pneumonia",
        "purpose": "find pneumonia",
        "encoder": encoder().digest,
        "label_names": LABELS,
        "learnt_from": (
            LearntFrom(
                campaign="1" * 64,
                name="pneumonia-2030",
                mechanism="joint_codebook",
                records=2708,
                micro_epsilon_per_record=2_000_000,
                unit="patient",
                cap=2,
            ),
        ),
        "noise_error": "0.0125",
        "spread": "1.5",
        "model": LinearModel(source="bottleneck", mean=(("0.5", "-0.25"),)),
        "command": "ldp-server model export pneumonia --out classifier",
    }
    return ClassifierCard(**(fields | changes))  # type: ignore[arg-type]


def a_bundle(folder: Path, key: SigningKey = CENTRE, **changes: object) -> ClassifierBundle:
    return write_classifier(a_card(**changes), folder, key)
