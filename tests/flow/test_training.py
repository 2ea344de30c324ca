"""The fast and the frugal likelihood are the plain one, value and gradient; frugal stores no step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ldp_client.errors import EncoderError, ParameterError
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.products import gather, new_gathered, new_spread, spread
from ldp_client.flow.training import Mode, log_prob
from tests.flow.random_flow import generator, random_flow, random_images

SHAPES = [
    Shape(size=16, levels=3, steps=3, width=12),
    Shape(size=8, levels=3, steps=2, width=5),  # the last level is one position
    Shape(size=8, levels=1, steps=2, width=6, channels=3),
]
EXACT = 1e-12


def gradients(flow: Glow, x: Tensor, mode: Mode, network_type: torch.dtype | None = None) -> list[Tensor]:
    flow.zero_grad()
    x = x.clone().requires_grad_()
    values = log_prob(flow, x, mode, network_type)
    # Weights of their own for each image: a gradient that mixes two images would be seen.
    (values * torch.arange(1, len(x) + 1, dtype=x.dtype)).sum().backward()
    found = [p.grad for p in flow.parameters()]
    assert x.grad is not None
    return [values.detach(), x.grad, *(g.clone() for g in found if g is not None)]


@pytest.mark.parametrize("mode", [Mode.FAST, Mode.FRUGAL])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_the_plain_paths_in_float64(shape: Shape, mode: Mode) -> None:
    flow, x = random_flow(shape), random_images(shape, 5)
    plain = gradients(flow, x, Mode.PLAIN)
    ours = gradients(flow, x, mode)
    assert len(ours) == len(plain) == 2 + len(list(flow.parameters()))
    for one, other in zip(ours, plain, strict=True):
        assert (one - other).abs().max() <= EXACT * other.abs().max()


def test_a_gradient_of_the_wrong_sign_would_be_seen() -> None:
    """The twin of the test above: the comparison notices what it must notice."""
    flow, x = random_flow(SHAPES[0]), random_images(SHAPES[0], 5)
    plain = gradients(flow, x, Mode.PLAIN)
    with torch.no_grad():
        flow.typed_levels()[0].typed_steps()[0].norm.bias[0] += 1e-9
    assert any(
        (one - other).abs().max() > EXACT * other.abs().max()
        for one, other in zip(gradients(flow, x, Mode.FAST), plain, strict=True)
    )


def test_frugal_stores_nothing_that_grows_with_the_steps() -> None:
    def stored(mode: Mode, steps: int, images: int) -> int:
        shape = Shape(size=16, levels=1, steps=steps, width=16)
        flow, x = random_flow(shape, torch.float32), random_images(shape, images, torch.float32)
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            log_prob(flow, x, mode)
        return sum(sizes.values())

    def for_an_image(mode: Mode, steps: int) -> float:
        return (stored(mode, steps, 8) - stored(mode, steps, 4)) / 4  # weights are stored for all images alike

    assert for_an_image(Mode.FRUGAL, 8) == for_an_image(Mode.FRUGAL, 2)
    assert for_an_image(Mode.FAST, 8) > 3 * for_an_image(Mode.FAST, 2)
    assert for_an_image(Mode.FRUGAL, 8) < for_an_image(Mode.FAST, 8) / 20


@pytest.mark.parametrize("mode", [Mode.FAST, Mode.FRUGAL])
def test_mixed_precision_is_near_and_leaves_gradients_in_the_flows_type(mode: Mode) -> None:
    flow, x = random_flow(SHAPES[0], torch.float32, spread=0.01), random_images(SHAPES[0], 5, torch.float32)
    exact = gradients(flow, x, mode)
    mixed = gradients(flow, x, mode, torch.bfloat16)
    assert {tensor.dtype for tensor in mixed} == {torch.float32}
    assert 0 < (mixed[0] - exact[0]).abs().max() < 0.05 * exact[0].abs().max()
    # Direction of the whole gradient: the cosine of the angle between both.
    a, b = (torch.cat([g.flatten() for g in found[2:]]) for found in (exact, mixed))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99


def test_mixed_precision_of_the_plain_mode_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"mixed precision in the plain mode, which has none; use fast or frugal"):
        log_prob(random_flow(SHAPES[0]), random_images(SHAPES[0], 1), Mode.PLAIN, torch.bfloat16)


@pytest.mark.parametrize("mode", list(Mode))
def test_images_of_another_shape_are_refused(mode: Mode) -> None:
    with pytest.raises(ParameterError, match=r"this flow takes \(B, 1, 16, 16\)"):
        log_prob(random_flow(SHAPES[0]), torch.zeros(1, 1, 8, 8), mode)
    with pytest.raises(ParameterError, match="B at least 1"):
        log_prob(random_flow(SHAPES[0]), torch.zeros(0, 1, 16, 16), mode)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_flow_that_was_never_initialised_is_refused(mode: Mode) -> None:
    with pytest.raises(EncoderError, match="an ActNorm was never initialised"):
        log_prob(Glow(SHAPES[0]), torch.zeros(1, 1, 16, 16), mode)


def test_gather_reads_neighbours_and_spread_is_its_adjoint() -> None:
    x = torch.randn(2, 4, 5, 3, generator=generator(1), dtype=torch.float64)
    patches = gather(new_gathered(tuple(x.shape), x), x)  # (9 * 2, 4 * 5 * 3)
    expected = torch.nn.functional.unfold(x.permute(3, 0, 1, 2), 3, padding=1)  # (3, 2 * 9, 20)
    torch.testing.assert_close(patches, expected.unflatten(1, (2, 9)).permute(2, 1, 3, 0).reshape(18, 60))
    other = torch.randn(18, 60, generator=generator(2), dtype=torch.float64)
    products = new_spread(tuple(x.shape), x)
    products.rows.copy_(other)
    torch.testing.assert_close((patches * other).sum(), (x * spread(products)).sum())
