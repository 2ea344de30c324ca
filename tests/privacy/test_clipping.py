"""From floats to the ball: nothing an encoder can return leaves it, and nothing outside it can be built."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip, integer_root, l1_norm, to_grid
from ldp_client.privacy.spec import MAX_DIMENSION, MAX_STEPS, L1Clip

GRID = Fraction(1, 1024)
FLOATS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
shapes = st.tuples(st.integers(0, 4), st.integers(1, 6))
grids = st.sampled_from([Fraction(1, 2**40), Fraction(1, 1024), Fraction(1, 3), Fraction(1), Fraction(2**40)])
radii = st.sampled_from([1, 2, 3, 1024, 10**6, MAX_STEPS])


def float_arrays() -> st.SearchStrategy[NDArray[np.floating]]:
    """Every float, the special ones often: NaN, both infinities, subnormal, huge, -0."""
    return st.sampled_from(FLOATS).flatmap(
        lambda kind: arrays.arrays(
            np.dtype(kind),
            shapes,
            elements=arrays.from_dtype(np.dtype(kind), allow_nan=True, allow_infinity=True, allow_subnormal=True),
        )
    )


def norm_of(row: NDArray[np.int64]) -> int:
    """In Python's integers, which cannot overflow."""
    return sum(abs(int(value)) for value in row)


@given(float_arrays(), grids, radii)
def test_whatever_floats_come_in_integers_of_the_ball_come_out(
    values: NDArray[np.floating], grid: Fraction, radius: int
) -> None:
    clipped = clip(to_grid(values, grid), L1Clip(radius_steps=radius))
    assert clipped.steps.dtype == np.int64
    assert clipped.steps.shape == values.shape
    assert all(norm_of(row) <= radius for row in clipped.steps)


@given(float_arrays(), radii)
def test_layout_in_memory_changes_nothing(values: NDArray[np.floating], radius: int) -> None:
    rule = L1Clip(radius_steps=radius)
    straight = clip(to_grid(values, GRID), rule).steps
    spread = np.zeros((2 * values.shape[0], 3 * values.shape[1]), dtype=values.dtype)[::2, ::3]
    spread[...] = values
    assert np.array_equal(clip(to_grid(spread, GRID), rule).steps, straight)
    assert np.array_equal(clip(to_grid(np.asfortranarray(values), GRID), rule).steps, straight)
    backwards = values[::-1, ::-1]
    assert np.array_equal(clip(to_grid(backwards, GRID), rule).steps, straight[::-1, ::-1])


@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7FC00000, 0xFFFFFFFF])
def test_no_bit_pattern_of_a_nan_writes_a_warning(bits: int) -> None:
    """Warnings are errors here. A signalling NaN made NumPy warn, and a log line is an answer about an X-ray."""
    values = np.array([[bits, 0x3F800000]], dtype=np.uint32).view(np.float32)
    assert to_grid(values, GRID).tolist() == [[0, 1024]]


def test_non_finite_values_become_zero_and_huge_ones_saturate() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, -0.0]])
    assert to_grid(values, Fraction(1)).tolist() == [[0, 0, 0, MAX_STEPS, -MAX_STEPS, 0, 0]]
    assert to_grid(values, Fraction(1, 2**40))[0, 3] == MAX_STEPS


def test_the_grid_rounds_to_the_nearest_step() -> None:
    assert to_grid(np.array([[0.24, 0.26, -0.26, 1.0]]), Fraction(1, 2)).tolist() == [[0, 1, -1, 2]]


def test_integer_roots_are_exact_beside_every_square_where_a_floats_are_not() -> None:
    """sqrt(k^2 - 1) is k in floats from k = 2^26 + 1 on."""
    numbers = [k * k + near for k in (1, 2, 3, 2**13, 2**26, 2**26 + 1, 94_906_265) for near in (-1, 0, 1)]
    assert int(math.sqrt(max(numbers) - 2)) ** 2 > max(numbers) - 2
    assert integer_root(np.array(numbers)).tolist() == [math.isqrt(number) for number in numbers]


def test_two_encoder_outputs_of_one_batch_do_not_influence_each_other() -> None:
    rule = L1Clip(radius_steps=10)
    rows = np.array([[100, 3], [1, 2], [-7, -8]], dtype=np.int64)
    together = clip(rows, rule).steps
    alone = [clip(rows[index : index + 1], rule).steps[0] for index in range(3)]
    assert np.array_equal(together, alone)


# --- the ball


@given(
    arrays.arrays(np.int64, shapes, elements=st.integers(-MAX_STEPS, MAX_STEPS)),
    radii,
)
def test_clipping_only_ever_shrinks_and_keeps_signs(steps: NDArray[np.int64], radius: int) -> None:
    clipped = clip(steps, L1Clip(radius_steps=radius)).steps
    for before, after in zip(steps.ravel().tolist(), clipped.ravel().tolist(), strict=True):
        assert abs(after) <= abs(before)
        assert after * before >= 0
    for before, after in zip(steps, clipped, strict=True):
        norm = norm_of(before)
        if norm <= radius:
            assert np.array_equal(before, after)
        else:
            exact = [(1 if value > 0 else -1) * (abs(int(value)) * radius // norm) for value in before]
            assert after.tolist() == exact
            # Truncation loses less than one step per coordinate.
            assert norm_of(after) > radius - len(before)


@pytest.mark.parametrize("value", [-(2**31), 2**31, -(2**63), 2**63 - 1, -(2**63) + 1])
def test_the_most_negative_integers_have_no_way_round_the_bound(value: int) -> None:
    """The absolute value of -2^63 is negative, and a norm of it as well: it would pass any test of size."""
    steps = np.array([[value, 0]], dtype=np.int64)
    assert abs(int(clip(steps, L1Clip(radius_steps=7)).steps[0, 0])) == 7
    for clip_rule in (L1Clip(radius_steps=7), L1Clip(radius_steps=MAX_STEPS)):
        with pytest.raises(ParameterError, match=r"a vector lies outside the L1 ball of \d+ steps"):
            Clipped(steps, clip_rule)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", ">i8", "u8", "f8"])
def test_other_types_are_refused_because_their_magnitudes_or_products_wrap(kind: str) -> None:
    """As int16, the absolute value of -32768 is -32768; as int32, 2^20 * 2^20 is 0."""
    with pytest.raises(ParameterError, match="clipping takes the int64 steps that to_grid returns; found"):
        clip(np.zeros((1, 3), dtype=kind), L1Clip(radius_steps=1000))


@pytest.mark.parametrize("shape", [(3,), (), (1, 1, 3)])
def test_what_has_no_rows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=r"to_grid returns; found int64 of shape \("):
        clip(np.zeros(shape, dtype=np.int64), L1Clip(radius_steps=1000))


@pytest.mark.parametrize(
    "steps",
    [
        np.zeros((1, 2), dtype=np.int32),
        np.zeros((1, 2), dtype=np.float64),
        np.zeros((1, 2), dtype=">i8"),
        np.zeros(2, dtype=np.int64),
        np.zeros((1, 1, 2), dtype=np.int64),
        np.broadcast_to(np.zeros((1, 1), dtype=np.int64), (1, MAX_DIMENSION + 1)),
    ],
    ids=["int32", "float64", "big-endian", "one axis", "three axes", "too wide"],
)
def test_only_rows_of_int64_can_be_clipped_vectors(steps: NDArray[np.generic]) -> None:
    with pytest.raises(ParameterError, match=r"clipped vectors are a \(N, d\) array of int64"):
        Clipped(steps, L1Clip(radius_steps=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [[11, 0], [0, -11], [6, -5], [-6, 5], [2**40, -(2**40)]])
def test_a_vector_outside_its_ball_cannot_be_built(row: list[int]) -> None:
    inside = [[0, 0], [10, 0], [-5, 5]]
    Clipped(np.array(inside, dtype=np.int64), L1Clip(radius_steps=10))
    with pytest.raises(ParameterError, match="a vector lies outside the L1 ball of 10 steps"):
        Clipped(np.array([*inside, row], dtype=np.int64), L1Clip(radius_steps=10))


def test_a_clipped_vector_cannot_be_moved_out_of_its_ball_afterwards() -> None:
    mine = np.array([[1, 2]], dtype=np.int64)
    clipped = Clipped(mine, L1Clip(radius_steps=3))
    mine[0, 0] = 100
    assert clipped.steps.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        clipped.steps[0, 0] = 100


def test_norms_are_exact_at_the_largest_vectors_allowed() -> None:
    row = np.full((1, MAX_DIMENSION), -MAX_STEPS, dtype=np.int64)
    assert l1_norm(row).tolist() == [MAX_STEPS * MAX_DIMENSION]
    assert norm_of(clip(row, L1Clip(radius_steps=MAX_STEPS)).steps[0]) <= MAX_STEPS


@pytest.mark.parametrize(("dimension", "reach", "radius"), [(1, 9, 4), (2, 5, 3), (3, 3, 2), (2, 4, 1)])
def test_the_sensitivity_is_the_largest_distance_of_any_two_clipped_vectors(
    dimension: int, reach: int, radius: int
) -> None:
    """Brute force over a whole grid: 2R is never passed, and it is reached."""
    rule = L1Clip(radius_steps=radius)
    everything = np.array(list(itertools.product(range(-reach, reach + 1), repeat=dimension)), dtype=np.int64)
    clipped = np.unique(clip(everything, rule).steps, axis=0)
    distances = np.abs(clipped[:, None, :] - clipped[None, :, :]).sum(axis=2)
    assert int(distances.max()) == rule.sensitivity_steps(2) == 2 * radius


def test_a_twin_that_clips_in_float_and_rounds_afterwards_leaves_the_ball() -> None:
    """The fault this order of steps avoids: 16,384 coordinates of .6 step each round up to one step each."""
    values = np.full((1, 16_384), 0.6)
    radius = int(0.6 * 16_384)
    twin = np.rint(values * min(1.0, radius / np.abs(values).sum())).astype(np.int64)
    assert norm_of(twin[0]) > 1.6 * radius
    assert norm_of(clip(to_grid(values, Fraction(1)), L1Clip(radius_steps=radius)).steps[0]) <= radius
