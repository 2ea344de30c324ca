"""What a campaign can release: losses from the spec alone, exact shares, one form in JSON, and what cannot be said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import MICRO, PrivacyLoss
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent, randomized_response
from ldp_client.privacy.release_spec import ReleaseSpec
from ldp_client.privacy.spec import BoxClip, DiscreteLaplaceSpec, L1Clip

ANY: TypeAdapter[ReleaseSpec] = TypeAdapter(ReleaseSpec)
KINDS: dict[str, ReleaseSpec] = {
    "joint": joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1),
    "joint constant": joint_laplace(
        epsilon="2.5", classes=3, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/3"
    ),
    "codebook": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=8),
    "codebook constant": joint_codebook(epsilon=1, classes=2, bottleneck_dimension=8, constant="1/2"),
    "sign": joint_codebook(epsilon=3, classes=2, bottleneck_dimension=1),
    "latent": latent(epsilon=2, label_epsilon="0.7", classes=3, bottleneck_dimension=2, radius=1),
    "dp_glow": dp_glow(epsilon=8, label_epsilon=2, classes=2, latents=1024),
}


def canonical(spec: ReleaseSpec) -> bytes:
    """Sorted keys and no white space, as a campaign has it in its bytes."""
    return json.dumps(json.loads(spec.model_dump_json()), sort_keys=True, separators=(",", ":")).encode()


each = pytest.mark.parametrize("name", KINDS)
epsilons = st.fractions(min_value=Fraction(1, 100), max_value=20, max_denominator=1000)


@each
def test_a_release_reads_back_from_json_as_the_same_value_with_the_same_loss(name: str) -> None:
    spec = KINDS[name]
    again = ANY.validate_json(spec.model_dump_json())
    assert (again, again.loss, type(again)) == (spec, spec.loss, type(spec))
    assert canonical(again) == canonical(spec)


@each
def test_neither_loss_nor_sensitivity_is_a_field(name: str) -> None:
    written = json.dumps(json.loads(KINDS[name].model_dump_json()))
    assert "epsilon" not in written
    assert "sensitivity" not in written


@each
@pytest.mark.parametrize("field", ["epsilon", "loss", "sensitivity_steps"])
def test_a_field_that_nobody_knows_is_refused(name: str, field: str) -> None:
    written = json.loads(KINDS[name].model_dump_json())
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ANY.validate_json(json.dumps({**written, field: 1}))


def test_a_kind_that_this_version_does_not_know_is_refused() -> None:
    with pytest.raises(ValidationError, match="Input tag 'gaussian' found using 'kind' does not match any"):
        ANY.validate_python({"kind": "gaussian"})


def test_a_release_without_a_constant_has_the_bytes_it_always_had() -> None:
    """Campaigns of before are named by these bytes."""
    assert canonical(KINDS["joint"]) == (
        b'{"bottleneck_dimension":2,"classes":2,"kind":"joint_discrete_laplace","label_code":"simplex",'
        b'"laplace":{"clip":{"kind":"l1","radius_steps":1024},"dimension":2,"grid":"1/1024",'
        b'"kind":"discrete_laplace","scale":"1024/1"}}'
    )
    assert b'"constant":"1/3"' in canonical(KINDS["joint constant"])


@given(epsilons)
def test_what_was_asked_is_what_a_joint_release_costs(epsilon: Fraction) -> None:
    laplace = joint_laplace(epsilon=epsilon, classes=2, bottleneck_dimension=2, radius=1)
    assert laplace.loss == PrivacyLoss.of(epsilon)
    spec = joint_codebook(epsilon=epsilon, classes=2, bottleneck_dimension=1)
    # The threshold is rounded down: never more, and less by under a millionth.
    assert PrivacyLoss.of(epsilon).micro_epsilon - spec.loss.micro_epsilon in (0, 1)


@given(epsilon=epsilons, share=st.fractions(min_value=Fraction(1, 50), max_value=Fraction(49, 50), max_denominator=50))
def test_both_parts_add_up_to_epsilon_to_the_last_millionth(epsilon: Fraction, share: Fraction) -> None:
    for spec in (
        latent(epsilon=epsilon, label_epsilon=epsilon * share, classes=3, bottleneck_dimension=2, radius=1),
        dp_glow(epsilon=epsilon, label_epsilon=epsilon * share, classes=3, latents=7),
    ):
        assert spec.loss == spec.laplace.loss + spec.label.loss == PrivacyLoss.of(epsilon)
        assert Fraction(spec.label.loss.micro_epsilon, MICRO) <= epsilon * share + Fraction(1, MICRO)


def test_a_box_costs_in_every_dimension_and_a_ball_does_not() -> None:
    def laplace(clip: L1Clip | BoxClip, dimension: int) -> int:
        spec = DiscreteLaplaceSpec(clip=clip, dimension=dimension, scale=Fraction(6), grid=Fraction(1))
        return spec.loss.micro_epsilon

    assert [laplace(BoxClip(bound_steps=3), d) for d in (1, 10)] == [MICRO, 10 * MICRO]
    assert [laplace(L1Clip(radius_steps=3), d) for d in (1, 10)] == [MICRO, MICRO]
    assert BoxClip(bound_steps=3).sensitivity_steps(10) == 60
    glow = KINDS["dp_glow"]
    assert glow.kind == "dp_glow"
    assert glow.laplace.scale == Fraction(2 * 3 * 1024 * 1024, 6)


BUILDERS: dict[str, tuple[Callable[..., Any], dict[str, object]]] = {
    "joint_laplace": (joint_laplace, {"classes": 2, "bottleneck_dimension": 2, "radius": 1}),
    "joint_codebook": (joint_codebook, {"classes": 2, "bottleneck_dimension": 2}),
    "latent": (latent, {"label_epsilon": "1/2", "classes": 2, "bottleneck_dimension": 2, "radius": 1}),
    "dp_glow": (dp_glow, {"label_epsilon": "1/2", "classes": 2, "latents": 2}),
    "randomized_response": (randomized_response, {"classes": 2}),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (0, "epsilon must be positive; found 0. Without noise there is no release"),
        ("-1/2", "epsilon must be positive; found -1/2"),
        (2.0, "epsilon must be exact: write it in quotes or as a fraction, not as a float; found 2.0"),
        (float("nan"), "epsilon must be exact: write it in quotes or as a fraction, not as a float; found nan"),
        ("much", "epsilon must be a number such as 2, 0.5 or 1/3; found 'much'"),
        (True, "epsilon must be an exact fraction, not a bool; found True"),
        (None, "epsilon must be an exact fraction, not a NoneType; found None"),
        ("10000000", "in which the ledger counts, and at most 1000000; found 10000000"),
    ],
)
def test_an_epsilon_that_is_none_is_refused(name: str, epsilon: object, text: str) -> None:
    build, given_too = BUILDERS[name]
    with pytest.raises(ParameterError, match=re.escape(text)):
        build(epsilon=epsilon, **given_too)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_label_is_none(name: str) -> None:
    build, given_too = BUILDERS[name]
    with pytest.raises(ParameterError, match="a release needs at least 2 labels; found 1"):
        build(epsilon=2, **(given_too | {"classes": 1}))


@pytest.mark.parametrize("build", [latent, dp_glow])
@pytest.mark.parametrize("label_epsilon", [2, "2.000001", 5])
def test_a_label_that_leaves_nothing_for_the_xray_is_refused(build: Callable[..., Any], label_epsilon: object) -> None:
    size = {"latents": 2} if build is dp_glow else {"bottleneck_dimension": 2, "radius": 1}
    with pytest.raises(ParameterError, match="of 2 and leaves nothing for the X-ray; give it less"):
        build(epsilon=2, label_epsilon=label_epsilon, classes=2, **size)


@pytest.mark.parametrize("name", ["joint_laplace", "joint_codebook"])
@pytest.mark.parametrize("constant", [0, 1, "-1/2", 2])
def test_a_constant_outside_its_range_is_refused(name: str, constant: object) -> None:
    build, given_too = BUILDERS[name]
    with pytest.raises(ParameterError, match=rf"between 0 and (1|the radius 1)[;,] found {constant}"):
        build(epsilon=2, constant=constant, **given_too)


@pytest.mark.parametrize("name", ["joint_laplace", "joint_codebook"])
def test_one_hot_needs_a_constant(name: str) -> None:
    build, given_too = BUILDERS[name]
    with pytest.raises(ParameterError, match="the one_hot code needs a constant: without it no class mean can be told"):
        build(epsilon=2, label_code="one_hot", **given_too)


def test_a_constant_that_leaves_no_room_beside_its_label_code_is_refused() -> None:
    """Vertices of the simplex for 9 labels have an L1 norm of up to 2.6: the ball holds less than its radius of it."""
    with pytest.raises(ParameterError, match=r"the constant times its label code needs \d+ steps of the ball's 1024"):
        joint_laplace(epsilon=2, classes=9, bottleneck_dimension=2, radius=1, constant="0.99")


def test_a_constant_below_one_grid_step_is_refused() -> None:
    with pytest.raises(ParameterError, match="the constant is less than one grid step 1/1024, found 1/4096"):
        joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1, constant="1/4096")


@pytest.mark.parametrize(("name", "clip"), [("latent", "box"), ("dp_glow", "l1"), ("joint", "box")])
def test_each_kind_has_its_clip(name: str, clip: str) -> None:
    written = json.loads(KINDS[name].model_dump_json())
    written["laplace"]["clip"] = {"kind": clip, ("bound_steps" if clip == "box" else "radius_steps"): 3}
    with pytest.raises(ValidationError, match=r"clipped to an L1 ball|clips each latent to an interval"):
        ANY.validate_json(json.dumps(written))
