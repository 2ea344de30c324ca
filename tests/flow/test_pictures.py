"""Pictures from the public encoder: what is near is picked, what is noised is shrunk, and no X-ray is at hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from ldp_client.errors import ParameterError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.flow.pictures import NearestSample, PosteriorMean, painter_of
from ldp_client.flow.shrinkage import clipped_deviation, posterior_mean, shrink
from ldp_client.imaging.phantoms import phantoms
from ldp_client.privacy.drawing import NoisedPair, draw, prepare
from ldp_client.privacy.image_spec import ImageSpec, image
from ldp_client.privacy.images import make_images
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.release_design import dp_glow, joint_codebook
from ldp_client.privacy.release_spec import DpGlowSpec

CANDIDATES = 24


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(shipped())


@pytest.fixture(scope="module")
def painter(encoder: Encoder) -> NearestSample:
    spec = image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2), side=28, candidates=CANDIDATES)
    made = painter_of(spec, encoder, SystemSource())
    assert isinstance(made, NearestSample)
    return made


def test_the_nearest_sample_is_the_one_whose_own_bottleneck_makes_the_smallest_angle(
    encoder: Encoder, painter: NearestSample
) -> None:
    wanted = np.random.default_rng(1).normal(size=(50, 2))
    outputs = encoder.encode(torch.stack([encoder.prepare(picture) for picture in painter.pixels]))
    angles = np.arctan2(wanted[:, 1], wanted[:, 0])[:, None] - np.arctan2(outputs[:, 1], outputs[:, 0])
    nearest = np.abs((angles + math.pi) % (2 * math.pi) - math.pi).argmin(axis=1)
    assert len(set(nearest.tolist())) > 10
    assert np.array_equal(painter.paint(wanted), painter.pixels[nearest])


def test_length_plays_no_part_and_nothing_asked_for_nothing_is_painted(painter: NearestSample) -> None:
    wanted = np.random.default_rng(2).normal(size=(20, 2))
    assert np.array_equal(painter.paint(wanted), painter.paint(wanted * 1e-3))
    assert np.array_equal(painter.paint(np.zeros((1, 2)))[0], painter.pixels[0])
    assert painter.paint(np.empty((0, 2))).shape == (0, 28, 28)


def test_another_release_may_take_the_same_samples_where_it_asks_for_such(painter: NearestSample) -> None:
    bolder = image(joint_codebook(epsilon=4, classes=2, bottleneck_dimension=2), side=28, candidates=CANDIDATES)
    wanted = np.random.default_rng(6).normal(size=(5, 2))
    assert painter.of(bolder).spec == bolder != painter.spec
    assert np.array_equal(painter.of(bolder).paint(wanted), painter.paint(wanted))
    with pytest.raises(
        ParameterError, match="24 samples of 28 pixels a side by 2 coordinates; the release asks for 9 of"
    ):
        painter.of(bolder.model_copy(update={"candidates": 9}))


def test_samples_are_made_of_fresh_bytes_alone_and_those_are_standard_normal(encoder: Encoder) -> None:
    class Counting:
        def __init__(self) -> None:
            self.bytes, self.system = 0, SystemSource()

        def __call__(self, count: int) -> bytes:
            self.bytes += count
            return self.system(count)

    spec = image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2), side=28, candidates=2)
    source = Counting()
    first, second = (NearestSample(spec, encoder, source).pixels for _ in range(2))
    assert source.bytes == 2 * 2 * 8 * 32 * 32
    assert not np.array_equal(first, second)

    class Recording(Encoder):
        def decode(self, latents: list[torch.Tensor]) -> torch.Tensor:
            drawn.append(torch.cat([level.flatten() for level in latents]))
            return super().decode(latents)

    drawn: list[torch.Tensor] = []
    recording = Recording(encoder.card, encoder.flow, encoder.bottleneck)
    NearestSample(spec.model_copy(update={"candidates": 20}), recording, SystemSource())
    # 20,480 numbers. A distance above 0.024 has chance 1e-9; numbers of deviation 0.9 are off by 0.025 and are found.
    assert kstest(torch.cat(drawn).numpy(), "norm").statistic < 0.024


# --- all latents


def painted_at(epsilon: int, encoder: Encoder, xrays: np.ndarray) -> np.ndarray:
    spec = image(dp_glow(epsilon=epsilon, label_epsilon=1, classes=2, latents=32 * 32, bound=12), side=28)
    outputs = encoder.output("latents", torch.stack([encoder.prepare(xray) for xray in xrays]))
    value = prepare(spec.noised, outputs, np.zeros(len(xrays), dtype=np.int64))
    drawn = draw(spec.noised, value, [b""] * len(xrays), SystemSource())
    return make_images(painter_of(spec, encoder, SystemSource()), drawn, SystemSource()).pixels


def test_all_latents_decode_to_the_xray_where_the_noise_is_next_to_nothing_and_to_no_xray_where_it_is_not(
    encoder: Encoder,
) -> None:
    xrays, _ = phantoms(12, 28, seed=3, pneumonia_share=0.5)
    # Phantoms are no X-rays of the flow's kind: their latents reach further than the usual bound of 3.
    faithful, private = (painted_at(epsilon, encoder, xrays).astype(float) for epsilon in (1_000_000, 8))
    nearly = np.abs(faithful - xrays)
    assert np.median(nearly) <= 1
    # At epsilon 8 all pictures are the same one: none goes with its X-ray more than with another.
    assert private.std(axis=0).max() < 1
    assert private.std(axis=(1, 2)).min() > 10


def test_a_painter_of_all_latents_shrinks_before_it_decodes(encoder: Encoder) -> None:
    spec = image(dp_glow(epsilon=8, label_epsilon=1, classes=2, latents=32 * 32), side=28)
    painter = painter_of(spec, encoder, SystemSource())
    assert isinstance(painter, PosteriorMean)
    assert painter.paint(np.empty((0, 32 * 32))).shape == (0, 28, 28)
    wild = painter.paint(np.full((1, 32 * 32), 1e9))
    assert wild.shape == (1, 28, 28)


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0, 400.0])
@pytest.mark.parametrize("noised", [-6.0, -0.4, 0.0, 1.3, 2.5])
def test_the_posterior_mean_is_bayes_rule(noised: float, scale: float) -> None:
    def weight(z: float) -> float:
        return math.exp(-(z**2) / 2 - abs(noised - z) / scale + abs(noised) / scale)

    around = (noised,) if abs(noised) < 12 else ()
    top = quad(lambda z: z * weight(z), -12, 12, points=around, limit=200)[0]
    bottom = quad(weight, -12, 12, points=around, limit=200)[0]
    assert float(posterior_mean(torch.tensor(noised), scale)) == pytest.approx(top / bottom, abs=1e-6)


def test_next_to_no_noise_leaves_the_number_and_very_much_leaves_nothing() -> None:
    numbers = torch.tensor([-3.0, 0.2, 5.0], dtype=torch.float64)
    assert torch.equal(posterior_mean(numbers, 1e-6), numbers)
    assert float(posterior_mean(numbers * 1e6, 1e6).abs().max()) < 1e-5


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0, 8.0])
def test_the_deviation_of_a_clipped_normal_number_is_its_integral(bound: float) -> None:
    squared = quad(lambda z: min(abs(z), bound) ** 2 * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), -12, 12)[0]
    assert clipped_deviation(bound) == pytest.approx(math.sqrt(squared), rel=1e-6)


def test_shrunk_latents_lie_closer_to_what_they_were_than_noised_ones() -> None:
    spec = dp_glow(epsilon=2000, label_epsilon=1, classes=2, latents=1000)
    assert isinstance(spec, DpGlowSpec)
    outputs = np.random.default_rng(4).normal(size=(8, 1000))
    drawn = draw(spec, prepare(spec, outputs, np.zeros(8, np.int64)), [b""] * 8, SystemSource())
    assert isinstance(drawn, NoisedPair)
    noised = torch.from_numpy(drawn.vectors.steps * float(spec.laplace.grid))
    guessed = shrink(noised, spec.laplace)
    errors = [float(((found - torch.from_numpy(outputs)) ** 2).mean()) for found in (noised, guessed)]
    # Noise of scale 3 has variance 18; a guess of 0 has error 1, and this one is better still.
    assert errors[0] > 15
    assert errors[1] < 0.97
    assert float(guessed.abs().max()) <= 3


def test_the_stand_in_spec_is_the_one_that_paints(painter: NearestSample) -> None:
    assert isinstance(painter.spec, ImageSpec)
    assert painter.pixels.shape == (CANDIDATES, 28, 28)
    assert painter.pixels.dtype == np.uint8
