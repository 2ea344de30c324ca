"""Scores of X-rays by the shared classifier, on this machine: nothing is charged, kept or sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ldp_client.diagnosis.bundle import ClassifierBundle
from ldp_client.diagnosis.calibration import Probability
from ldp_client.errors import ParameterError, QuarantinedError
from ldp_client.flow.encoder import Encoder
from ldp_client.imaging.files import read_radiograph
from ldp_client.imaging.quarantine import Reason, set_aside

CHUNK = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scored:
    """One X-ray's score for each label of the classifier. The name is for this hospital's own screen.

    `probabilities` is empty where the classifier came without calibration.
    """

    file: str = field(repr=False)
    scores: dict[str, float]
    probabilities: tuple[Probability, ...] = ()


@dataclass(frozen=True)
class SetAside:
    """One file that could not be scored, and why."""

    file: str = field(repr=False)
    reason: str
    way_out: str


@dataclass(frozen=True)
class Diagnosed:
    """What was made of the files, each list in the order in which they were named."""

    scored: tuple[Scored, ...]
    set_aside: tuple[SetAside, ...]


def diagnose(
    files: Sequence[Path],
    bundle: ClassifierBundle,
    encoder: Encoder,
    progress: Progress = lambda done, total: None,
) -> Diagnosed:
    """Read and prepare each file as a release would, and score it; but a picture whose pixels are all alike, of which a
    release is drawn all the same, gets no score.

    Returns:
        A score for each label, of every file that can be read as an X-ray; the others with their reason. Whether a
        picture shows a chest is known only where a DICOM file says so.

    Raises:
        ClassifierError: the classifier belongs to another encoder.
    """
    bundle.check_encoder(encoder)
    # Names patients' keys here and nowhere else: nothing of it is kept, so neither is the secret.
    secret = os.urandom(32)
    calibration = bundle.card.calibration
    scored: list[Scored] = []
    aside: list[SetAside] = []
    for start in range(0, len(files), CHUNK):
        images, names = [], []
        for file in files[start : start + CHUNK]:
            try:
                images.append(_prepared(file, encoder, secret))
                names.append(str(file))
            except QuarantinedError as error:
                aside.append(SetAside(str(file), error.reason, str(error)))
        if images:
            for name, row in zip(names, bundle.scores(encoder, torch.stack(images)), strict=True):
                if np.isfinite(row).all():
                    scores = dict(zip(bundle.card.label_names, row.tolist(), strict=True))
                    scored.append(Scored(name, scores, () if calibration is None else calibration.of(scores)))
                else:
                    refusal = set_aside(Reason.UNREADABLE, "the classifier gives no number for its pixels")
                    aside.append(SetAside(name, refusal.reason, str(refusal)))
        progress(min(start + CHUNK, len(files)), len(files))
    return Diagnosed(tuple(scored), tuple(aside))


def _prepared(file: Path, encoder: Encoder, secret: bytes) -> torch.Tensor:
    found = read_radiograph(file, secret)
    if found.pixels.min() == found.pixels.max():
        raise set_aside(Reason.UNREADABLE, "a picture whose pixels are all alike")
    try:
        return encoder.prepare(found.pixels, inverted=found.inverted, window=found.window, bits=found.bits)
    except ParameterError as error:
        raise set_aside(Reason.TOO_SMALL, "an image that cannot be brought to the encoder's size") from error
