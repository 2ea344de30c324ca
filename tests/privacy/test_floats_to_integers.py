"""The whole path from the encoder's floats and a label to the integers that are noised, for each kind of release.

Whatever comes in, what comes out is what the clip promises; with each trap on the way as a twin that is caught.
"""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ldp_client.errors import ParameterError
from ldp_client.privacy.clipping import Clipped, clip, clip_beside, l1_norm, to_grid
from ldp_client.privacy.drawing import ClippedPair, Input, draw, prepare
from ldp_client.privacy.labels import label_codes, unit_features
from ldp_client.privacy.noise import SystemSource
from ldp_client.privacy.randomized_response import Labels
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.privacy.spec import L1Clip

K = 3
RELEASES: dict[str, ReleaseSpec] = {
    "simplex": joint_laplace(epsilon=2, classes=K, bottleneck_dimension=4, radius=1),
    "simplex and constant": joint_laplace(epsilon=2, classes=K, bottleneck_dimension=4, radius=2, constant="1/2"),
    "one_hot": joint_laplace(
        epsilon=2, classes=K, bottleneck_dimension=4, radius=1, label_code="one_hot", constant="1/3"
    ),
    "coarse": joint_laplace(
        epsilon=2, classes=K, bottleneck_dimension=4, radius=1, grid="1/8", label_code="one_hot", constant="1/4"
    ),
    "codebook": joint_codebook(epsilon=2, classes=K, bottleneck_dimension=4, codewords=16),
    "codebook and constant": joint_codebook(
        epsilon=2, classes=K, bottleneck_dimension=4, codewords=16, label_code="one_hot", constant="1/2"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=K, bottleneck_dimension=4, radius=1),
    "dp_glow": dp_glow(epsilon=8, label_epsilon=1, classes=K, latents=4, bound=3),
}
each = pytest.mark.parametrize("name", RELEASES)


def floats(kind: str) -> st.SearchStrategy[NDArray[np.floating]]:
    wanted = np.dtype(kind)
    return arrays.arrays(wanted, (2, 4), elements=arrays.from_dtype(wanted, allow_nan=True, allow_infinity=True))


any_floats = st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "=g"]).flatmap(floats)
labels_of_two = st.lists(st.integers(0, K - 1), min_size=2, max_size=2).map(np.array)


def vectors(value: Input) -> Clipped:
    return value.vectors if isinstance(value, ClippedPair) else value


def exact(steps: NDArray[np.int64]) -> list[list[int]]:
    """As Python's integers, which cannot wrap."""
    return [[int(one) for one in row] for row in steps]


def holds(release: ReleaseSpec, steps: NDArray[np.int64]) -> bool:
    """Whether both rows and their distance are what the release's loss was computed from."""
    one, other = exact(steps)
    if release.kind == "joint_codebook":
        limit = release.codebook.clip.radius_steps
        return all(0 < sum(k * k for k in row) <= limit**2 for row in (one, other))
    rule = release.laplace.clip
    inside = (
        max(sum(map(abs, row)) for row in (one, other)) <= rule.radius_steps
        if isinstance(rule, L1Clip)
        else max(map(abs, one + other)) <= rule.bound_steps
    )
    apart = sum(abs(a - b) for a, b in zip(one, other, strict=True))
    return inside and apart <= rule.sensitivity_steps(len(one)) == release.laplace.sensitivity_steps


@each
@given(outputs=any_floats, labels=labels_of_two)
def test_whatever_the_floats_are_two_inputs_differ_by_no_more_than_was_charged(
    name: str, outputs: NDArray[np.floating], labels: NDArray[np.int64]
) -> None:
    release = RELEASES[name]
    steps = vectors(prepare(release, outputs, labels)).steps
    assert steps.dtype == np.int64
    assert holds(release, steps)


@each
@given(outputs=any_floats)
def test_layout_in_memory_changes_nothing(name: str, outputs: NDArray[np.floating]) -> None:
    release, labels = RELEASES[name], np.array([0, 2])
    wide = np.zeros((4, 12), dtype=outputs.dtype)[::2, ::3]
    wide[...] = outputs
    straight = vectors(prepare(release, outputs, labels)).steps
    assert np.array_equal(vectors(prepare(release, wide, labels)).steps, straight)
    assert np.array_equal(vectors(prepare(release, np.asfortranarray(outputs), labels)).steps, straight)
    swapped = outputs.astype(outputs.dtype.newbyteorder())
    assert np.array_equal(vectors(prepare(release, swapped, labels)).steps, straight)


@pytest.mark.parametrize("name", ["simplex and constant", "one_hot", "coarse"])
@given(outputs=any_floats, labels=labels_of_two)
def test_the_constant_passes_the_integer_clip_as_it_is(
    name: str, outputs: NDArray[np.floating], labels: NDArray[np.int64]
) -> None:
    release = RELEASES[name]
    assert release.kind == "joint_discrete_laplace"
    assert release.constant is not None
    steps = vectors(prepare(release, outputs, labels)).steps.reshape(2, -1, 5)
    codes = label_codes(release.label_code, K)[labels]
    assert np.array_equal(steps[:, :, 0], to_grid(codes * float(release.constant), release.laplace.grid))


def test_a_constant_that_is_clipped_with_the_features_would_be_noticed() -> None:
    """The twin rounds to the grid and then shrinks everything alike, as `clip` does."""
    steps = np.array([[2, 3, 3, 3]])
    rule = L1Clip(radius_steps=8)
    kept = np.array([True, False, False, False])
    assert clip_beside(steps, kept, rule).steps[0].tolist() == [2, 2, 2, 2]
    assert clip(steps, rule).steps[0, 0] == 1


def test_a_constant_without_room_is_shrunk_and_the_bound_holds() -> None:
    kept = np.array([True, False, True])
    assert l1_norm(clip_beside(np.array([[9, 4, -9]]), kept, L1Clip(radius_steps=8)).steps)[0] <= 8


def test_clipping_beside_a_constant_takes_int64_alone() -> None:
    with pytest.raises(ParameterError, match="clipping takes the int64 steps that to_grid returns; found int16"):
        clip_beside(np.zeros((1, 2), dtype=np.int16), np.array([True, False]), L1Clip(radius_steps=8))


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.nan, np.inf], [5e-324, 0.0], [1e-200, 0.0], [1e308, 0.0]])
def test_features_of_any_size_point_somewhere_and_leave_the_constant_its_share(values: list[float]) -> None:
    assert unit_features(np.array([values]), None).tolist() == [[1.0, 0.0]]
    assert unit_features(np.array([values]), 0.6)[0] == pytest.approx([0.6, 0.8, 0.0])


def test_no_xrays_are_no_records() -> None:
    for release in RELEASES.values():
        value = prepare(release, np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
        assert draw(release, value, [], SystemSource()) is not None


# --- the traps, each as a twin that the properties above refuse


def radius_of(release: ReleaseSpec) -> int:
    assert release.kind == "joint_discrete_laplace"
    return release.laplace.clip.largest_steps


def test_twin_that_clips_floats_and_then_rounds_doubles_the_norm() -> None:
    dimension = 16_384
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=dimension, radius="8.1")
    radius, step = release.laplace.clip.largest_steps, float(release.laplace.grid)  # 8,294 steps
    outputs = np.full((2, dimension), 0.505 * step)  # L1 norms of 8,274 steps, inside the ball before rounding
    twin = np.rint(outputs / step * min(1.0, radius * step / np.abs(outputs[0]).sum())).astype(np.int64)
    assert int(l1_norm(twin)[0]) > 1.9 * radius
    assert not holds(release, twin)
    assert holds(release, vectors(prepare(release, outputs, np.array([1, 1]))).steps)


def test_twin_without_a_rule_for_nan_leaves_the_ball() -> None:
    with np.errstate(invalid="ignore"):
        twin = np.full((2, 4), np.nan).astype(np.int64)
    assert not holds(RELEASES["simplex"], np.pad(twin, ((0, 0), (0, 4))))


def test_twin_whose_sensitivity_is_r_instead_of_2r_is_noticed() -> None:
    """Two X-rays reach the distance 2R; so no smaller number is the sensitivity."""
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=4, radius=1)
    one, other = vectors(prepare(release, np.array([[1e9, 0, 0, 0]] * 2), np.array([0, 1]))).steps
    assert int(np.abs(one - other).sum()) == 2 * radius_of(release) == release.laplace.sensitivity_steps
    assert release.laplace.scale == Fraction(2 * radius_of(release), 2)


def test_twin_that_takes_int16_magnitudes_is_noticed() -> None:
    """In int16, |-32768| is -32768: the row would count as inside and pass."""
    row = np.array([[-32768, 0, 0, 0]])
    assert np.abs(row.astype(np.int16)).sum() < 1024
    assert l1_norm(clip(row, L1Clip(radius_steps=1024)).steps)[0] == 1024
    with pytest.raises(ParameterError, match="clipping takes the int64 steps that to_grid returns; found int16"):
        clip(row.astype(np.int16), L1Clip(radius_steps=1024))  # type: ignore[arg-type]


@each
def test_twin_that_noises_first_and_clips_then_cannot_be_written(name: str) -> None:
    release = RELEASES[name]
    value = prepare(release, np.ones((2, 4)), np.array([0, 1]))
    seeds = [bytes(32)] * 2
    drawn = draw(release, value, seeds, SystemSource())
    with pytest.raises(ParameterError, match="release takes"):
        draw(release, drawn, seeds, SystemSource())  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="release takes"):
        draw(release, np.ones((2, 4)), seeds, SystemSource())  # type: ignore[arg-type]


# --- what does not belong together


@each
@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,), (1, 2, 4)])
def test_outputs_of_another_encoder_are_refused(name: str, shape: tuple[int, ...]) -> None:
    text = re.escape(f"the release takes 4 numbers of an X-ray; found shape {shape}")
    with pytest.raises(ParameterError, match=text):
        prepare(RELEASES[name], np.zeros(shape), np.array([0, 1]))


@each
@pytest.mark.parametrize("label", [-1, K])
def test_a_label_that_there_is_not_is_refused_and_not_named(name: str, label: int) -> None:
    with pytest.raises(ParameterError, match=r"^labels must lie in 0\.\.2$"):
        prepare(RELEASES[name], np.zeros((2, 4)), np.array([0, label]))


def test_a_vector_without_its_label_is_refused() -> None:
    release = RELEASES["latent"]
    assert release.kind == "latent"
    with pytest.raises(ParameterError, match="2 vectors need as many labels; found 1"):
        ClippedPair(clip(np.zeros((2, 4), dtype=np.int64), release.laplace.clip), Labels(np.array([0]), K))


def test_rows_keep_their_labels_when_some_are_taken() -> None:
    value = prepare(RELEASES["latent"], np.eye(4)[:3] * 1e9, np.array([0, 1, 2]))
    taken = value.take([2, 0])
    assert isinstance(taken, ClippedPair)
    assert taken.labels.values.tolist() == [2, 0]
    assert np.argmax(taken.vectors.steps, axis=1).tolist() == [2, 0]


@pytest.mark.parametrize("name", RELEASES)
def test_labels_that_would_choose_rows_are_refused(name: str) -> None:
    outputs = np.zeros((2, RELEASES[name].input_dimension))
    for labels in (np.array([True, False]), np.array([0.0, 1.0]), np.array([[0], [1]])):
        with pytest.raises(ParameterError, match=r"labels are a \(N,\) array of int64"):
            prepare(RELEASES[name], outputs, labels)


def test_no_setting_of_numpys_warnings_tells_of_an_xray() -> None:
    with np.errstate(all="raise"):
        for values in ([5e-324, 1.0, 0.0, 0.0], [1e-200, 1e200, 0.0, -1e-300]):
            assert np.isfinite(unit_features(np.array([values]), 0.5)).all()
