"""Releases whose record is a picture, and the centre's networks that learn from such pictures alone."""

from __future__ import annotations

from fractions import Fraction

import torch

from ldp_client.errors import ParameterError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.pictures import NearestSample
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.noise import SystemSource
from server.benchmarks.arms import Arm, Floats, Wanted, noise_of
from server.benchmarks.released import pictured
from server.benchmarks.scene import Scene
from server.learning.image_training import train_on_pictures

COORDINATES = 4
SAMPLES, QUICK_SAMPLES = 4096, 512
CHOSEN_BY = "fixed beforehand, networks judged on labelled hospital X-rays"
"""Of PneumoniaMNIST, where that was done (docs/decisions/0046)."""


def pictures(dimension: int, samples: int = SAMPLES) -> Arm:
    """The sample of the flow that lies nearest to the noised bottleneck, with its label, at a hospital; and networks at
    the centre that see nothing else (docs/pictures.md).

    Args:
        dimension: coordinates of the encoder's own bottleneck, of which four are noised, or all of fewer.
        samples: of the flow, from which one is picked.
    """
    wanted = Wanted("codebook", f"bottleneck {min(COORDINATES, dimension)}")

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        encoder = scene.encoded.opened
        if encoder is None:
            raise ParameterError("pictures are made by the encoder itself; give the numbers that it made with it")
        spec = image(wanted.spec(noise_of(epsilon), scene.task.classes), side=encoder.content, candidates=samples)
        records = pictured(scene.asking, _samples(encoder, spec).of(spec), scene.hospital(wanted.view), scene.labels)
        classifier = train_on_pictures(records).classifier
        clean = scene.encoded.archive.images[scene.part("test")]
        return classifier.scores(encoder, torch.stack([encoder.prepare(one) for one in clean]))

    return Arm(
        "image",
        "codebook, nearest sample",
        wanted.label_code,
        wanted.view,
        score,
        chosen_by=CHOSEN_BY,
        seconds=30.0,
    )


_DRAWN: dict[tuple[str, int, int, int], NearestSample] = {}


def _samples(encoder: Encoder, spec: ImageSpec) -> NearestSample:
    """Samples of the flow, drawn once in a process: they are public, and the same for every epsilon."""
    key = (encoder.digest, spec.side, spec.candidates, spec.input_dimension)
    if key not in _DRAWN:
        _DRAWN[key] = NearestSample(spec, encoder, SystemSource())
    return _DRAWN[key]
