"""How commands learn a linear classifier from a campaign's records, and the options by which it gets a student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ldp_client.diagnosis.bundle import SharesFrom, TaughtBy, WeighedBy
from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.installed import open_bundle
from ldp_client.wire.campaign import Campaign
from server.learning.classifier_bundle import taught_by, weighed_by
from server.learning.head import weigh
from server.learning.influence import Capped, cap_influence
from server.learning.public_images import encoded, read_images
from server.learning.public_shares import public_shares, tells_classes, untold
from server.learning.public_subset import public_indices
from server.learning.student import Shares, teach
from server.learning.train import Trained, TrainingSet, train

StudentOption = Annotated[
    Path | None,
    typer.Option(
        help="Public X-rays without labels, an .npz or a folder, that a student learns from besides; "
        "--public-shares goes with it."
    ),
]
HeadOption = Annotated[
    Path | None,
    typer.Option(
        help="Public X-rays without labels, an .npz or a folder, that say where findings show: what the records say of "
        "each coordinate is weighed by that and by how noisy it is. They may be the student's."
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(help='The campaign\'s encoder, a bundle or "shipped:NAME"; --head and --student need it.'),
]
KeyOption = Annotated[str, typer.Option(help="The array of the public .npz; empty takes train_images or images.")]
SplitOption = Annotated[str, typer.Option(help="Only rows of the public .npz whose field `split` says so.")]
PublicOption = Annotated[
    int, typer.Option(help="Take this many of the public X-rays, chosen by their pixels' SHA-256; 0 takes all.")
]

SharesOption = Annotated[
    str,
    typer.Option(
        help="How frequent the labels are among the student's X-rays: `estimated` from the records, which needs the "
        "`one_hot` code or a `latent` release; `hospitals` where both are drawn alike; or a number for each label, "
        "as in 0.3,0.7."
    ),
]
CapOption = Annotated[
    bool,
    typer.Option(
        "--cap-sites",
        help="Pull back each site whose records' mean lies far from the others', as one that crafts its records would; "
        "from three sites on.",
    ),
]
CONDITION = (
    "the student took the hospitals' shares for those of the public X-rays, drawn towards equal ones as far as they "
    "are unsure: {}; where the public X-rays have others it makes the classifier worse: learn without --student there"
)
ESTIMATED, HOSPITALS = "estimated", "hospitals"
_ROUNDED = 0.01
"""Shares that are typed in may miss 1 by this much."""
_UNSURE = 0.1
"""Shares that are no surer than this come with a warning."""
_TWO = 2
"""Of so many sites nobody can say which one lies far out."""


@dataclass(frozen=True)
class Learnt:
    """A classifier, what whoever made it should read, and what its card says of a head and a student, if there were."""

    trained: Trained
    words: list[str]
    head: WeighedBy | None = None
    student: TaughtBy | None = None


@dataclass(frozen=True)
class Told:
    """How frequent the labels are among the student's X-rays, from where that is known, and what to say of it."""

    shares: Shares
    source: SharesFrom
    words: str


@dataclass(frozen=True)
class Pupil:
    """What the options say of a head and a student, each of public X-rays, and of sites that lie far out.

    Raises:
        ConfigurationError: an option that goes with a head or a student, and neither.
    """

    head: Path | None
    student: Path | None
    encoder: str | None
    key: str
    split: str
    count: int
    cap_sites: bool
    shares: str = ESTIMATED

    def __post_init__(self) -> None:
        if self.student is None and self.shares != ESTIMATED:
            raise ConfigurationError(
                f"--public-shares {self.shares} says how frequent the labels are among a student's public X-rays, and "
                "no --student names those; give --student FILE, or leave --public-shares out"
            )
        given = {
            "--encoder": self.encoder,
            "--key": self.key,
            "--split": self.split,
            "--public": self.count,
        }
        idle = [option for option, value in given.items() if value]
        if self.student is None and self.head is None and idle:
            raise ConfigurationError(
                f"{', '.join(idle)} chooses among public X-rays or reads them, and neither --head nor --student names "
                "any; give one of these, or leave it out"
            )

    def learn(self, campaign: Campaign, payloads: list[bytes], sites: list[str]) -> Learnt:
        """The classifier of a campaign's records, far-out sites pulled back where that is asked for, weighed by the
        head and taught further by the student where there are any.

        Args:
            sites: of each record.

        Raises:
            ConfigurationError: no encoder was named, or another than the campaign's; a head or a student for records
                that are not of the encoder's own coordinates.
            ParameterError: nothing tells how frequent labels are among the student's X-rays, which are no mixture of
                them, or are too few; or too few sites to cap one.
        """
        records = TrainingSet.from_payloads(campaign, payloads)
        if records.release.source != "bottleneck" and not (self.head is None and self.student is None):
            raise ConfigurationError(
                f"the records of campaign {campaign.name} are of the encoder's {records.release.source}, and --head "
                "and --student read its own coordinates; leave them out"
            )
        words: list[str] = []
        if self.cap_sites or len(set(sites)) > _TWO:
            capped = cap_influence(records, np.array(sites))
            words = self._far_out(capped)
            records = capped.training_set if self.cap_sites else records
        trained = train(records)
        if trained.moments is not None:
            moments = Shares(trained.moments.shares, trained.moments.share_error)
            words.append(f"estimated shares among the hospitals' X-rays: {_shown(campaign.label_names, moments)}")
        told = None if self.student is None else self._known(records, trained)
        released, head = records.release.input_dimension, None
        if self.head is not None:
            images, public = self._public(campaign, self.head, "--head")
            trained = weigh(records, trained, public)
            head = weighed_by(images, public.shape[1], released)
        if self.student is None:
            return Learnt(trained, words, head)
        if self.student != self.head:
            images, public = self._public(campaign, self.student, "--student")
        told = told or self._estimated(records, public)
        card = taught_by(images, public.shape[1], released, told.shares.mean, told.source)
        return Learnt(teach(trained, public, told.shares), [*words, told.words], head, card)

    def _known(self, records: TrainingSet, trained: Trained) -> Told | None:
        """What is known before the X-rays are read, or refused before that; None where they have to be looked at."""
        if self.shares == ESTIMATED:
            if not tells_classes(records.release):
                raise untold()
            return None
        if self.shares != HOSPITALS:
            given = Shares.known(self._given(records.campaign.label_names))
            return Told(given, "given", "the student was given the shares of the labels among the public X-rays")
        if trained.moments is None:
            raise ParameterError(
                "these records do not tell how frequent each label is among the hospitals' X-rays; ask for "
                '`constant = "7/10"` in the next campaign.toml, give the shares themselves, as in --public-shares '
                "0.3,0.7, or leave the student out"
            )
        told = Shares.told_by(trained.moments)
        shown = _shown(records.campaign.label_names, told)
        return Told(told, "hospitals", f"{CONDITION.format(shown)}{_doubt(told)}")

    def _estimated(self, records: TrainingSet, public: NDArray[np.float64]) -> Told:
        names = records.campaign.label_names
        found = public_shares(records, public).of_a_mixture(names)
        said = f"estimated shares among the public X-rays: {_shown(names, found)}{_doubt(found)}"
        return Told(found, "estimated", said)

    def _given(self, label_names: tuple[str, ...]) -> NDArray[np.float64]:
        """The shares that were typed in.

        Raises:
            ConfigurationError: not a positive number for each label, or they do not add up to 1.
        """
        try:
            found = [float(part) for part in self.shares.split(",")]
        except ValueError:
            found = []
        positive = len(found) == len(label_names) and all(0 < share < 1 for share in found)
        if not positive or abs(sum(found) - 1) > _ROUNDED:
            raise ConfigurationError(
                f"--public-shares takes {ESTIMATED}, {HOSPITALS}, or a share between 0 and 1 for each of "
                f"{', '.join(label_names)}, adding up to 1, as in {_example(len(label_names))}; found {self.shares!r}"
            )
        return np.array(found) / sum(found)

    def _far_out(self, capped: Capped) -> list[str]:
        """Each site whose records lie further out than the others' spread explains, and what is done about it."""
        done = "pulled back to that" if self.cap_sites else "ask it why, or learn with --cap-sites"
        return [
            f"site {site}: the mean of its records lies {1 / factor:.1f} times as far out as it may; {done}"
            for site, factor in zip(capped.sites, capped.factors, strict=True)
            if factor < 1
        ]

    def _public(self, campaign: Campaign, xrays: Path, option: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The public X-rays (N, H, W), and what the campaign's encoder makes of them: all its coordinates, (N, D)."""
        if self.encoder is None:
            raise ConfigurationError(f"{option} needs --encoder: the bundle that the campaign names, or shipped:NAME")
        encoder = open_bundle(self.encoder, Path())
        if encoder.digest != campaign.encoder:
            raise ConfigurationError(
                f"campaign {campaign.name} names the encoder {campaign.encoder[:12]}; {self.encoder} is "
                f"{encoder.digest[:12]}. Give the encoder that the records were made with"
            )
        images = read_images(xrays, key=self.key, split=self.split, side=encoder.content)
        chosen = images[public_indices(images, self.count or len(images))]
        return chosen, encoded(encoder, chosen)


def _shown(label_names: tuple[str, ...], shares: Shares) -> str:
    parts = zip(label_names, shares.mean, shares.deviation, strict=True)
    return ", ".join(f"{name} {100 * mean:.0f} % (+- {100 * error:.0f})" for name, mean, error in parts)


def _doubt(shares: Shares) -> str:
    if shares.deviation.max() <= _UNSURE:
        return ""
    return "; a student who is told wrong shares may be worse than none: compare both by an evaluation"


def _example(classes: int) -> str:
    shares = [round(1 / classes, 2)] * (classes - 1)
    return ",".join(f"{share:g}" for share in [*shares, round(1 - sum(shares), 2)])
