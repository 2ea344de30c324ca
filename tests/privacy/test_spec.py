"""Mechanism specs: the loss follows from the value alone, and impossible mechanisms cannot be written down."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.privacy.spec import MAX_SCALE, MAX_STEPS, DiscreteLaplaceSpec, L1Clip


def laplace(**changes: object) -> DiscreteLaplaceSpec:
    fields: dict[str, object] = {
        "clip": L1Clip(radius_steps=10),
        "dimension": 2,
        "scale": Fraction(10),
        "grid": Fraction(1, 4),
    }
    return DiscreteLaplaceSpec(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_loss_follows_from_clip_and_scale_and_is_rounded_up() -> None:
    assert laplace().loss == PrivacyLoss.of(2)
    assert laplace(scale=Fraction(30)).loss.micro_epsilon == 666_667
    joint = JointLaplaceSpec(classes=2, bottleneck_dimension=2, laplace=laplace())
    assert joint.loss == laplace().loss


def test_the_dimension_does_not_change_the_loss() -> None:
    assert laplace(dimension=1).loss == laplace(dimension=2**20).loss


def test_the_sensitivity_is_nowhere_a_field_and_cannot_be_passed() -> None:
    for kind in (L1Clip, DiscreteLaplaceSpec, JointLaplaceSpec):
        assert not [name for name in kind.model_fields if "sensitivity" in name or "epsilon" in name]
    assert L1Clip(radius_steps=7).sensitivity_steps(5) == 14
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        laplace(sensitivity_steps=1)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        L1Clip(radius_steps=7, sensitivity_steps=1)  # type: ignore[call-arg]


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        laplace().scale = Fraction(1)


@pytest.mark.parametrize("scale", [Fraction(0), Fraction(-1), "0/1"])
def test_no_noise_is_no_mechanism(scale: object) -> None:
    with pytest.raises(ValidationError, match=r"scale must be positive, found .*: at 0 there would be no noise"):
        laplace(scale=scale)


def test_a_scale_that_the_sampler_refuses_is_refused_before_anything_is_charged() -> None:
    with pytest.raises(ValidationError, match=r"scale must lie below 2\^48 grid steps; take a coarser grid"):
        laplace(scale=Fraction(MAX_SCALE))
    assert laplace(scale=Fraction(MAX_SCALE - 1)).loss.micro_epsilon == 1


def test_a_scale_that_needs_more_than_62_bits_is_refused() -> None:
    with pytest.raises(ValidationError, match="scale must be a fraction of 62-bit numbers"):
        laplace(scale=Fraction(2**62 + 1, 2**62))


def test_a_spec_whose_loss_no_ledger_holds_is_refused() -> None:
    with pytest.raises(ValidationError, match="a privacy loss is a whole number of millionths from 0"):
        laplace(scale=Fraction(1, 2**61))


@pytest.mark.parametrize("grid", [Fraction(0), Fraction(-1), Fraction(1, 2**41), Fraction(2**41)])
def test_a_grid_that_no_encoder_can_mean_is_refused(grid: Fraction) -> None:
    with pytest.raises(ValidationError, match=r"grid must lie between 2\^-40 and 2\^40"):
        laplace(grid=grid)


@pytest.mark.parametrize("radius", [0, -1, MAX_STEPS + 1, 1.0, "1", True])
def test_a_radius_is_a_whole_number_of_steps(radius: object) -> None:
    with pytest.raises(ValidationError, match="radius_steps"):
        L1Clip(radius_steps=radius)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.5, True, None, "0.5.5", "1e9", "1/0", [1]])
def test_scale_and_grid_are_exact(value: object) -> None:
    for field in ("scale", "grid"):
        with pytest.raises(ValidationError, match=r"must be an exact fraction, not a|must be a number such as"):
            laplace(**{field: value})


@pytest.mark.parametrize(("classes", "bottleneck"), [(2, 3), (3, 2), (2, 1)])
def test_a_dimension_that_does_not_match_the_label_code_is_refused(classes: int, bottleneck: int) -> None:
    with pytest.raises(ValidationError, match=f"{classes} classes in the simplex code and {bottleneck} numbers need"):
        JointLaplaceSpec(classes=classes, bottleneck_dimension=bottleneck, laplace=laplace())


@pytest.mark.parametrize("classes", [0, 1, 257])
def test_a_label_has_2_to_256_classes(classes: int) -> None:
    with pytest.raises(ValidationError, match="classes"):
        JointLaplaceSpec(classes=classes, bottleneck_dimension=2, laplace=laplace())


@pytest.mark.parametrize("path", [("kind",), ("label_code",), ("laplace", "kind"), ("laplace", "clip", "kind")])
def test_a_mechanism_that_this_version_does_not_know_is_refused(path: tuple[str, ...]) -> None:
    spec = json.loads(JointLaplaceSpec(classes=2, bottleneck_dimension=2, laplace=laplace()).model_dump_json())
    inner = spec
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = "gaussian"
    # A field of one type says what it should be, a union which kinds it knows.
    with pytest.raises(
        ValidationError, match=r"Input should be|Input tag 'gaussian' found using 'kind' does not match"
    ):
        JointLaplaceSpec.model_validate_json(json.dumps(spec))


@given(
    radius=st.integers(1, MAX_STEPS),
    dimension=st.integers(1, 1000),
    scale=st.fractions(min_value=Fraction(MAX_STEPS, 1000), max_value=2**40, max_denominator=10**6),
    grid=st.fractions(min_value=Fraction(1, 2**20), max_value=2**20, max_denominator=2**20),
)
def test_a_spec_reads_back_from_json_as_the_same_exact_value(
    radius: int, dimension: int, scale: Fraction, grid: Fraction
) -> None:
    inner = DiscreteLaplaceSpec(clip=L1Clip(radius_steps=radius), dimension=dimension, scale=scale, grid=grid)
    spec = JointLaplaceSpec(classes=2, bottleneck_dimension=dimension, laplace=inner)
    again = JointLaplaceSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert (again.laplace.scale, again.laplace.grid, again.loss) == (scale, grid, spec.loss)
    assert again.model_dump_json() == spec.model_dump_json()


@given(
    epsilon=st.fractions(min_value=Fraction(1, 100), max_value=100, max_denominator=1000),
    radius=st.fractions(min_value=Fraction(1, 100), max_value=100, max_denominator=1000),
    classes=st.integers(2, 5),
)
def test_joint_laplace_costs_what_was_asked_and_rounds_the_radius_down(
    epsilon: Fraction, radius: Fraction, classes: int
) -> None:
    spec = joint_laplace(epsilon=epsilon, classes=classes, bottleneck_dimension=3, radius=radius)
    assert spec.loss == PrivacyLoss.of(epsilon)
    assert Fraction(spec.laplace.clip.radius_steps) * spec.laplace.grid <= radius
    assert spec.laplace.dimension == (classes - 1) * 3


@pytest.mark.parametrize("name", ["epsilon", "radius", "grid"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "{name} must be exact: write it in quotes or as a fraction, not as a float; found 0.5"),
        ("half", "{name} must be a number such as 2, 0.5 or 1/3; found 'half'"),
        ("1e400000000", "{name} must be a number such as 2, 0.5 or 1/3; found '1e400000000'"),
    ],
)
def test_joint_laplace_takes_exact_numbers_only(name: str, value: object, text: str) -> None:
    arguments: dict[str, object] = {"epsilon": 2, "radius": 1, "grid": "1/1024", name: value}
    with pytest.raises(ParameterError, match=re.escape(text.format(name=name))):
        joint_laplace(classes=2, bottleneck_dimension=2, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [0, -1, "-1/2"])
def test_joint_laplace_refuses_an_epsilon_that_is_not_positive(epsilon: int | str) -> None:
    with pytest.raises(ParameterError, match=r"epsilon must be positive; found .*\. Without noise there is no release"):
        joint_laplace(epsilon=epsilon, classes=2, bottleneck_dimension=2, radius=1)


@pytest.mark.parametrize(("radius", "grid"), [("1/2048", "1/1024"), (0, 1), (-1, 1), (1, 0), (1, -1)])
def test_joint_laplace_refuses_a_radius_below_one_step(radius: int | str, grid: int | str) -> None:
    with pytest.raises(ParameterError, match="the radius must hold at least one grid step"):
        joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=radius, grid=grid)


def test_joint_laplace_says_which_number_is_impossible() -> None:
    with pytest.raises(
        ParameterError, match=r"the radius holds 1125899906842624 grid steps of at most 2147483647; take a coarser grid"
    ):
        joint_laplace(epsilon=1, classes=2, bottleneck_dimension=2, radius=2**40)
