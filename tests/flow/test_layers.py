"""Every bijection obeys the same laws, against autograd's Jacobian in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

from ldp_client.errors import EncoderError
from ldp_client.flow.bijection import Bijection
from ldp_client.flow.glow import Level, Step
from ldp_client.flow.layers import (
    LOG_SCALE_BOUND,
    ActNorm,
    ConditionalPrior,
    Coupling,
    InvertibleConv,
    Squeeze,
    TopPrior,
)

CHANNELS, SIDE, WIDTH, BATCH = 4, 4, 6, 3
TOLERANCE = 1e-9


def scrambled(layer: nn.Module) -> nn.Module:
    """The layer in float64 with random parameters, all ActNorms initialised: no zero may hide a wrong sign."""
    generator = torch.Generator().manual_seed(7)
    layer = layer.double()
    for module in layer.modules():
        if isinstance(module, InvertibleConv):
            module.randomise(generator)
        if isinstance(module, ActNorm):
            module.initialised.fill_(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return layer


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "squeeze": Squeeze,
    "actnorm": lambda: ActNorm(CHANNELS),
    "invertible convolution": lambda: InvertibleConv(CHANNELS),
    "coupling": lambda: Coupling(CHANNELS, WIDTH),
    "coupling of odd channels": lambda: Coupling(3, WIDTH),
    "conditional prior": lambda: ConditionalPrior(CHANNELS),
    "top prior": lambda: TopPrior(CHANNELS, SIDE),
    "step": lambda: Step(CHANNELS, WIDTH),
    "level": lambda: Level(1, 2, WIDTH, last=False),
    "last level": lambda: Level(1, 2, WIDTH, last=True),
}
CHANNELS_OF = {"coupling of odd channels": 3, "level": 1, "last level": 1}


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> tuple[Bijection, Tensor]:
    layer = scrambled(LAYERS[request.param]())
    x = torch.randn(
        BATCH,
        CHANNELS_OF.get(request.param, CHANNELS),
        SIDE,
        SIDE,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
    )
    return layer, x  # type: ignore[return-value]  # nn.Module hides the layer's own forward


def log_det_by_autograd(function: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of each image on its own: (B,)."""
    values: list[Tensor] = []
    for image in x:
        jacobian: Tensor = jacrev(lambda v: function(v[None])[0].flatten())(image)
        values.append(torch.linalg.slogdet(jacobian.reshape(image.numel(), image.numel()))[1])
    return torch.stack(values)


def test_forward_keeps_the_number_of_values_and_returns_one_ladj_per_image(case: tuple[Bijection, Tensor]) -> None:
    layer, x = case
    y, ladj = layer.forward(x)
    assert y.shape[0] == BATCH
    assert y.numel() == x.numel()
    assert ladj.shape == (BATCH,)


def test_inverse_undoes_forward_and_forward_undoes_inverse(case: tuple[Bijection, Tensor]) -> None:
    layer, x = case
    y, _ = layer.forward(x)
    torch.testing.assert_close(layer.inverse(y)[0], x, rtol=0, atol=TOLERANCE)
    other = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(layer.forward(layer.inverse(other)[0])[0], other, rtol=0, atol=TOLERANCE)


def test_forward_ladj_is_the_log_determinant_of_autograds_jacobian(case: tuple[Bijection, Tensor]) -> None:
    layer, x = case
    torch.testing.assert_close(layer.forward(x)[1], log_det_by_autograd(layer.forward, x), rtol=0, atol=TOLERANCE)


def test_inverse_ladj_is_the_log_determinant_of_autograds_jacobian(case: tuple[Bijection, Tensor]) -> None:
    layer, x = case
    y = layer.forward(x)[0].detach()
    torch.testing.assert_close(layer.inverse(y)[1], log_det_by_autograd(layer.inverse, y), rtol=0, atol=TOLERANCE)


def test_neither_direction_changes_state(case: tuple[Bijection, Tensor]) -> None:
    layer, x = case
    assert isinstance(layer, nn.Module)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.inverse(layer.forward(x)[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_an_uninitialised_actnorm_refuses_both_directions_and_stays_uninitialised(direction: str) -> None:
    layer = ActNorm(CHANNELS)
    with pytest.raises(EncoderError, match=r"asked to encode, but an ActNorm was never initialised; pretrain the flow"):
        getattr(layer, direction)(torch.zeros(1, CHANNELS, SIDE, SIDE))
    assert not layer.initialised


def test_initialize_makes_the_batch_standard_and_refuses_a_second_time() -> None:
    layer = ActNorm(CHANNELS).double()
    batch = 5 + 3 * torch.randn(50, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    layer.initialize(batch)
    y, _ = layer(batch)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(CHANNELS).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(CHANNELS).double(), rtol=0, atol=1e-5)
    with pytest.raises(EncoderError, match=r"asked to initialise an ActNorm, which already is; build a new flow"):
        layer.initialize(batch)


def test_initialize_survives_a_channel_that_never_varies() -> None:
    layer = ActNorm(1)
    layer.initialize(torch.zeros(4, 1, 2, 2))
    assert torch.isfinite(layer(torch.zeros(1, 1, 2, 2))[0]).all()


def test_a_random_invertible_convolution_starts_as_a_rotation() -> None:
    layer = InvertibleConv(8).double()
    layer.randomise(torch.Generator().manual_seed(3))
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    y, ladj = layer(x)
    torch.testing.assert_close(y.square().sum(1), x.square().sum(1))
    torch.testing.assert_close(ladj, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-6)
    assert not torch.equal(layer.permutation, torch.arange(8))


def test_a_new_coupling_is_the_identity_and_a_wild_one_stays_bounded() -> None:
    layer = Coupling(CHANNELS, WIDTH)
    x = torch.randn(2, CHANNELS, SIDE, SIDE)
    torch.testing.assert_close(layer(x)[0], x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(3.0)
    assert layer.transform(1e6 * x)[1].abs().max() <= LOG_SCALE_BOUND
