"""The whole flow: invertible, a density, and a log-scale map that means what it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from ldp_client.errors import EncoderError, ParameterError
from ldp_client.flow.glow import Glow, Shape, dequantise
from ldp_client.flow.layers import ActNorm

SHAPE = Shape(size=8, levels=2, steps=2, width=6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_flow() -> Glow:
    """A flow in float64 with random weights everywhere."""
    flow = Glow(SHAPE).double()
    flow.randomise(generator())
    flow.initialize(torch.rand(32, 1, 8, 8, dtype=torch.float64, generator=generator(1)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator(2)))
    return flow


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64, generator=generator(5))


def flat_encode(flow: Glow, x: Tensor) -> Tensor:
    return torch.cat([z.flatten(1) for z in flow.encode(x)[0]], dim=1)


def test_latents_have_the_announced_shapes_and_as_many_numbers_as_the_image() -> None:
    latents, ladj = small_flow().encode(images())
    assert [tuple(z.shape[1:]) for z in latents] == SHAPE.latent_shapes() == [(2, 4, 4), (8, 2, 2)]
    assert sum(z[0].numel() for z in latents) == 64
    assert ladj.shape == (3,)


def test_decode_undoes_encode_and_encode_undoes_decode() -> None:
    flow, x = small_flow(), images()
    latents, ladj = flow.encode(x)
    back, ladj_back = flow.decode(latents)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(ladj_back, -ladj, rtol=0, atol=1e-8)
    drawn = [torch.randn(2, *s, dtype=torch.float64, generator=generator(8)) for s in SHAPE.latent_shapes()]
    for z, again in zip(drawn, flow.encode(flow.decode(drawn)[0])[0], strict=True):
        torch.testing.assert_close(again, z, rtol=0, atol=1e-8)


def test_ladj_of_encode_and_decode_are_autograds_both_ways() -> None:
    flow, x = small_flow(), images(1)
    jacobian = jacrev(lambda v: flat_encode(flow, v.view(1, 1, 8, 8))[0])(x.flatten())
    latents, ladj = flow.encode(x)
    torch.testing.assert_close(ladj[0], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-8)

    sizes = [z.numel() for z in latents]

    def decode(flat: Tensor) -> Tensor:
        parts = [p.view_as(z) for p, z in zip(torch.split(flat, sizes), latents, strict=True)]
        return flow.decode(parts)[0].flatten()

    flat = torch.cat([z.flatten() for z in latents]).detach()
    jacobian = jacrev(decode)(flat)
    torch.testing.assert_close(flow.decode(latents)[1][0], torch.linalg.slogdet(jacobian)[1], rtol=0, atol=1e-8)


def test_log_prob_is_the_normal_density_of_the_latents_plus_ladj() -> None:
    flow, x = small_flow(), images()
    z = flat_encode(flow, x)
    expected = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(1) + flow.encode(x)[1]
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_bits_per_dim_counts_content_in_bins_and_padding_at_the_density_of_its_noise() -> None:
    flow, x = small_flow(), images()
    noisy, log_q = dequantise(x, 6, generator())
    deviation = 1 / (256 * math.sqrt(12))
    noise = (noisy - x) / deviation
    noise[:, :, 1:7, 1:7] = 0
    padding = -0.5 * noise.square().sum((1, 2, 3)) - 28 * math.log(deviation * math.sqrt(2 * math.pi))
    torch.testing.assert_close(log_q, 36 * math.log(256) + padding)
    expected = (log_q - flow.log_prob(noisy)) / math.log(2) / 36
    torch.testing.assert_close(flow.bits_per_dim(noisy, log_q, content=6), expected)


def test_a_flow_that_knows_nothing_has_eight_bits_per_dim() -> None:
    """Uniform pixels cost 8 bits under their own density, 8.25 under the normal one a fresh flow starts from."""
    flow = Glow(SHAPE)
    flow.randomise(generator())
    x = (torch.randint(0, 256, (64, 1, 8, 8), generator=generator(1)) + 0.5) / 256
    noisy, log_q = dequantise(x, 8, generator(2))
    flow.initialize(noisy)
    assert 8 < flow.bits_per_dim(noisy, log_q, content=8).mean().item() < 8.5


def test_padding_that_the_flow_knows_costs_nothing() -> None:
    """A flow that standardises each position scores its normal noise at the noise's own density."""
    flow = Glow(Shape(size=4, levels=1, steps=1, width=2))
    flow.randomise(generator())
    for module in flow.modules():
        if isinstance(module, ActNorm):
            module.initialised.fill_(1)
    deviation = 1 / (256 * math.sqrt(12))
    with torch.no_grad():
        for step in flow.typed_levels()[0].typed_steps():
            step.mix.permutation.copy_(torch.arange(4))
            for parameter in step.mix.parameters():
                parameter.zero_()
            step.mix.sign.fill_(1)
        flow.top.mean.fill_(0.5 / 256 - 0.5)
        flow.top.log_sd.fill_(math.log(deviation))
        noisy, log_q = dequantise(torch.full((4000, 1, 4, 4), 0.5 / 256), 2, generator())
        bits = flow.bits_per_dim(noisy, log_q, content=2).mean().item()
    # The 12 padded pixels cost nothing; the 4 of the content are uniform in one bin of 256 under a normal density.
    assert bits == pytest.approx(0.5 * math.log2(2 * math.pi * math.e / 12), abs=0.02)


def test_log_scale_map_is_the_pooled_log_s_averaged_with_the_mirrored_image() -> None:
    flow, x = small_flow(), images()
    maps = flow.log_scale_map(x)
    assert maps.shape == (3, SHAPE.map_dimension) == (3, 2 * 2 * 16)
    torch.testing.assert_close(flow.log_scale_map(x.flip(3)), maps)
    # The first coupling acts on 4 x 4 positions, so pooling to 4 x 4 leaves its channel mean as it is.
    first = [flow.traverse(image)[2][0].mean(1).flatten(1) for image in (x, x.flip(3))]
    torch.testing.assert_close(maps[:, :16], (first[0] + first[1]) / 2)


def test_encode_of_an_uninitialised_flow_is_refused() -> None:
    with pytest.raises(EncoderError, match="was never initialised"):
        Glow(SHAPE).encode(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 3, 8, 8), (1, 1, 8, 16)])
def test_a_tensor_of_another_shape_is_refused_in_words(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=r"this flow takes \(B, 1, 8, 8\), B at least 1, as `prepare` makes them"):
        small_flow().encode(torch.zeros(shape))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"flow of 3 levels, 1 steps and width 4 on 28 px"):
        Shape(size=28, levels=3, steps=1, width=4)


def test_samples_are_images_and_temperature_zero_gives_the_one_mode() -> None:
    flow = Glow(SHAPE)
    flow.randomise(generator())
    flow.initialize(torch.rand(32, 1, 8, 8, generator=generator(1)))
    cold = flow.sample(2, 0.0, generator(3))
    assert cold.shape == (2, 1, 8, 8)
    assert torch.equal(cold[0], cold[1])
    warm = flow.sample(2, 0.7, generator(3))
    assert torch.isfinite(warm).all()
    assert not torch.equal(warm[0], warm[1])


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_dequantised_pixels_of_the_content_stay_in_their_bin(bits: int) -> None:
    x = (torch.arange(256, dtype=torch.float32).view(4, 1, 8, 8) + 0.5) / 256
    noisy, log_q = dequantise(x, 8, generator(), bits)
    assert torch.equal((noisy * 2**bits).floor(), (x * 2**bits).floor())
    assert not torch.equal(noisy, x)
    torch.testing.assert_close(log_q, torch.full((4,), 64 * bits * math.log(2)))


def test_fewer_bits_cost_fewer_bits() -> None:
    """Uniform pixels of b bits cost b bits under a flow that knows nothing but their range."""
    flow = Glow(SHAPE)
    flow.randomise(generator())
    x = (torch.randint(0, 256, (256, 1, 8, 8), generator=generator(1)) + 0.5) / 256
    noisy, log_q = dequantise(x, 8, generator(2), bits=3)
    flow.initialize(noisy)
    assert 3 < flow.bits_per_dim(noisy, log_q, content=8).mean().item() < 3.5


@pytest.mark.parametrize(("content", "bits"), [(8, 0), (8, 9), (0, 8), (9, 8)])
def test_impossible_bits_and_content_are_refused(content: int, bits: int) -> None:
    with pytest.raises(ParameterError, match=rf"asked for {bits} of 8 bits and {content} of 8 px; give 1 to 8"):
        dequantise(images(), content, generator(), bits)


def test_colour_images_encode_decode_and_have_their_bits_per_channel() -> None:
    shape = Shape(size=8, levels=2, steps=2, width=6, channels=3)
    flow = Glow(shape).double()
    flow.randomise(generator())
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64, generator=generator(1))
    flow.initialize(x)
    latents, _ = flow.encode(x)
    assert [tuple(z.shape[1:]) for z in latents] == shape.latent_shapes() == [(6, 4, 4), (24, 2, 2)]
    torch.testing.assert_close(flow.decode(latents)[0], x, rtol=0, atol=1e-9)
    noisy, log_q = dequantise(x, 8, generator(2))
    torch.testing.assert_close(log_q, torch.full((5,), 3 * 64 * math.log(256), dtype=torch.float64))
    expected = 8 - flow.log_prob(noisy) / math.log(2) / 192
    torch.testing.assert_close(flow.bits_per_dim(noisy, log_q, content=8), expected)


def test_an_image_from_some_levels_keeps_them_and_draws_the_rest_from_the_prior() -> None:
    flow, x = small_flow(), images()
    latents = flow.encode(x)[0]
    known = {1: latents[1]}
    drawn = flow.decode_known(known, 0.7, generator(4))
    again = flow.encode(drawn)[0]
    torch.testing.assert_close(again[1], latents[1], rtol=0, atol=1e-8)
    assert not torch.allclose(again[0], latents[0])
    assert again[0].std().item() == pytest.approx(0.7, abs=0.15)
    torch.testing.assert_close(flow.decode_known(dict(enumerate(latents)), 0.7, generator(4)), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("known", [{}, {2: torch.zeros(3, 8, 2, 2)}, {1: torch.zeros(3, 8, 4, 4)}])
def test_latents_of_no_level_are_refused(known: dict[int, Tensor]) -> None:
    with pytest.raises(ParameterError, match=r"asked to decode levels .*; give at least one of levels 0 to 1, shaped"):
        small_flow().decode_known(known, 0.7, generator())
