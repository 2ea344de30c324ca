"""Records as hospitals would send them, by the road's own mechanisms, and how many each patient may give."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.images import Painter, make_images
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import Contents, codebook_seed, pack, unpack
from server.learning.image_training import PictureSet
from server.learning.train import TrainingSet

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Asking:
    """Whom a benchmark's campaign speaks of: the encoder's digest, label names, unit and cap."""

    encoder: str
    label_names: tuple[str, ...]
    unit: str
    cap: int

    def campaign(self, release: ReleaseSpec | ImageSpec) -> Campaign:
        """The campaign that would ask for this release."""
        return Campaign.model_validate(
            {
                "name": "benchmark",
                "purpose": "measure what this release is worth",
                "encoder": self.encoder,
                "release": release,
                "label_names": self.label_names,
                "unit": self.unit,
                "cap": self.cap,
                "micro_epsilon_per_record": release.loss.micro_epsilon,
                "ends": "2099-12-31",
            }
        )


def released(asking: Asking, release: ReleaseSpec, outputs: Floats, labels: Labels) -> TrainingSet:
    """Clip, draw with the operating system's randomness, pack; unpack and decode as the centre does.

    Each record's codewords come from a fresh public seed, as if each call were a campaign of its own.
    """
    return TrainingSet.from_payloads(asking.campaign(release), _payloads(release, outputs, labels))


def records_of(release: ReleaseSpec, outputs: Floats, labels: Labels) -> list[Contents]:
    """The same as they stand in the store, not decoded: what an attacker has."""
    return [unpack(payload, release) for payload in _payloads(release, outputs, labels)]


def _payloads(release: ReleaseSpec, outputs: Floats, labels: Labels) -> list[bytes]:
    return pack(draw(release, prepare(release, outputs, labels), _seeds(len(labels)), SystemSource()))


def _seeds(count: int) -> list[bytes]:
    run = os.urandom(16).hex()
    return [codebook_seed("benchmark", run, at) for at in range(count)]


def pictured(asking: Asking, painter: Painter, outputs: Floats, labels: Labels) -> PictureSet:
    """The same where the record is a picture that the hospital's painter makes of what was drawn."""
    spec, source = painter.spec, SystemSource()
    drawn = draw(spec.noised, prepare(spec.noised, outputs, labels), _seeds(len(labels)), source)
    return PictureSet.from_payloads(asking.campaign(spec), pack(make_images(painter, drawn, source)))


def within_cap(groups: NDArray[np.str_], cap: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Which X-rays are released when each group gives at most `cap`: as the agent's shuffle has it, the first ones."""
    order = generator.permutation(len(groups))
    _, member = np.unique(groups[order], return_inverse=True)
    seen: dict[int, int] = {}
    taken = []
    for row, group in zip(order.tolist(), member.tolist(), strict=True):
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= cap:
            taken.append(row)
    return np.array(sorted(taken), dtype=np.int64)
