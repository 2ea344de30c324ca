"""From released pictures to a folder of files, to networks, and to the bundle that a hospital runs."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from ldp_client.diagnosis.bundle import ClassifierBundle, load
from ldp_client.diagnosis.convolutional import ConvolutionalModel, PictureNet, stored
from ldp_client.errors import ClassifierError, ConfigurationError, FormatError, ParameterError, WaitingError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.privacy.image_spec import CampaignRelease, image
from ldp_client.privacy.release_design import joint_codebook, joint_laplace
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.signing import SigningKey
from server.learning.classifier_bundle import write_classifier
from server.learning.image_bundle import image_card
from server.learning.image_training import ImageRecipe, PictureSet, TrainedOnPictures, train_on_pictures
from server.learning.picture_files import write_pictures
from server.learning.train import TrainingSet

SIDE = 28
PICTURES = image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2), side=SIDE)
RECIPE = ImageRecipe(networks=2, width=16, epochs=12, batch=16)


def a_campaign(release: CampaignRelease = PICTURES, label_names: tuple[str, ...] = ("normal", "pneumonia")) -> Campaign:
    return Campaign(
        name="pictures",
        purpose="find pneumonia",
        encoder=Encoder.load(shipped()).digest,
        release=release,
        label_names=label_names,
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2030-12-31",
    )


def payload(pixels: NDArray[np.uint8], label: int) -> bytes:
    """A record as `ldp_client/wire/record.py` has it: magic, version, kind, side, label, grey values."""
    return struct.pack("<4sBBIH", b"LDPR", 1, 4, SIDE, label) + pixels.tobytes()


def shaded(count: int, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures with stripes across where the label is 1, and upright where it is 0, under half as much noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    stripes = np.broadcast_to(40 * np.sin(np.pi / 2 * np.arange(SIDE))[:, None], (SIDE, SIDE))
    clean = np.where(labels[:, None, None] == 1, stripes, stripes.T)
    return np.clip(128 + clean + rng.normal(0, 20, (count, SIDE, SIDE)), 0, 255).astype(np.uint8), labels


def a_set(count: int = 256) -> PictureSet:
    pixels, labels = shaded(count)
    return PictureSet.from_payloads(a_campaign(), (payload(*one) for one in zip(pixels, labels.tolist(), strict=True)))


@pytest.fixture(scope="module")
def trained() -> TrainedOnPictures:
    return train_on_pictures(a_set(), RECIPE)


@pytest.fixture(scope="module")
def bundle(trained: TrainedOnPictures, tmp_path_factory: pytest.TempPathFactory) -> ClassifierBundle:
    card, weights = image_card("pictures", a_campaign(), trained, "ldp-server model export pictures --out classifier")
    folder = tmp_path_factory.mktemp("bundles") / "classifier"
    write_classifier(card, folder, SigningKey(b"c" * 32), weights)
    return load(folder)


def difference(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores[:, 1] - scores[:, 0]


def prepared(pixels: NDArray[np.uint8]) -> torch.Tensor:
    encoder = Encoder.load(shipped())
    return torch.stack([encoder.prepare(one) for one in pixels])


def test_records_are_unpacked_as_they_were_released() -> None:
    pixels, labels = shaded(12)
    found = a_set(12)
    assert np.array_equal(found.pixels, pixels)
    assert np.array_equal(found.labels, labels)


def test_networks_tell_clean_xrays_apart_as_the_pictures_taught_them(bundle: ClassifierBundle) -> None:
    pixels, labels = shaded(200, seed=2)
    scores = bundle.scores(Encoder.load(shipped()), prepared(pixels))
    assert roc_auc_score(labels, difference(scores)) > 0.95
    assert bundle.card.model.spread() == pytest.approx(float(difference(scores).std()), rel=0.3)


def test_inverted_labels_teach_the_opposite_and_dealt_ones_nothing() -> None:
    pixels, labels = shaded(200, seed=2)
    found = a_set()
    inverted = train_on_pictures(PictureSet(found.campaign, found.pixels, 1 - found.labels), RECIPE)
    scores = difference(inverted.classifier.scores(Encoder.load(shipped()), prepared(pixels)))
    assert roc_auc_score(labels, scores) < 0.05
    dealt = np.random.default_rng(3).permutation(found.labels)
    for value in train_on_pictures(PictureSet(found.campaign, found.pixels, dealt), RECIPE).cross_entropy:
        assert value > 0.6  # log 2 = 0.693 is chance


def test_three_labels_are_told_apart() -> None:
    release = image(joint_codebook(epsilon=2, classes=3, bottleneck_dimension=2), side=SIDE)
    campaign = a_campaign(release, ("normal", "bacterial", "viral"))
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 300)
    wave = 40 * np.sin(np.pi / 2 * np.arange(SIDE))
    shown = np.stack([np.tile(wave, (SIDE, 1)), np.tile(wave, (SIDE, 1)).T, np.zeros((SIDE, SIDE))])[labels]
    pixels = np.clip(128 + shown + rng.normal(0, 20, shown.shape), 0, 255).astype(np.uint8)
    payloads = [payload(one, int(label)) for one, label in zip(pixels, labels, strict=True)]
    found = train_on_pictures(PictureSet.from_payloads(campaign, payloads), replace(RECIPE, networks=1))
    scores = found.classifier.scores(Encoder.load(shipped()), prepared(pixels[:90]))
    assert scores.shape == (90, 3)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        either = np.isin(labels[:90], (one, other))
        found_apart = (scores[:, other] - scores[:, one])[either]
        assert roc_auc_score(labels[:90][either] == other, found_apart) > 0.9


def test_pictures_that_were_not_learnt_from_are_predicted(trained: TrainedOnPictures) -> None:
    assert len(trained.cross_entropy) == 2
    assert max(trained.cross_entropy) < 0.6  # log 2 = 0.693 is chance
    assert trained.records == 256


def test_the_bundle_scores_as_the_networks_did_when_they_were_judged(
    trained: TrainedOnPictures, bundle: ClassifierBundle
) -> None:
    images = prepared(shaded(5)[0])
    encoder = Encoder.load(shipped())
    scores = bundle.scores(encoder, images)
    assert np.array_equal(scores, trained.classifier.scores(encoder, images))
    # Log-probabilities, the mean of two networks and of both mirrored views.
    assert (np.exp(scores).sum(axis=1) <= 1).all()
    assert scores == pytest.approx(bundle.scores(encoder, images.flip(3)), abs=1e-6)
    said = " ".join(bundle.card.lines())
    assert "classifier pictures (convolutional): find pneumonia" in said
    assert "learnt from 256 records of campaign pictures" in said
    assert "image, epsilon 2 per record, X-ray and label together, at most 1 per image" in said
    assert "moves each number" not in said


def test_the_networks_of_a_large_picture_still_fit_an_evaluation() -> None:
    recipe = ImageRecipe()
    for side in (28, 64, 256):
        tensors = stored(PictureNet(side, 2, recipe.width)).values()
        assert recipe.networks * sum(tensor.numel() * tensor.element_size() for tensor in tensors) < 650_000


def test_a_recipe_repeats_and_another_seed_does_not() -> None:
    first, again, other = (
        train_on_pictures(a_set(64), ImageRecipe(networks=1, width=4, epochs=1, seed=seed)) for seed in (0, 0, 1)
    )
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in first.tensors.items())
    assert first.cross_entropy == again.cross_entropy != other.cross_entropy


# --- refusals


def test_too_few_pictures_and_too_many_networks_are_refused() -> None:
    with pytest.raises(WaitingError, match="campaign pictures has 9 pictures; 10 are needed to learn from some"):
        train_on_pictures(a_set(9), RECIPE)
    for networks in (0, 6):
        with pytest.raises(ParameterError, match=f"asked for {networks} networks; each holds out another fifth"):
            train_on_pictures(a_set(20), ImageRecipe(networks=networks))


def test_records_that_are_no_pictures_or_not_there_yet_or_altered_are_refused() -> None:
    numbers = a_campaign(joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1))
    with pytest.raises(ParameterError, match="records of campaign pictures are numbers, no pictures; publish one with"):
        PictureSet.from_payloads(numbers, [])
    with pytest.raises(WaitingError, match="campaign pictures has no records yet; gather first"):
        PictureSet.from_payloads(a_campaign(), [])
    for altered in (payload(shaded(1)[0], 2), payload(shaded(1)[0], 0)[:-1]):
        with pytest.raises(FormatError, match="a stored record does not fit campaign pictures"):
            PictureSet.from_payloads(a_campaign(), [altered])
    with pytest.raises(ParameterError, match="are pictures; `ldp-server model export` learns from those"):
        TrainingSet.from_payloads(a_campaign(), [])


def test_weights_of_other_networks_are_refused(trained: TrainedOnPictures) -> None:
    name = "1.blocks.0.weight"
    for changed in (
        {key: tensor for key, tensor in trained.tensors.items() if key != name},
        trained.tensors | {name: trained.tensors[name][:1]},
        trained.tensors | {name: trained.tensors[name].float()},
    ):
        with pytest.raises(ClassifierError, match=r"weights lack 1\.blocks\.0\.weight or have another shape or type"):
            trained.model.ready(changed)
    with pytest.raises(ClassifierError, match="hold other arrays than those of 2 networks"):
        trained.model.ready(trained.tensors | {"2.blocks.0.weight": torch.zeros(1)})


def test_an_encoder_that_prepares_another_size_is_refused() -> None:
    tensors = {f"0.{name}": tensor for name, tensor in stored(PictureNet(32, 2, 4)).items()}
    model = ConvolutionalModel(classes=2, side=32, width=4, networks=1, scores_spread="1.0")
    with pytest.raises(ClassifierError, match="takes pictures of 32 x 32 pixels; the encoder prepares them of 28 x 28"):
        model.ready(tensors).scores(Encoder.load(shipped()), prepared(shaded(1)[0]))


# --- files


def test_pictures_are_written_as_a_folder_of_png_files_with_their_labels(tmp_path: Path) -> None:
    found = a_set(12)
    write_pictures(found, tmp_path / "new" / "pictures")
    folder = tmp_path / "new" / "pictures"
    rows = (folder / "labels.csv").read_text().splitlines()
    assert rows[0] == "file,label"
    assert len(rows) == 13
    assert len(list(folder.iterdir())) == 13
    for row, pixels, label in zip(rows[1:], found.pixels, found.labels, strict=True):
        name, said = row.split(",")
        assert said == found.campaign.label_names[label]
        with Image.open(folder / name) as written:
            assert written.mode == "L"
            assert np.array_equal(np.asarray(written), pixels)


def test_a_folder_that_exists_or_cannot_be_made_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigurationError, match="asked to write pictures to 'pictures', which exists; name"):
        write_pictures(a_set(10), tmp_path / "pictures")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written \(.*\); name a new folder where you may write"):
        write_pictures(a_set(10), tmp_path / "file" / "pictures")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pictures"]


def test_half_a_folder_is_never_left(tmp_path: Path) -> None:
    found = a_set(10)
    broken = PictureSet(found.campaign, found.pixels, np.full(10, 7))
    with pytest.raises(IndexError):
        write_pictures(broken, tmp_path / "pictures")
    assert list(tmp_path.iterdir()) == []
