"""The frozen flow computes what the flow computes, for any sizes, and nothing about it depends on a neighbour."""

from __future__ import annotations

import pytest
import torch

from ldp_client.errors import EncoderError, ParameterError
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.inference import FrozenGlow
from tests.flow.random_flow import random_flow, random_images

SHAPES = [
    Shape(size=32, levels=3, steps=2, width=16),
    Shape(size=8, levels=3, steps=2, width=5),  # the last level is one position
    Shape(size=24, levels=2, steps=1, width=6, channels=3),  # 12 and 6 positions a side do not divide into 4 cells
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_latents_ladj_and_map_are_the_flows(shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
    flow, x = random_flow(shape, dtype), random_images(shape, 5, dtype)
    frozen = FrozenGlow(flow)
    with torch.inference_mode():
        for found, expected in (
            *zip(frozen.encode(x)[0], flow.encode(x)[0], strict=True),
            (frozen.encode(x)[1], flow.encode(x)[1]),
            (frozen.log_scale_map(x), flow.log_scale_map(x)),
        ):
            assert found.shape == expected.shape
            assert found.dtype == dtype
            assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_no_value_reaches_another_image_of_the_batch(value: float) -> None:
    flow = random_flow(SHAPES[0], torch.float32)
    frozen, x = FrozenGlow(flow), random_images(SHAPES[0], 4, torch.float32)
    alone = frozen.encode(x)[0]
    x[2] = value
    for together, before in zip(frozen.encode(x)[0], alone, strict=True):
        assert torch.equal(together[[0, 1, 3]], before[[0, 1, 3]])


def test_later_changes_of_the_flow_are_not_seen_in_its_steps() -> None:
    flow, x = random_flow(SHAPES[0]), random_images(SHAPES[0], 2)
    frozen = FrozenGlow(flow)
    before = frozen.log_scale_map(x)
    with torch.no_grad():
        flow.typed_levels()[0].typed_steps()[0].norm.bias += 1
    assert torch.equal(frozen.log_scale_map(x), before)


def test_bfloat16_hidden_layers_move_the_map_a_little_and_keep_its_type() -> None:
    flow, x = random_flow(SHAPES[0], torch.float32, spread=0.01), random_images(SHAPES[0], 4, torch.float32)
    exact = FrozenGlow(flow).log_scale_map(x)
    rough = FrozenGlow(flow, hidden=torch.bfloat16).log_scale_map(x)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_images_of_another_shape_are_refused() -> None:
    frozen = FrozenGlow(random_flow(SHAPES[0]))
    for work in (frozen.encode, frozen.log_scale_map):
        with pytest.raises(ParameterError, match=r"this flow takes \(B, 1, 32, 32\)"):
            work(torch.zeros(1, 1, 8, 8))
        with pytest.raises(
            ParameterError, match=r"asked to encode a tensor of shape \(0, 1, 32, 32\); .* B at least 1"
        ):
            work(torch.zeros(0, 1, 32, 32))


def test_a_flow_that_was_never_initialised_is_refused() -> None:
    with pytest.raises(EncoderError, match="an ActNorm was never initialised"):
        FrozenGlow(Glow(SHAPES[0]))
