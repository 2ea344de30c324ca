"""Layer by layer and for one block, the flow agrees with `normflows`, which others wrote, given the same weights.

normflows counts from latents to images, so its `inverse` is our `forward`. Its coupling multiplies by exp(-scale) where
ours has log s = 2 tanh(raw / 2): the oracle's network is its own, with the same weights, and its output is bounded as
ours before it goes into its coupling.
"""

from __future__ import annotations

import normflows as nf
import pytest
import torch
from torch import Tensor, nn

from ldp_client.flow.glow import Step
from ldp_client.flow.layers import LOG_SCALE_BOUND, ActNorm, Coupling, InvertibleConv, Squeeze
from tests.flow.random_flow import generator

CHANNELS, WIDTH, SIDE = 6, 10, 8
CLOSE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore:torch.lu is deprecated")


@pytest.fixture
def step() -> Step:
    step = Step(CHANNELS, WIDTH)
    step.mix.randomise(generator(3))
    step.norm.initialised.fill_(1)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(4)))
    return step


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, CHANNELS, SIDE, SIDE, generator=generator(6))


def their_norm(norm: ActNorm) -> nn.Module:
    theirs = nf.flows.ActNorm((CHANNELS, 1, 1))
    theirs.data_dep_init_done = torch.tensor(1.0)
    theirs.s.data, theirs.t.data = -norm.log_scale.data[None], -norm.bias.data[None]
    return theirs


def their_mix(mix: InvertibleConv) -> nn.Module:
    theirs = nf.flows.Invertible1x1Conv(CHANNELS, use_lu=True)
    theirs.P.copy_(torch.eye(CHANNELS)[mix.permutation])
    theirs.L.data, theirs.U.data = mix.lower.data.clone(), mix.upper.data.clone()
    theirs.sign_S.copy_(mix.sign)
    theirs.log_S.data = mix.log_diagonal.data
    return theirs


class BoundedNetwork(nn.Module):
    """Their network with our weights; shift and scale in turns, as their coupling reads them."""

    def __init__(self, coupling: Coupling) -> None:
        super().__init__()
        self.network = nf.nets.ConvNet2d((coupling.kept, WIDTH, WIDTH, 2 * coupling.changed), (3, 1, 3), 0.0)
        convolutions = [layer for layer in self.network.net if isinstance(layer, nn.Conv2d)]
        ours = coupling.weights(torch.float32)
        for layer, weight, bias in zip(convolutions, ours[::2], ours[1::2], strict=True):
            layer.weight.data, layer.bias.data = weight, bias

    def forward(self, kept: Tensor) -> Tensor:
        shift, raw = self.network(kept).chunk(2, dim=1)
        log_s = LOG_SCALE_BOUND * torch.tanh(raw / LOG_SCALE_BOUND)
        return torch.stack((-shift, -log_s), dim=2).flatten(1, 2)


def their_coupling(coupling: Coupling) -> nn.Module:
    return nf.flows.AffineCouplingBlock(BoundedNetwork(coupling), scale=True, scale_map="exp", split_mode="channel")


def their_block(step: Step) -> nn.Module:
    block = nf.flows.GlowBlock(CHANNELS, WIDTH, scale=True, scale_map="exp", split_mode="channel")
    block.flows = nn.ModuleList([their_coupling(step.coupling), their_mix(step.mix), their_norm(step.norm)])
    return block


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(ours[1], torch.as_tensor(theirs[1]).expand(len(ours[1])), rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("part", ["norm", "mix", "coupling"])
def test_each_layer_agrees_both_ways(step: Step, x: Tensor, part: str) -> None:
    ours = getattr(step, part)
    theirs = {"norm": their_norm, "mix": their_mix, "coupling": their_coupling}[part](ours)
    with torch.no_grad():
        assert_same(ours.forward(x), theirs.inverse(x))
        assert_same(ours.inverse(x), theirs.forward(x))


def test_a_whole_block_agrees_both_ways(step: Step, x: Tensor) -> None:
    block = their_block(step)
    with torch.no_grad():
        assert_same(step.forward(x), block.inverse(x))
        assert_same(step.inverse(x), block.forward(x))


def test_a_block_with_another_weight_does_not_agree(step: Step, x: Tensor) -> None:
    block = their_block(step)
    with torch.no_grad():
        step.mix.lower[1, 0] += 0.01
        assert (step.forward(x)[0] - block.inverse(x)[0]).abs().max() > 10 * CLOSE


def test_squeeze_agrees(x: Tensor) -> None:
    assert torch.equal(Squeeze().forward(x)[0], nf.flows.Squeeze().inverse(x)[0])
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(Squeeze().inverse(x)[0], nf.flows.Squeeze().forward(x)[0])
