"""Writing a classifier's bundle: all or nothing, signed, and read back through every check before it stands."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from ldp_client.diagnosis.bundle import (
    CARD_FILE,
    SIGNATURE_FILE,
    WEIGHTS_FILE,
    ClassifierBundle,
    ClassifierCard,
    LearntFrom,
    SharesFrom,
    TaughtBy,
    Text,
    WeighedBy,
    load,
)
from ldp_client.diagnosis.calibration import MILLION
from ldp_client.diagnosis.classifier import LinearModel
from ldp_client.errors import ConfigurationError
from ldp_client.wire.campaign import Campaign, Name, campaign_id
from ldp_client.wire.canonical import canonical_bytes, digest
from ldp_client.wire.envelope import CLASSIFIER, OneKey, close_envelope
from ldp_client.wire.signing import Signer
from server.learning.new_folder import new_folder
from server.learning.train import Trained

A_CLASSIFIER = "a classifier"
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_TEXT: TypeAdapter[str] = TypeAdapter(Text)


def learnt_from(campaign: Campaign, records: int) -> LearntFrom:
    """What a card says of a campaign whose records were used."""
    return LearntFrom(
        campaign=campaign_id(campaign),
        name=campaign.name,
        mechanism=campaign.release.kind,
        records=records,
        micro_epsilon_per_record=campaign.micro_epsilon_per_record,
        unit=campaign.unit,
        cap=campaign.cap,
    )


def require_words(name: str, command: str) -> None:
    """Return if a card can carry this name and this command; asked before anything is learnt.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise ConfigurationError(
            f"--name: {error.errors(include_input=False, include_url=False)[0]['msg']}; found {ascii(name)[:80]}"
        ) from None
    try:
        _TEXT.validate_python(command)
    except ValidationError:
        raise ConfigurationError(
            "a card has room for a command of 2,000 characters without control characters; this one has "
            f"{len(command):,}: give shorter file names"
        ) from None


def linear_card(
    name: str,
    campaign: Campaign,
    trained: Trained,
    command: str,
    head: WeighedBy | None = None,
    student: TaughtBy | None = None,
) -> ClassifierCard:
    """The card of a linear classifier as `train` made it of one campaign, and `weigh` and `teach` of public X-rays."""
    model = LinearModel(source=campaign.release.source, mean=trained.classifier.mean)
    return ClassifierCard(
        name=name,
        purpose=campaign.purpose,
        encoder=campaign.encoder,
        label_names=campaign.label_names,
        learnt_from=(learnt_from(campaign, trained.classifier.records),),
        noise_error=decimal_text(trained.noise_error),
        spread=decimal_text(model.spread()),
        model=model,
        command=command,
        head=head,
        student=student,
    )


def taught_by(
    images: NDArray[np.uint8], coordinates: int, released: int, shares: NDArray[np.float64], source: SharesFrom
) -> TaughtBy:
    """What a card says of a student on public X-rays (N, H, W) uint8, whose labels have these shares (K,)."""
    return TaughtBy(
        xrays=len(images),
        pixels_sha256=_pixels_digest(images),
        coordinates=coordinates,
        released=released,
        shares=tuple(np.round(shares * MILLION).astype(int).tolist()),
        shares_from=source,
    )


def weighed_by(images: NDArray[np.uint8], coordinates: int, released: int) -> WeighedBy:
    """What a card says of a head on public X-rays (N, H, W) uint8."""
    return WeighedBy(
        xrays=len(images), pixels_sha256=_pixels_digest(images), coordinates=coordinates, released=released
    )


def _pixels_digest(images: NDArray[np.uint8]) -> str:
    return digest("ldp-glow/public-xrays", " ".join(map(str, images.shape)).encode(), images.tobytes())


def decimal_text(value: float) -> str:
    """A non-negative number as a card writes it: no float, six significant digits, never 0 for what is not 0."""
    if not math.isfinite(value) or not 0 <= value < 1e12:
        raise ConfigurationError(f"a card can state numbers from 0 to 10^12; found {value:g}: nothing was learnt")
    places = 6 if value == 0 else min(12, max(1, 5 - math.floor(math.log10(value))))
    return f"{value:.{places}f}"


def write_classifier(card: ClassifierCard, folder: Path, signer: Signer, weights: bytes = b"") -> ClassifierBundle:
    """Write card, weights and signature to a new folder, all or nothing; the bundle as a hospital reads it.

    Args:
        weights: a safetensors file's bytes, for kinds that have arrays; the card gets their digest.

    Raises:
        ConfigurationError: the folder exists, or cannot be made.
        ClassifierError: the bundle does not pass the checks that a hospital makes.
    """
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest() if weights else None})
    body = canonical_bytes(card)
    with new_folder(folder, A_CLASSIFIER) as temporary:
        (temporary / CARD_FILE).write_bytes(body)
        if weights:
            (temporary / WEIGHTS_FILE).write_bytes(weights)
        (temporary / SIGNATURE_FILE).write_bytes(close_envelope(CLASSIFIER, body, signer))
        bundle = load(temporary)
        bundle.check_signature(OneKey("the centre", signer.public_key))
    return bundle
