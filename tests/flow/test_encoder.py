"""A bundle loads only when it is whole, its own and initialised; an encoder never changes or raises on values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ldp_client.errors import EncoderError, ParameterError
from ldp_client.flow import encoder as encoder_module
from ldp_client.flow.bottleneck import WHITENED_PCA, Bottleneck, fit_level, fit_whitened_pca
from ldp_client.flow.encoder import (
    BATCH,
    CARD_FILE,
    WEIGHTS_FILE,
    Encoder,
    EncoderCard,
    bundle_tensors,
    read_card,
    shipped,
)
from ldp_client.flow.glow import Glow, Shape, dequantise
from ldp_client.flow.inference import FrozenGlow
from server.learning.public_subset import public_indices

SHAPE = Shape(size=8, levels=2, steps=1, width=4)
Tensors = dict[str, Tensor]


def prepared(count: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 256, (count, 1, 8, 8), generator=generator).float() + 0.5) / 256


def small_flow(initialised: bool = True) -> Glow:
    flow = Glow(SHAPE)
    flow.randomise(torch.Generator().manual_seed(0))
    if initialised:
        flow.initialize(prepared(64, seed=1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return flow


def some_bottleneck(dimension: int = 2) -> Bottleneck:
    maps = np.random.default_rng(0).normal(size=(50, SHAPE.map_dimension))
    return fit_whitened_pca(maps, dimension)


def write(folder: Path, tensors: Tensors, data: bytes | None = None, **card: Any) -> Path:
    """A bundle whose card fits its weights unless told otherwise."""
    data = save(tensors) if data is None else data
    fields = {
        "schema_version": 1,
        "name": "small",
        "data_family": "noise",
        "source": "a generator",
        "training_images": 64,
        "held_out_images": 1,
        "content": 6,
        "size": 8,
        "channels": 1,
        "levels": 2,
        "steps": 1,
        "width": 4,
        "bits_per_dim": "7.9000",
        "bottleneck": WHITENED_PCA,
        "dimension": 2,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "command": "ldp-server encoder train",
        **card,
    }
    folder.mkdir(exist_ok=True)
    (folder / CARD_FILE).write_text(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    (folder / WEIGHTS_FILE).write_bytes(data)
    return folder


@pytest.fixture
def tensors() -> Tensors:
    return bundle_tensors(small_flow(), some_bottleneck())


@pytest.fixture
def folder(tmp_path: Path, tensors: Tensors) -> Path:
    return write(tmp_path / "small", tensors)


def test_a_loaded_encoder_computes_what_the_flow_and_the_bottleneck_did(folder: Path) -> None:
    encoder, images = Encoder.load(folder), prepared(5)
    with torch.inference_mode():
        maps = FrozenGlow(small_flow()).log_scale_map(images).double().numpy()
    np.testing.assert_array_equal(encoder.log_scale_map(images), maps)
    np.testing.assert_array_equal(encoder.encode(images), some_bottleneck()(maps))
    assert encoder.encode(images).dtype == np.float64
    assert encoder.encode(images).shape == (5, encoder.dimension) == (5, 2)
    assert (encoder.size, encoder.content) == (8, 6)


def test_latents_decode_to_the_images(folder: Path) -> None:
    encoder, images = Encoder.load(folder), prepared(70)  # more than one pass
    latents = encoder.latents(images)
    assert [tuple(z.shape) for z in latents] == [(70, 2, 4, 4), (70, 8, 2, 2)]
    torch.testing.assert_close(encoder.decode(latents), images, rtol=0, atol=1e-4)


def test_prepare_uses_the_cards_sizes(folder: Path) -> None:
    image = Encoder.load(folder).prepare(np.full((12, 12), 255, np.uint8))
    assert image.shape == (1, 8, 8)
    assert image[0, 0, 0].item() == 0.5 / 256
    assert image[0, 1, 1].item() == 255.5 / 256


def test_the_digest_is_the_sha256_of_the_card_file(folder: Path) -> None:
    expected = hashlib.sha256((folder / CARD_FILE).read_bytes()).hexdigest()
    assert Encoder.load(folder).digest == read_card(folder).digest == expected


def test_a_card_that_was_rewritten_in_another_layout_is_refused(folder: Path) -> None:
    (folder / CARD_FILE).write_text(json.dumps(json.loads((folder / CARD_FILE).read_text()), indent=2))
    with pytest.raises(EncoderError, match=r"not an encoder's card: .* not its canonical bytes; it was altered"):
        Encoder.load(folder)


def test_the_digest_changes_with_any_weight(tmp_path: Path, folder: Path, tensors: Tensors) -> None:
    tensors["flow.top.mean"] = tensors["flow.top.mean"] + 1e-3
    assert Encoder.load(write(tmp_path / "other", tensors)).digest != Encoder.load(folder).digest


def test_encoding_changes_neither_the_encoder_nor_the_random_state(folder: Path) -> None:
    encoder = Encoder.load(folder)
    before = {name: tensor.clone() for name, tensor in encoder.flow.state_dict().items()}
    state = torch.get_rng_state()
    first = encoder.encode(prepared(3))
    np.testing.assert_array_equal(encoder.encode(prepared(3)), first)
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.flow.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, 0.0])
def test_no_pixel_value_makes_encode_raise_and_neighbours_in_the_batch_stay_as_they_are(
    folder: Path, value: float
) -> None:
    encoder, images = Encoder.load(folder), prepared(3)
    alone = encoder.encode(images)
    images[1] = value
    encoded = encoder.encode(images)
    assert encoded.shape == (3, 2)
    np.testing.assert_array_equal(encoded[[0, 2]], alone[[0, 2]])


def test_no_pass_sees_more_than_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory does not grow with the number of X-rays."""
    encoder, images, seen = Encoder.load(folder), prepared(2 * BATCH + 1), list[int]()
    for name in ("encode", "log_scale_map"):
        work = getattr(encoder.frozen, name)
        monkeypatch.setattr(encoder.frozen, name, lambda x, work=work: seen.append(len(x)) or work(x))
    assert len(encoder.encode(images)) == len(encoder.latents(images)[0]) == len(images)
    assert seen == 2 * [BATCH, BATCH, 1]


def test_an_empty_batch_encodes_to_nothing(folder: Path) -> None:
    assert Encoder.load(folder).encode(torch.empty(0, 1, 8, 8)).shape == (0, 2)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    with pytest.raises(ParameterError, match=r"this flow takes \(B, 1, 8, 8\)"):
        Encoder.load(folder).encode(torch.zeros(2, 1, 16, 16))


def test_a_missing_bundle_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"card.json cannot be read; name a folder with card.json and weights"):
        Encoder.load(tmp_path)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(EncoderError, match=r"weights.safetensors cannot be read"):
        Encoder.load(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "the start"),
        ({"width": "4"}, "width"),
        ({"width": 100_000}, "width"),
        ({"schema_version": 2}, "schema_version"),
        ({"bits_per_dim": 7.9}, "bits_per_dim"),
        ({"weights_sha256": "00"}, "weights_sha256"),
    ],
)
def test_a_card_with_a_field_at_fault_is_refused_by_its_name(
    tmp_path: Path, tensors: Tensors, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(EncoderError, match=rf"card.json is not an encoder's card: .*first fault at '{field}'"):
        Encoder.load(write(tmp_path / "x", tensors, **change))


def test_a_card_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / CARD_FILE).write_bytes(b"\xff{")
    with pytest.raises(EncoderError, match=r"not an encoder's card: .*first fault at 'the start'"):
        Encoder.load(folder)


def test_a_card_of_an_impossible_flow_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    with pytest.raises(EncoderError, match=r"describes no possible flow: asked for a flow of 2 levels"):
        Encoder.load(write(tmp_path / "x", tensors, size=10))


def test_an_unknown_bottleneck_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    with pytest.raises(EncoderError, match=r"names the bottleneck 'magic'; this version knows whitened-pca"):
        Encoder.load(write(tmp_path / "x", tensors, bottleneck="magic"))


def test_oversized_files_are_refused_before_they_are_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(EncoderError, match=r"weights.safetensors is larger than the 100 bytes"):
        Encoder.load(folder)
    (folder / CARD_FILE).write_bytes(b" " * (encoder_module.MAX_CARD_BYTES + 1))
    with pytest.raises(EncoderError, match=r"card.json is larger than the 65536 bytes"):
        Encoder.load(folder)


def flip_last_byte(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("fault", [flip_last_byte, lambda data: data[:-1], lambda data: b""])
def test_altered_or_truncated_weights_are_refused(folder: Path, fault: Callable[[bytes], bytes]) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(fault(path.read_bytes()))
    with pytest.raises(EncoderError, match=r"its card says .*\.\.\.; they are altered or truncated"):
        Encoder.load(folder)


def test_weights_in_another_format_are_refused_though_their_digest_fits(tmp_path: Path, tensors: Tensors) -> None:
    torch.save(tensors, tmp_path / "pickle.pt")
    data = (tmp_path / "pickle.pt").read_bytes()
    with pytest.raises(EncoderError, match=r"are not a safetensors file; only that format is read"):
        Encoder.load(write(tmp_path / "x", tensors, data=data))


def test_a_number_type_that_torch_does_not_have_is_refused(tmp_path: Path, tensors: Tensors) -> None:
    header = json.dumps({"flow.top.mean": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0"
    with pytest.raises(EncoderError, match=r"are not a safetensors file"):
        Encoder.load(write(tmp_path / "x", tensors, data=data))


def without(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[name]

    return change


def replaced(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = make(tensors.get(name, torch.zeros(1)))

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (without("flow.top.mean"), "flow.top.mean"),
        (replaced("flow.foreign", lambda t: t), "flow.foreign"),
        (replaced("flow.top.mean", lambda t: t.double()), "flow.top.mean"),
        (replaced("flow.top.mean", lambda t: t[:1].clone()), "flow.top.mean"),
        (replaced("bottleneck.projection", lambda t: t[:1].clone()), "bottleneck.projection"),
        (replaced("bottleneck.mean", lambda t: t.float()), "bottleneck.mean"),
    ],
)
def test_foreign_weights_are_refused_by_name(
    tmp_path: Path, tensors: Tensors, change: Callable[[Tensors], None], name: str
) -> None:
    change(tensors)
    with pytest.raises(EncoderError, match=rf"not those of the flow its card describes: 1 tensors .* first '{name}'"):
        Encoder.load(write(tmp_path / "x", tensors))


PERMUTATION = "flow.levels.0.steps.0.mix.permutation"
SIGN = "flow.levels.0.steps.0.mix.sign"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            replaced("flow.top.mean", lambda t: t / 0),
            "flow.top.mean of encoder 'small' holds values that are not finite",
        ),
        (
            replaced("bottleneck.mean", lambda t: t * np.nan),
            "bottleneck.mean of encoder 'small' holds values that are not",
        ),
        (replaced(PERMUTATION, torch.zeros_like), f"{PERMUTATION} of encoder 'small' is no permutation"),
        (replaced(SIGN, lambda t: 2 * t), f"{SIGN} of encoder 'small' holds other values than 1 and -1"),
    ],
)
def test_unusable_values_are_refused(
    tmp_path: Path, tensors: Tensors, change: Callable[[Tensors], None], message: str
) -> None:
    change(tensors)
    with pytest.raises(EncoderError, match=message):
        Encoder.load(write(tmp_path / "x", tensors))


def test_a_flow_that_was_never_initialised_does_not_load(tmp_path: Path) -> None:
    tensors = bundle_tensors(small_flow(initialised=False), some_bottleneck())
    with pytest.raises(EncoderError, match=r"encoder 'small' was never initialised \(flow.levels.*.norm.initialised\)"):
        Encoder.load(write(tmp_path / "x", tensors))


def test_one_actnorm_without_its_flag_is_enough_to_refuse(tmp_path: Path, tensors: Tensors) -> None:
    tensors["flow.levels.1.steps.0.norm.initialised"].zero_()
    with pytest.raises(EncoderError, match=r"never initialised \(flow.levels.1.steps.0.norm.initialised\)"):
        Encoder.load(write(tmp_path / "x", tensors))


def test_whitened_pca_gives_unit_variance_uncorrelated_centred_coordinates() -> None:
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(400, 10)) @ rng.normal(size=(10, 10)) + 5
    coordinates = fit_whitened_pca(maps, 3)(maps)
    np.testing.assert_allclose(coordinates.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(coordinates, rowvar=False, bias=True), np.eye(3), atol=1e-10)


def test_whitened_pca_finds_the_widest_directions_first_and_fixes_their_sign() -> None:
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(500, 6)) * np.array([1, 1, 9, 1, 5, 1])
    bottleneck = fit_whitened_pca(maps, 2)
    assert np.abs(bottleneck.projection).argmax(1).tolist() == [2, 4]
    assert (bottleneck.projection[[0, 1], [2, 4]] > 0).all()
    mirrored = fit_whitened_pca(-maps, 2)
    np.testing.assert_allclose(mirrored.projection, bottleneck.projection, atol=1e-12)


@pytest.mark.parametrize(("count", "dimension"), [(3, 3), (10, 0), (10, 7)])
def test_more_coordinates_than_the_maps_span_are_refused(count: int, dimension: int) -> None:
    with pytest.raises(ParameterError, match=rf"asked for {dimension} principal coordinates of {count} maps of 6"):
        fit_whitened_pca(np.random.default_rng(0).normal(size=(count, 6)), dimension)


def test_maps_that_vary_in_one_direction_only_are_refused() -> None:
    line = np.outer(np.arange(10.0), np.ones(6))
    with pytest.raises(ParameterError, match=r"asked for 2 principal coordinates, but the maps vary in fewer"):
        fit_whitened_pca(line, 2)


def test_a_level_gives_whitened_coordinates_of_its_own_part_whatever_the_other_levels_hold() -> None:
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12)) * np.geomspace(1, 1e4, 12) + 7
    bottleneck = fit_level(maps, 3, 2, 2)
    coordinates = bottleneck(maps)
    np.testing.assert_allclose(coordinates.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(np.cov(coordinates, rowvar=False, bias=True), np.eye(2), atol=1e-10)
    elsewhere = maps.copy()
    elsewhere[:, [0, 1, 2, 3, 8, 9, 10, 11]] = 0
    np.testing.assert_allclose(bottleneck(elsewhere), coordinates)
    # By hand: the first eigenvector of the correlations, which the numbers' own scales do not enter.
    part = (maps[:, 4:8] - maps[:, 4:8].mean(0)) / maps[:, 4:8].std(0)
    first = np.linalg.eigh(np.corrcoef(part, rowvar=False))[1][:, -1]
    assert abs(np.corrcoef(part @ first, coordinates[:, 0])[0, 1]) == pytest.approx(1)


def test_a_number_that_never_changes_has_no_weight_in_its_level() -> None:
    maps = np.random.default_rng(4).normal(size=(50, 8))
    maps[:, 5] = 3
    bottleneck = fit_level(maps, 2, 2, 3)
    assert (bottleneck.projection[:, 5] == 0).all()
    assert np.isfinite(bottleneck.projection).all()
    with pytest.raises(ParameterError, match="asked for 4 principal coordinates, but the maps vary in fewer"):
        fit_level(maps, 2, 2, 4)


@pytest.mark.parametrize("level", [0, 3])
def test_a_level_that_the_flow_lacks_is_refused(level: int) -> None:
    with pytest.raises(ParameterError, match=f"asked for level {level} of a flow that has 2; give 1, the finest, to 2"):
        fit_level(np.zeros((9, 8)), 2, level, 1)


def test_an_encoder_that_does_not_ship_is_refused_with_those_that_do() -> None:
    with pytest.raises(EncoderError, match=r"asked for the shipped encoder 'other'; this package ships kermany28"):
        shipped("other")


@pytest.fixture(scope="module")
def pneumoniamnist(data_dir: Path) -> dict[str, NDArray[Any]]:
    with np.load(data_dir / "pneumoniamnist.npz") as arrays:
        return dict(arrays)


def encoded(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return encoder.encode(torch.stack([encoder.prepare(image) for image in images]))


def held_out(encoder: Encoder, public: NDArray[np.uint8], seed: int) -> tuple[Tensor, Tensor]:
    """The X-rays that training never saw, dequantised, and the log density of the noise."""
    chosen = public[: encoder.card.held_out_images]
    prepared = torch.stack([encoder.prepare(image) for image in chosen])
    return dequantise(prepared, encoder.content, torch.Generator().manual_seed(seed))


def assert_card_states_its_bits(encoder: Encoder, public: NDArray[np.uint8]) -> None:
    noisy, log_q = held_out(encoder, public, seed=1)
    with torch.inference_mode():
        parts = zip(torch.split(noisy, 50), torch.split(log_q, 50), strict=True)
        bits = torch.cat([encoder.flow.bits_per_dim(*part, encoder.content) for part in parts]).mean().item()
    assert abs(bits - float(encoder.card.bits_per_dim)) < 0.005


# Distance between the distribution functions of all latents and N(0, 1). A deviation that is off by a quarter gives
# max |Phi(z / 1.25) - Phi(z)| = .053.
LATENT_DISTANCE = 0.03


def latent_distance(levels: list[Tensor], factor: float = 1.0) -> float:
    return float(kstest(factor * torch.cat([z.flatten() for z in levels]).double().numpy(), "norm").statistic)


@pytest.fixture(scope="module")
def public(data_dir: Path) -> NDArray[np.uint8]:
    """The public images of cxr64, in the order in which training takes them."""
    with np.load(data_dir / "cxr64.npz") as arrays:
        images: NDArray[np.uint8] = arrays["images"][arrays["split"] == "public"]
    return images[public_indices(images, len(images))]


@pytest.mark.real
class TestShippedAt64OnRealXRays:
    """What docs/encoder.md says about the encoder of 64 px."""

    def test_its_card_states_its_held_out_bits_per_dim(self, public: NDArray[np.uint8]) -> None:
        assert_card_states_its_bits(Encoder.load(shipped("kermany64-groups")), public)

    def test_it_inverts_in_float32(self, public: NDArray[np.uint8]) -> None:
        encoder = Encoder.load(shipped("kermany64-groups"))
        noisy, _ = held_out(encoder, public[:64], seed=2)
        assert (encoder.decode(encoder.latents(noisy)) - noisy).abs().max() <= 1e-4

    def test_latents_of_held_out_xrays_are_standard_normal(self, public: NDArray[np.uint8]) -> None:
        encoder = Encoder.load(shipped("kermany64-groups"))
        latents = encoder.latents(held_out(encoder, public, seed=3)[0])
        assert latent_distance(latents) < LATENT_DISTANCE
        assert latent_distance(latents, 1.25) > LATENT_DISTANCE


@pytest.mark.real
class TestShippedOnRealXRays:
    """What docs/encoder.md says about the shipped encoder."""

    def test_its_coordinates_are_centred_on_the_public_images_and_the_first_vary_most(
        self, pneumoniamnist: dict[str, NDArray[Any]]
    ) -> None:
        images = pneumoniamnist["train_images"]
        coordinates = encoded(Encoder.load(shipped()), images[public_indices(images)])
        assert coordinates.shape == (2000, 16)
        spread = coordinates.std(0)
        np.testing.assert_allclose(coordinates.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(spread[0], 1, atol=1e-3)
        assert (np.diff(spread) < 1e-3).all()

    def test_its_card_states_its_held_out_bits_per_dim(self, pneumoniamnist: dict[str, NDArray[Any]]) -> None:
        """To 0.005: another draw of the dequantisation noise than in pretraining."""
        images = pneumoniamnist["train_images"]
        assert_card_states_its_bits(Encoder.load(shipped()), images[public_indices(images)])

    def test_latents_of_held_out_xrays_are_standard_normal(self, pneumoniamnist: dict[str, NDArray[Any]]) -> None:
        encoder, images = Encoder.load(shipped()), pneumoniamnist["train_images"]
        latents = encoder.latents(held_out(encoder, images[public_indices(images)], seed=3)[0])
        assert latent_distance(latents) < LATENT_DISTANCE
        assert latent_distance(latents, 1.25) > LATENT_DISTANCE

    def test_the_hospitals_class_means_tell_pneumonia_on_test_images(
        self, pneumoniamnist: dict[str, NDArray[Any]]
    ) -> None:
        """Without noise, the first four coordinates: AUC .954."""
        encoder, images = Encoder.load(shipped()), pneumoniamnist["train_images"]
        hospital = np.setdiff1d(np.arange(len(images)), public_indices(images))
        coordinates = encoded(encoder, images[hospital])[:, :4]
        labels = pneumoniamnist["train_labels"][hospital].ravel()
        direction = coordinates[labels == 1].mean(0) - coordinates[labels == 0].mean(0)
        scores = encoded(encoder, pneumoniamnist["test_images"])[:, :4] @ direction
        assert roc_auc_score(pneumoniamnist["test_labels"].ravel(), scores) > 0.94


class TestShipped:
    """The encoder in the package."""

    def test_it_loads_is_what_its_card_says_and_small(self) -> None:
        encoder = Encoder.load(shipped())
        card = encoder.card
        assert (card.name, card.data_family, card.content, card.size) == ("kermany28", "kermany", 28, 32)
        assert (card.levels, card.steps, card.width, card.dimension) == (3, 8, 64, 16)
        assert card.training_images + card.held_out_images == 2000
        assert sum(file.stat().st_size for file in shipped().iterdir()) <= 3_000_000
        assert EncoderCard.model_validate_json(card.model_dump_json()) == card

    def test_its_latents_decode_to_the_image(self) -> None:
        encoder = Encoder.load(shipped())
        rows, columns = np.mgrid[-1:1:40j, -1:1:28j]
        lungs = 200 - 120 * np.exp(-8 * ((np.abs(columns) - 0.5) ** 2 + rows**2 / 3))
        noise = np.random.default_rng(0).normal(0, 4, (2, 40, 28))
        images = torch.stack([encoder.prepare(image) for image in (lungs + noise).astype(np.uint8)])
        back = encoder.decode(encoder.latents(images))
        assert (back - images).abs().max() < 0.5 / 256

    def test_white_noise_which_the_flow_expands_without_end_still_encodes(self) -> None:
        encoder = Encoder.load(shipped())
        pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
        coordinates = encoder.encode(torch.stack([encoder.prepare(image) for image in pixels]))
        assert coordinates.shape == (20, 16)

    def test_images_alone_and_in_batches_give_the_same_integers_nearly_always(self) -> None:
        """On a grid of 2^-10; at most one coordinate in a hundred may fall to the other side of a rounding border."""
        encoder = Encoder.load(shipped())
        rng = np.random.default_rng(0)
        smooth = np.kron(rng.integers(0, 200, (50, 7, 7)), np.ones((4, 4), int)) + rng.integers(0, 50, (50, 28, 28))
        images = torch.stack([encoder.prepare(image.astype(np.uint8)) for image in smooth])
        together = encoder.encode(images)
        alone = np.concatenate([encoder.encode(image[None]) for image in images])
        assert np.abs(together - alone).max() < 1e-3
        assert (np.rint(together * 1024) != np.rint(alone * 1024)).mean() <= 0.01
