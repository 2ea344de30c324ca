"""From any floats to clipped integers, for every kind of release: the last place where a float is seen."""

from __future__ import annotations

import itertools
import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, l1_norm
from ldp_client.privacy.codebook import NoisedIndices
from ldp_client.privacy.drawing import ClippedPair, NoisedPair, draw, prepare
from ldp_client.privacy.laplace import Noised
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.randomized_response import Labels
from ldp_client.privacy.release_spec import ReleaseSpec, dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.spec import BoxClip, DirectionClip, L1Clip
from tests.privacy.scripted import Counter

DIMENSION = 3
KINDS: dict[str, Any] = {
    "laplace": joint_laplace(epsilon=2, classes=3, bottleneck_dimension=DIMENSION, radius=1),
    "laplace with constant": joint_laplace(
        epsilon=2, classes=3, bottleneck_dimension=DIMENSION, radius=1, constant="1/4"
    ),
    "one_hot laplace": joint_laplace(
        epsilon=2, classes=3, bottleneck_dimension=DIMENSION, radius=1, label_code="one_hot", constant="1/4"
    ),
    "codebook": joint_codebook(epsilon=2, classes=3, bottleneck_dimension=DIMENSION, codewords=32),
    "codebook with constant": joint_codebook(
        epsilon=2, classes=3, bottleneck_dimension=DIMENSION, codewords=32, constant="1/2"
    ),
    "one_hot codebook": joint_codebook(
        epsilon=2, classes=3, bottleneck_dimension=DIMENSION, codewords=32, label_code="one_hot", constant="1/2"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=3, bottleneck_dimension=DIMENSION, radius=1),
    "dp_glow": dp_glow(epsilon=8, label_epsilon=1, classes=3, latents=DIMENSION),
}
EXTREMES = (0.0, -0.0, 5e-324, -5e-324, 1e-45, 1.0, -1.0, 2.0**31, 1e38, 1e308, -1e308, math.inf, -math.inf, math.nan)
DTYPES = st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])


def vectors(value: Clipped | ClippedPair) -> Clipped:
    return value.vectors if isinstance(value, ClippedPair) else value


def one(spec: ReleaseSpec, values: list[float], label: int = 0) -> Clipped:
    return vectors(prepare(spec, np.array([values]), np.array([label], np.int64)))


def check(clipped: Clipped) -> None:
    """What each clip promises, from its definition."""
    steps, rule = clipped.steps, clipped.clip
    assert steps.dtype == np.int64
    if isinstance(rule, L1Clip):
        assert all(sum(map(abs, row)) <= rule.radius_steps for row in steps.tolist())
    elif isinstance(rule, BoxClip):
        assert all(abs(k) <= rule.bound_steps for row in steps.tolist() for k in row)
    else:
        assert all(0 < sum(k * k for k in row) <= rule.radius_steps**2 for row in steps.tolist())


@st.composite
def floats(pick: Any) -> np.ndarray:
    """Encoder outputs of any float type, byte order and memory layout, with any values."""
    dtype = np.dtype(pick(DTYPES))
    width = 8 * dtype.itemsize
    elements = st.one_of(st.floats(width=width), st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan]))
    array = pick(npst.arrays(dtype, (pick(st.integers(0, 4)), 2 * DIMENSION), elements=elements))
    layout = pick(st.sampled_from(["every other", "backwards", "columns first", "plain"]))
    if layout == "every other":
        return array[:, ::2]
    if layout == "backwards":
        return array[::-1, -1 : -1 - DIMENSION : -1]
    return np.asfortranarray(array[:, :DIMENSION]) if layout == "columns first" else array[:, :DIMENSION].copy()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(outputs=floats(), data=st.data())
def test_whatever_the_encoder_says_comes_out_clipped(kind: str, outputs: np.ndarray, data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(outputs), max_size=len(outputs))), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning for some X-rays and not for others would tell of them
        value = prepare(KINDS[kind], outputs, labels)
    check(vectors(value))
    assert len(vectors(value).steps) == len(outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_extreme_value_beside_every_other_is_drawn_for(kind: str) -> None:
    outputs = np.array(list(itertools.product(EXTREMES, repeat=2)))
    outputs = np.concatenate([outputs, outputs[:, :1]], axis=1)
    labels = np.arange(len(outputs), dtype=np.int64) % 3
    value = prepare(KINDS[kind], outputs, labels)
    check(vectors(value))
    drawn = draw(KINDS[kind], value, [bytes(32)] * len(outputs), SystemSource())
    assert isinstance(drawn, Noised | NoisedIndices | NoisedPair)


@pytest.mark.parametrize("kind", ["laplace", "laplace with constant", "one_hot laplace", "latent"])
def test_any_two_inputs_are_at_most_2r_apart_and_some_nearly_are(kind: str) -> None:
    spec, rng = KINDS[kind], np.random.default_rng(0)
    outputs = np.concatenate([rng.normal(scale=scale, size=(40, DIMENSION)) for scale in (0.01, 1, 100, 1e30)])
    steps = vectors(prepare(spec, outputs, rng.integers(0, 3, len(outputs)))).steps
    distances = l1_norm((steps[:, None] - steps[None]).reshape(-1, steps.shape[1]))
    assert 0.8 * spec.laplace.sensitivity_steps < distances.max() <= spec.laplace.sensitivity_steps


def test_a_box_is_as_far_apart_as_its_spec_says() -> None:
    spec = KINDS["dp_glow"]
    ends = vectors(prepare(spec, np.array([[1e9] * 3, [-1e9] * 3]), np.array([0, 0]))).steps
    assert int(np.abs(ends[0] - ends[1]).sum()) == spec.laplace.sensitivity_steps == 2 * 3 * 1024 * 3


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=3, max_size=3),
    label=st.integers(0, 2),
)
def test_the_clip_leaves_the_constant_of_one_hot_as_it_is(values: list[float], label: int) -> None:
    steps = one(KINDS["one_hot laplace"], values, label).steps.reshape(3, -1)
    constant = [0, 0, 0]
    constant[label] = 256
    # Rounding of the other coordinates may pass the ball by a step or two, which shrinks the constant as well.
    assert np.abs(steps[:, 0] - constant).max() <= 1


def test_features_of_a_codebook_have_the_constants_share() -> None:
    steps = one(KINDS["one_hot codebook"], [3.0, 4.0, 0.0], 1).steps.reshape(3, -1) / 2**14
    assert steps[1] == pytest.approx([0.5, math.sqrt(0.75) * 0.6, math.sqrt(0.75) * 0.8, 0], abs=1e-3)
    assert not steps[[0, 2]].any()


@pytest.mark.parametrize("kind", KINDS)
def test_some_rows_are_taken_with_their_labels(kind: str) -> None:
    outputs, labels = np.random.default_rng(1).normal(size=(5, DIMENSION)), np.array([0, 1, 2, 1, 0], np.int64)
    some = prepare(KINDS[kind], outputs, labels).take([3, 0])
    wanted = prepare(KINDS[kind], outputs[[3, 0]], labels[[3, 0]])
    assert vectors(some).steps.tolist() == vectors(wanted).steps.tolist()
    if isinstance(some, ClippedPair):
        assert some.labels.values.tolist() == [1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_draw_the_same(kind: str) -> None:
    value = prepare(KINDS[kind], np.array([[0.1, -0.2, 0.3]]), np.array([2], np.int64))
    first, second = (draw(KINDS[kind], value, [bytes(32)], Counter("x")) for _ in range(2))
    for name in ("steps", "indices"):
        if hasattr(first, name):
            assert getattr(first, name).tolist() == getattr(second, name).tolist()


# --- what is refused


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_another_dimension_are_refused(kind: str) -> None:
    with pytest.raises(ParameterError, match=r"the release takes 3 numbers of an X-ray; found shape \(1, 2\)"):
        prepare(KINDS[kind], np.zeros((1, 2)), np.array([0], np.int64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_there_is_not_is_refused(kind: str, label: int) -> None:
    with pytest.raises(ParameterError, match=r"labels must lie in 0\.\.2"):
        prepare(KINDS[kind], np.zeros((1, 3)), np.array([label], np.int64))


def test_a_pair_and_a_vector_are_not_mistaken_for_each_other() -> None:
    pair = prepare(KINDS["latent"], np.zeros((1, 3)), np.array([0], np.int64))
    vector = prepare(KINDS["laplace"], np.zeros((1, 3)), np.array([0], np.int64))
    with pytest.raises(ParameterError, match="a joint release takes one vector for X-ray and label; found ClippedPair"):
        draw(KINDS["laplace"], pair, [], SystemSource())
    with pytest.raises(ParameterError, match="a latent release takes a vector and a label; found Clipped"):
        draw(KINDS["latent"], vector, [], SystemSource())
    with pytest.raises(ParameterError, match="1 vectors need as many labels; found 2"):
        ClippedPair(vectors(pair), Labels(np.array([0, 1], np.int64), 3))


def test_one_hot_needs_its_constant_and_constants_have_their_ranges() -> None:
    with pytest.raises(ParameterError, match="the one_hot code needs a constant"):
        joint_codebook(epsilon=1, classes=2, bottleneck_dimension=2, label_code="one_hot")
    for constant in (0, 1, "3/2", -1):
        with pytest.raises(ParameterError, match="a share of a unit vector, between 0 and 1; found"):
            joint_codebook(epsilon=1, classes=2, bottleneck_dimension=2, constant=constant)
        with pytest.raises(ParameterError, match="the constant must lie between 0 and the radius 1, found"):
            joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=1, constant=constant)


def test_a_label_that_takes_everything_is_refused() -> None:
    with pytest.raises(ParameterError, match="the label takes epsilon 2 of 2 and leaves nothing for the X-ray"):
        latent(epsilon=2, label_epsilon=2, classes=2, bottleneck_dimension=2, radius=1)


def test_latent_takes_a_ball_and_dp_glow_a_box() -> None:
    ball, box = KINDS["latent"].model_dump(), KINDS["dp_glow"].model_dump()
    with pytest.raises(ValueError, match="a latent release is clipped to an L1 ball"):
        type(KINDS["latent"]).model_validate(
            {**ball, "laplace": KINDS["dp_glow"].laplace, "label": KINDS["latent"].label}
        )
    with pytest.raises(ValueError, match="dp_glow clips each latent to an interval; found an L1 ball"):
        type(KINDS["dp_glow"]).model_validate(
            {**box, "laplace": KINDS["latent"].laplace, "label": KINDS["latent"].label}
        )


# --- what it costs, and its bytes


def test_a_release_without_a_constant_keeps_the_bytes_that_it_always_had() -> None:
    assert "constant" not in KINDS["laplace"].model_dump(mode="json")
    assert KINDS["laplace with constant"].model_dump(mode="json")["constant"] == "1/4"


@pytest.mark.parametrize("kind", KINDS)
def test_a_spec_survives_its_file(kind: str) -> None:
    spec = KINDS[kind]
    again = type(spec).model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.loss == spec.loss


@pytest.mark.parametrize(("epsilon", "share"), [("2", "1"), ("1", "1/3"), ("1/3", "1/7"), ("8", "1/1000")])
def test_the_two_parts_cost_the_whole_together(epsilon: str, share: str) -> None:
    for spec in (
        latent(epsilon=epsilon, label_epsilon=share, classes=3, bottleneck_dimension=2, radius=1),
        dp_glow(epsilon=epsilon, label_epsilon=share, classes=3, latents=4),
    ):
        assert spec.loss.micro_epsilon == math.ceil(Fraction(epsilon) * 10**6)
        assert spec.loss == spec.laplace.loss + spec.label.loss


# --- the traps: what each broken twin would let through


def test_a_float_clip_before_rounding_would_double_the_norm() -> None:
    dimension = 16_384
    spec = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=dimension, radius="8.1", grid="1/1024")
    radius, step = spec.laplace.clip.largest_steps, float(spec.laplace.grid)  # 8,294 steps
    outputs = np.full((1, dimension), 0.505 * step)  # an L1 norm of 8,274 steps: inside the ball, before rounding
    twin = np.rint(outputs / step * min(1.0, radius * step / np.abs(outputs).sum()))
    assert np.abs(twin).sum() > 1.9 * radius
    assert int(l1_norm(vectors(prepare(spec, outputs, np.array([1], np.int64))).steps)[0]) <= radius


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_no_value_that_is_not_finite_survives(kind: str, value: float) -> None:
    here, zero = (one(KINDS[kind], [x, 0.5, -0.25], 1).steps for x in (value, 0.0))
    assert here.tolist() == zero.tolist()


def test_the_most_negative_integers_do_not_pass_as_small() -> None:
    assert int(np.abs(np.array([-(2**15)], np.int16))[0]) < 0  # what abs() would have let through
    for number in (-(2**15), -(2**31), -(2**63)):
        for rule in (L1Clip(radius_steps=10), BoxClip(bound_steps=10), DirectionClip(radius_steps=10)):
            with pytest.raises(ParameterError, match="a vector lies outside"):
                Clipped(np.array([[number]], np.int64), rule)
