"""A classifier's bundle is read back as it was written, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import CENTRE, a_bundle, a_card, encoder
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from ldp_client.diagnosis.bundle import CARD_FILE, SIGNATURE_FILE, WEIGHTS_FILE, load, read_bundle
from ldp_client.diagnosis.classifier import LinearClassifier, LinearModel
from ldp_client.errors import ClassifierError, ConfigurationError
from ldp_client.imaging.phantoms import phantoms
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.envelope import OneKey
from ldp_client.wire.signing import SigningKey
from server.learning.classifier_bundle import decimal_text, write_classifier


def images(count: int = 3) -> Tensor:
    pixels, _ = phantoms(count, encoder().content, seed=5, pneumonia_share=0.5)
    return torch.stack([encoder().prepare(image) for image in pixels])


def test_a_bundle_scores_as_the_trained_classifier_does(tmp_path: Path) -> None:
    written = a_bundle(tmp_path / "bundle")
    read = load(tmp_path / "bundle")
    assert (read.digest, read.card) == (written.digest, written.card)
    trained = LinearClassifier(
        encoder=encoder().digest,
        campaign="1" * 64,
        label_names=read.card.label_names,
        records=2708,
        mean=(("0.5", "-0.25"),),
    )
    prepared = images()
    assert np.array_equal(read.scores(encoder(), prepared), trained.scores(encoder().encode(prepared)))
    assert read.scores(encoder(), prepared[:0]).shape == (0, 2)


def test_the_centre_that_signed_is_named_and_another_is_not(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "bundle")
    assert bundle.check_signature(OneKey("the centre", CENTRE.public_key)) == "the centre"
    with pytest.raises(ClassifierError, match="not signed by whom it should be: expected a document signed by Other"):
        bundle.check_signature(OneKey("Other", SigningKey(b"d" * 32).public_key))


def test_a_signature_of_another_card_or_none_is_refused(tmp_path: Path) -> None:
    centre = OneKey("the centre", CENTRE.public_key)
    a_bundle(tmp_path / "one")
    a_bundle(tmp_path / "other", name="other")
    (tmp_path / "one" / SIGNATURE_FILE).write_bytes((tmp_path / "other" / SIGNATURE_FILE).read_bytes())
    with pytest.raises(ClassifierError, match=r"classifier\.signed signs another classifier"):
        load(tmp_path / "one").check_signature(centre)
    (tmp_path / "one" / SIGNATURE_FILE).unlink()
    with pytest.raises(ClassifierError, match=r"the bundle has no classifier\.signed; ask the centre"):
        load(tmp_path / "one").check_signature(centre)


def rewritten(change: Callable[[dict[str, object]], object]) -> bytes:
    card = json.loads(canonical_bytes(a_card()))
    change(card)
    return json.dumps(card, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", r"is not a classifier's card: these bytes are no ClassifierCard"),
        (rewritten(lambda card: card.update(model={"kind": "oracle"})), r"first fault at 'model'"),
        (rewritten(lambda card: card.update(label_names=["a", "a"])), "is not a classifier's card"),
        (rewritten(lambda card: card.update(learnt_from=[])), "is not a classifier's card"),
        (rewritten(lambda card: card.update(patient="x")), "is not a classifier's card"),
        (rewritten(lambda card: card["model"].update(mean=[["1", "nan"]])), r"first fault at 'model\.linear\.mean"),  # type: ignore[attr-defined]
        (rewritten(lambda card: card["model"].update(mean=[["1e999"]])), r"first fault at 'model\.linear'"),  # type: ignore[attr-defined]
        (rewritten(lambda card: card["model"].update(mean=[["1", "2"], ["3"]])), r"first fault at 'model\.linear'"),  # type: ignore[attr-defined]
        (canonical_bytes(a_card()) + b"\n", "but not its canonical bytes"),
    ],
)
def test_a_card_that_is_none_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(ClassifierError, match=words):
        read_bundle(body)


def test_weights_that_are_not_the_cards_are_refused(tmp_path: Path) -> None:
    a_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / WEIGHTS_FILE).write_bytes(save({"a": torch.zeros(2)}))
    with pytest.raises(ClassifierError, match=r"weights of classifier pneumonia have digest .* its card says none"):
        load(tmp_path / "bundle")
    with pytest.raises(ClassifierError, match="have digest none, its card says 0000"):
        read_bundle(canonical_bytes(a_card(weights_sha256="0" * 64)))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (b"pickle", "not a safetensors file; only that format is read"),
        (save({"a": torch.tensor([float("nan")])}), "hold values that are not finite"),
        (save({"a": torch.zeros(2)}), "a linear classifier has no weights besides its card; found 1"),
    ],
)
def test_weights_that_no_kind_can_use_are_refused_and_nothing_is_written(
    tmp_path: Path, weights: bytes, words: str
) -> None:
    with pytest.raises(ClassifierError, match=words):
        write_classifier(a_card(), tmp_path / "bundle", CENTRE, weights)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_and_one_that_does_not_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"classifier\.json cannot be read; name a folder with classifier\.json"):
        load(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=r"'.*', which exists; name a new folder"):
        a_bundle(tmp_path)


def test_a_card_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ClassifierError, match=r"classifier\.json is larger than the 1048576 bytes"):
        load(tmp_path)


def test_another_encoder_is_refused_with_both_digests(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "bundle", encoder="a" * 64)
    with pytest.raises(
        ClassifierError, match=f"learnt with the encoder aaaaaaaaaaaa; the one given is {encoder().digest[:12]}"
    ):
        bundle.scores(encoder(), images())


class OneColumn(LinearModel):
    """A kind that gives one score where there are two labels."""

    def ready(self, tensors: Mapping[str, Tensor]) -> OneColumn:  # type: ignore[override]
        return self

    def scores(self, encoder: object, images: Tensor) -> np.ndarray:
        return np.zeros((len(images), 1))


def test_scores_of_another_shape_are_refused(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "bundle")
    object.__setattr__(bundle, "classifier", OneColumn(source="bottleneck", mean=(("1",),)))
    with pytest.raises(ClassifierError, match=r"gave scores of shape \(3, 1\) for 3 X-rays and 2 labels"):
        bundle.scores(encoder(), images())


def test_the_spread_is_the_standard_deviation_of_score_differences_on_whitened_images() -> None:
    model = LinearModel(source="bottleneck", mean=(("0.5", "-0.25"), ("0.1", "0.9")))
    coordinates = np.random.default_rng(1).normal(size=(200_000, 2))
    classifier = LinearClassifier(
        encoder="e" * 64, campaign="1" * 64, label_names=("a", "b", "c"), records=1, mean=model.mean
    )

    def measured(outputs: np.ndarray) -> float:
        scores, pairs = classifier.scores(outputs), [(0, 1), (0, 2), (1, 2)]
        return float(np.sqrt(np.mean([np.var(scores[:, b] - scores[:, a]) for a, b in pairs])))

    # 200,000 draws: the estimate's relative error is below 0.5 % at four standard deviations.
    assert model.spread() == pytest.approx(measured(coordinates), rel=0.01)
    # Where coordinates vary less, it is on the wide side.
    assert model.spread() > 1.3 * measured(coordinates * [0.5, 0.7])


def test_numbers_on_a_card_keep_six_digits() -> None:
    assert [decimal_text(value) for value in (0.0, 0.0123456789, 1.5, 123456789.0)] == [
        "0.000000",
        "0.0123457",
        "1.50000",
        "123456789.0",
    ]
    with pytest.raises(ConfigurationError, match="from 0 to 10\\^12; found nan: nothing was learnt"):
        decimal_text(float("nan"))


def test_a_card_says_what_taught_it_and_what_it_is_not_for() -> None:
    text = "\n".join(a_card().lines())
    for words in ("2708 records of campaign pneumonia-2030", "epsilon 2 per record", "not a medical device", "0.0125"):
        assert words in text
    with pytest.raises(ValidationError):
        a_card(limits="")
