"""How commands learn a linear classifier from a campaign's records, and the options by which it gets a student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError
from ldp_client.flow.installed import open_bundle
from ldp_client.wire.campaign import Campaign
from server.learning.public_images import encoded, read_images
from server.learning.public_subset import public_indices
from server.learning.student import teach
from server.learning.train import Trained, TrainingSet, train

StudentOption = Annotated[
    Path | None,
    typer.Option(
        help="Public X-rays without labels, an .npz or a folder, that a student learns from besides. They must hold "
        "the findings in about the shares that the hospitals' X-rays have."
    ),
]
EncoderOption = Annotated[
    str | None, typer.Option(help='The campaign\'s encoder, a bundle or "shipped:NAME"; --student needs it.')
]
KeyOption = Annotated[str, typer.Option(help="The array of the student's .npz; empty takes train_images or images.")]
SplitOption = Annotated[str, typer.Option(help="Only rows of the student's .npz whose field `split` says so.")]
PublicOption = Annotated[
    int, typer.Option(help="Take this many of the student's X-rays, chosen by their pixels' SHA-256; 0 takes all.")
]

CONDITION = (
    "the student has taken these shares for those of the public X-rays too; where they are others it makes the "
    "classifier worse: learn without --student there"
)


@dataclass(frozen=True)
class Pupil:
    """What the options say of a student; without public X-rays there is none."""

    student: Path | None
    encoder: str | None
    key: str
    split: str
    count: int

    def learn(self, campaign: Campaign, payloads: list[bytes]) -> Trained:
        """The classifier of a campaign's records, taught further by the student where there is one.

        Raises:
            ConfigurationError: no encoder was named, or another than the campaign's.
            ParameterError: the records do not tell how frequent labels are, which a student must know.
        """
        trained = train(TrainingSet.from_payloads(campaign, payloads))
        return trained if self.student is None else teach(trained, self._coordinates(campaign, self.student))

    def words(self, campaign: Campaign, trained: Trained) -> list[str]:
        """How frequent labels are by the records' own account, and what a student makes of that."""
        if trained.moments is None:
            return []
        shares = zip(campaign.label_names, trained.moments.shares, strict=True)
        told = "estimated shares: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        return [told] if self.student is None else [told, CONDITION]

    def _coordinates(self, campaign: Campaign, student: Path) -> NDArray[np.float64]:
        """What the campaign's encoder makes of the public X-rays: all its coordinates, (N, D)."""
        if self.encoder is None:
            raise ConfigurationError("--student needs --encoder: the bundle that the campaign names, or shipped:NAME")
        encoder = open_bundle(self.encoder, Path())
        if encoder.digest != campaign.encoder:
            raise ConfigurationError(
                f"campaign {campaign.name} names the encoder {campaign.encoder[:12]}; {self.encoder} is "
                f"{encoder.digest[:12]}. Give the encoder that the records were made with"
            )
        images = read_images(student, key=self.key, split=self.split, side=encoder.content)
        return encoded(encoder, images[public_indices(images, self.count or len(images))])
