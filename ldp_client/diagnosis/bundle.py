"""The classifier that a hospital gets: a folder with a card, weights where its kind has some, and a signature.

`classifier.json` is the model card and the classifier in one canonical document; its SHA-256 is the classifier's
digest, and it carries the digest of `weights.safetensors`. `classifier.signed` holds the same bytes in the centre's
envelope. Nothing in a bundle is executed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from ldp_client.diagnosis.calibration import MILLION, Calibration, PerMillion
from ldp_client.diagnosis.classifier import Classifier, LinearModel
from ldp_client.diagnosis.convolutional import ConvolutionalModel
from ldp_client.errors import ClassifierError, EnvelopeError, FormatError
from ldp_client.flow.encoder import Encoder
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.wire.campaign import LabelName, Name, Unit
from ldp_client.wire.canonical import Digest, MicroEpsilon, PlainText, Position, Wire, parse
from ldp_client.wire.envelope import CLASSIFIER, Keyring, open_envelope

CARD_FILE = "classifier.json"
WEIGHTS_FILE = "weights.safetensors"
SIGNATURE_FILE = "classifier.signed"
MAX_CARD_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 64 << 20

LIMITS = (
    "Research use, not a medical device: it must not decide, or help to decide, about a patient. Scores order X-rays; "
    "they are no probabilities. It knows the labels listed and no other finding, and was learnt from frontal chest "
    "X-rays of the sites that took part: for other views, ages or machines nothing is known."
)

Text = Annotated[PlainText, StringConstraints(min_length=1, max_length=2000)]
PositiveNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}\.[0-9]{1,12}$")]
# Each kind is one more member: `Model = LinearModel | ...`, told apart by `kind`. Unknown kinds are refused.
Model = Annotated[LinearModel | ConvolutionalModel, Field(discriminator="kind")]


SharesFrom = Literal["estimated", "hospitals", "given"]


class LearntFrom(Wire):
    """One campaign whose records taught it, and what each of them cost: X-ray and label together."""

    campaign: Digest
    name: Name
    mechanism: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")]
    records: Position
    micro_epsilon_per_record: MicroEpsilon
    unit: Unit
    cap: Position


class TaughtBy(Wire):
    """Public X-rays without labels that a student learnt from, which the records' classifier labelled.

    `pixels_sha256` is the digest of their pixels; of the `coordinates` that the student reads, `released` were in the
    records; `shares` are those that the student took the labels among them to
    have: estimated from the records, taken over from the hospitals, or given by whoever made the bundle.
    """

    xrays: Position
    pixels_sha256: Digest
    coordinates: Position
    released: Position
    shares: Annotated[tuple[PerMillion, ...], Field(min_length=2, max_length=256)]
    shares_from: SharesFrom

    @model_validator(mode="after")
    def _possible(self) -> TaughtBy:
        # Each is rounded to a millionth.
        if abs(sum(self.shares) - MILLION) > len(self.shares):
            raise ValueError("the shares of the labels add up to 1")
        if self.released > self.coordinates:
            raise ValueError(f"a student reads at least the {self.released} coordinates that were released")
        return self

    def line(self, label_names: tuple[str, ...]) -> str:
        """It for people."""
        told = zip(label_names, self.shares, strict=True)
        shown = ", ".join(f"{name} {share / 10_000:.0f} %" for name, share in told)
        return (
            f"taught further by a student on {self.xrays} public X-rays without labels (pixels "
            f"{self.pixels_sha256[:12]}), {self.coordinates} coordinates, of which the records had {self.released}; it "
            f"assumes these shares of the labels among them ({self.shares_from}): {shown}. Where they are others, it "
            "makes the classifier worse"
        )


class WeighedBy(Wire):
    """Public X-rays without labels on which a head was fitted, which weighs what the records say of each coordinate.

    `pixels_sha256` is the digest of their pixels; of the `coordinates` that the head scores, `released` were in the
    records.
    """

    xrays: Position
    pixels_sha256: Digest
    coordinates: Position
    released: Position

    @model_validator(mode="after")
    def _possible(self) -> WeighedBy:
        if self.released > self.coordinates:
            raise ValueError(f"a head scores at least the {self.released} coordinates that were released")
        return self

    def line(self) -> str:
        """It for people."""
        return (
            f"weighed by a head on {self.xrays} public X-rays without labels (pixels {self.pixels_sha256[:12]}), "
            f"{self.coordinates} coordinates, of which the records had {self.released}: the less, the likelier it is "
            "noise"
        )


class ClassifierCard(Wire):
    """What a classifier is, what taught it, what it must not be used for, and the classifier itself. No floats."""

    # A matrix of 256 labels and as many numbers each, or what else fits into MAX_CARD_BYTES.
    most_commas: ClassVar[int] = 1 << 17
    schema_version: Literal[1] = 1
    name: Name
    purpose: Text
    encoder: Digest
    label_names: tuple[LabelName, ...]
    learnt_from: tuple[LearntFrom, ...]
    noise_error: PositiveNumber | None = None
    """How far the privacy noise alone moves each coordinate of the records' mean: one standard deviation. The numbers
    that the classifier has follow from that mean; where they are class means, which are told apart by labels that are
    noised too, they move further. Not for a kind that has no coordinates of its own.
    """
    spread: PositiveNumber
    """Standard deviation of the difference of two classes' scores on public X-rays, where an evaluation puts its bins.
    """
    limits: Text = LIMITS
    model: Model
    weights_sha256: Digest | None = None
    command: Text
    """The command that made this bundle, without the folders of whoever gave it."""
    head: WeighedBy | None = None
    student: TaughtBy | None = None
    calibration: Calibration | None = None
    """What an evaluation at the sites made of the scores: probabilities."""

    @model_serializer(mode="wrap")
    def _as_written_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The fields came later: a card without them keeps the bytes, and the digest, that it always had.
        written: dict[str, Any] = handler(self)
        for name in ("head", "student", "calibration"):
            if getattr(self, name) is None:
                del written[name]
        return written

    @model_validator(mode="after")
    def _consistent(self) -> ClassifierCard:
        if len(self.label_names) != self.model.classes or len(set(self.label_names)) != self.model.classes:
            raise ValueError(f"{self.model.classes} classes need as many different label names")
        if not self.learnt_from:
            raise ValueError("a classifier was learnt from at least one campaign")
        if self.student is not None and len(self.student.shares) != self.model.classes:
            raise ValueError("a student has a share for each label")
        scored = len(self.model.mean[0]) if isinstance(self.model, LinearModel) else 0
        for taught in (self.head, self.student):
            if taught is not None and taught.coordinates != scored:
                raise ValueError("a head or a student reads the coordinates that the classifier scores")
        if self.calibration is not None:
            self.calibration.check_labels(self.label_names)
        return self

    def lines(self) -> list[str]:
        """The card for people."""
        text = [
            f"classifier {self.name} ({self.model.kind}): {self.purpose}",
            f"labels: {', '.join(self.label_names)}",
            f"encoder: {self.encoder}",
        ]
        for source in self.learnt_from:
            text.append(
                f"learnt from {source.records} records of campaign {source.name} ({source.campaign[:12]}), "
                f"{source.mechanism}, epsilon {PrivacyLoss(source.micro_epsilon_per_record)} per record, X-ray and "
                f"label together, at most {source.cap} per {source.unit}"
            )
        if self.head is not None:
            text.append(self.head.line())
        if self.student is not None:
            text.append(self.student.line(self.label_names))
        if self.noise_error is not None:
            text.append(
                f"the privacy noise moves each coordinate of the records' mean by {self.noise_error} (one standard "
                "deviation); how far it moves what was learnt from that mean is not stated"
            )
        if self.calibration is not None:
            text += self.calibration.lines()
        text.append(f"limits: {self.limits}")
        return text


@dataclass(frozen=True, eq=False)
class ClassifierBundle:
    """A classifier that passed every check of `load` or `read_bundle`."""

    card: ClassifierCard
    classifier: Classifier
    card_bytes: bytes
    weights: bytes
    signature: bytes | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the card, which fixes the weights as well."""
        return hashlib.sha256(self.card_bytes).hexdigest()

    def check_encoder(self, encoder: Encoder) -> None:
        """Return if this is the encoder that the classifier was learnt with.

        Raises:
            ClassifierError: it is another; what it makes of an X-ray would mean nothing to the classifier.
        """
        if encoder.digest != self.card.encoder:
            raise ClassifierError(
                f"the classifier {self.card.name} was learnt with the encoder {self.card.encoder[:12]}; the one given "
                f"is {encoder.digest[:12]}. Install that encoder's bundle and name it"
            )

    def scores(self, encoder: Encoder, images: Tensor) -> NDArray[np.float64]:
        """Scores of prepared X-rays (N, 1, size, size), one column for each label. Shape (N, K).

        Raises:
            ClassifierError: another encoder, or the classifier gave something else than N rows of K numbers.
        """
        self.check_encoder(encoder)
        scores = self.classifier.scores(encoder, images)
        if scores.shape != (len(images), len(self.card.label_names)):
            raise ClassifierError(
                f"the classifier gave scores of shape {scores.shape} for {len(images)} X-rays and "
                f"{len(self.card.label_names)} labels; ask the centre for another bundle"
            )
        return scores

    def check_signature(self, keyring: Keyring) -> str:
        """Who signed this bundle, one of those in the keyring.

        Raises:
            ClassifierError: there is no signature, or it is not theirs, or not over this card.
        """
        if self.signature is None:
            raise ClassifierError(
                f"the bundle has no {SIGNATURE_FILE}; ask the centre for it, "
                "or compare the classifier's digest with its publisher"
            )
        try:
            name, payload = open_envelope(self.signature, CLASSIFIER, keyring)
        except (EnvelopeError, FormatError) as error:
            raise ClassifierError(f"the classifier is not signed by whom it should be: {error}") from error
        if payload != self.card_bytes:
            raise ClassifierError(
                f"{SIGNATURE_FILE} signs another classifier than {CARD_FILE}; install the bundle again"
            )
        return name


def load(folder: Path) -> ClassifierBundle:
    """Read and check a bundle's folder; whose it is, `check_signature` says.

    1. the card parses   2. the weights are not too large   3. their digest is the card's   4. they are safetensors and
    finite   5. the kind finds in them what it needs, and nothing else

    Raises:
        ClassifierError: the first of these that fails.
    """
    card = _read_capped(folder / CARD_FILE, MAX_CARD_BYTES)
    weights_path, signature_path = folder / WEIGHTS_FILE, folder / SIGNATURE_FILE
    weights = _read_capped(weights_path, MAX_WEIGHTS_BYTES) if weights_path.exists() else b""
    signature = _read_capped(signature_path, MAX_CARD_BYTES + 1024) if signature_path.exists() else None
    return read_bundle(card, weights, signature)


def read_bundle(card_bytes: bytes, weights: bytes = b"", signature: bytes | None = None) -> ClassifierBundle:
    """The same from the bytes themselves, as an evaluation carries them.

    Raises:
        ClassifierError: as `load`.
    """
    try:
        card = parse(ClassifierCard, card_bytes, limit=MAX_CARD_BYTES)
    except FormatError as error:
        raise ClassifierError(f"{CARD_FILE} is not a classifier's card: {error}") from error
    found = hashlib.sha256(weights).hexdigest() if weights else None
    if found != card.weights_sha256:
        raise ClassifierError(
            f"the weights of classifier {card.name} have digest {_short(found)}, its card says "
            f"{_short(card.weights_sha256)}; they are missing, altered or foreign: install the bundle again"
        )
    return ClassifierBundle(card, card.model.ready(_tensors(card.name, weights)), card_bytes, weights, signature)


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"{digest[:16]}..."


def _tensors(name: str, weights: bytes) -> dict[str, Tensor]:
    if not weights:
        return {}
    try:
        tensors = parse_safetensors(weights)
        finite = all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    except (SafetensorError, KeyError, RuntimeError) as error:
        # KeyError: a type that torch does not have. RuntimeError: over 64 dimensions, or a type without infinity.
        raise ClassifierError(
            f"the weights of classifier {name} are not a safetensors file of ordinary numbers; only that format is read"
        ) from error
    if not finite:
        raise ClassifierError(f"the weights of classifier {name} hold values that are not finite; install it again")
    return tensors


def _read_capped(path: Path, cap: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise ClassifierError(
            f"asked to load a classifier, {path.name} cannot be read; name a folder with {CARD_FILE}, "
            "as `ldp-server model export` writes it"
        ) from error
    if len(data) > cap:
        raise ClassifierError(f"{path.name} is larger than the {cap} bytes that it may have; use a smaller classifier")
    return data
