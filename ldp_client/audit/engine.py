"""What is audited: the mechanisms' functions, as one value that a test or a twin can hold another version of.

`INSTALLED` is the code that releases records on this machine. Nothing changes it: a broken twin is another `Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.clipping import Clip, clip, to_grid
from ldp_client.privacy.codebook import Codebook
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.histogram import Histogram, count
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.noise import ByteSource, coins, discrete_laplace, uniform_below
from ldp_client.privacy.randomized_response import Labels, RandomizedResponse
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.privacy.spec import (
    CodebookSpec,
    DiscreteLaplaceSpec,
    HistogramSpec,
    RandomizedResponseSpec,
    threshold_for,
)
from ldp_client.wire.record import Contents, pack, unpack

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Noise = Callable[[Fraction, int, ByteSource], Integers]


class Costed(Protocol):
    """Whatever says what it costs."""

    @property
    def loss(self) -> PrivacyLoss: ...


@dataclass(frozen=True)
class Engine:
    """The functions between an encoder's floats and a record. Shapes: outputs (N, k), labels (N,), steps (N, d)."""

    noise: Noise
    coins: Callable[[int, int, ByteSource], NDArray[np.bool_]]
    uniform: Callable[[Integers, ByteSource], Integers]
    threshold: Callable[[Fraction, int, int], int]
    loss: Callable[[Costed], PrivacyLoss]
    clipped: Callable[[Clip, Fraction, Floats], Integers]
    laplace: Callable[[DiscreteLaplaceSpec, Floats, ByteSource], Integers]
    respond: Callable[[RandomizedResponseSpec, Integers, ByteSource], Integers]
    choose: Callable[[CodebookSpec, Floats, Sequence[bytes], ByteSource], Integers]
    histogram: Callable[[HistogramSpec, Sequence[bytes | str | int], Integers, Integers, ByteSource], Integers]
    release: Callable[[ReleaseSpec, Floats, Integers, Sequence[bytes], ByteSource], list[Contents]]


def _loss(spec: Costed) -> PrivacyLoss:
    return spec.loss


def _clipped(rule: Clip, grid: Fraction, outputs: Floats) -> Integers:
    return clip(to_grid(outputs, grid), rule).steps


def _laplace(spec: DiscreteLaplaceSpec, outputs: Floats, source: ByteSource) -> Integers:
    return DiscreteLaplace(spec)(clip(to_grid(outputs, spec.grid), spec.clip), source).steps


def _respond(spec: RandomizedResponseSpec, labels: Integers, source: ByteSource) -> Integers:
    return RandomizedResponse(spec)(Labels(labels, spec.classes), source).values


def _choose(spec: CodebookSpec, outputs: Floats, seeds: Sequence[bytes], source: ByteSource) -> Integers:
    return Codebook(spec)(clip(to_grid(outputs, spec.clip.grid), spec.clip), seeds, source).indices


def _histogram(
    spec: HistogramSpec, units: Sequence[bytes | str | int], labels: Integers, bins: Integers, source: ByteSource
) -> Integers:
    return Histogram(spec)(count(spec, units, labels, bins), source).counts


def _release(
    release: ReleaseSpec, outputs: Floats, labels: Integers, seeds: Sequence[bytes], source: ByteSource
) -> list[Contents]:
    """From the encoder's output to the bytes of a record, and what their reader finds in them."""
    payloads = pack(draw(release, prepare(release, outputs, labels), seeds, source))
    return [unpack(payload, release) for payload in payloads]


INSTALLED = Engine(
    noise=discrete_laplace,
    coins=coins,
    uniform=uniform_below,
    threshold=threshold_for,
    loss=_loss,
    clipped=_clipped,
    laplace=_laplace,
    respond=_respond,
    choose=_choose,
    histogram=_histogram,
    release=_release,
)
