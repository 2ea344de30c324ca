"""What a demo run found: the sites' accounts, the classifier's scores, and a few X-rays beside what left of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.errors import ParameterError
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_identification, in_words
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.wire.campaign import Unit

BOOTSTRAPS = 1000


@dataclass(frozen=True)
class SiteRow:
    """One site's account as the centre's ledger shows it. `unit_bound` is the most that one unit may have spent."""

    site: str
    name: str
    records: int
    epsilon_per_record: PrivacyLoss
    unit: Unit
    unit_bound: PrivacyLoss
    budget: PrivacyLoss
    remaining: PrivacyLoss


@dataclass(frozen=True, eq=False)
class Example:
    """One X-ray at its hospital, what left of it, and what the centre makes of that (`learning.reconstruction`)."""

    xray: NDArray[np.uint8]
    """(H, W); the demo may show it because its data are public."""
    label: int
    released: tuple[int, ...]
    """The record, in grid steps."""
    reconstruction: NDArray[np.floating]
    """Posterior mean (H, W), in grey levels 0 to 255."""
    label_posterior: tuple[float, ...]
    likeliest_image: float
    """Largest posterior probability of one of the public images."""


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Everything that the screen, summary.json and report.html tell.

    `scores` and `scores_no_noise` belong to the clean test X-rays in `test_labels` (0 or 1), higher meaning label 1.
    `public_average` is the mean public image (H, W), what the centre would draw with no record at all.

    Raises:
        ParameterError: parts that do not belong together; or the word "patient" in a text while the unit is an image,
            which would promise to people what is only promised to images.
    """

    data: str
    unit: Unit
    sites: tuple[SiteRow, ...]
    release: JointLaplaceSpec
    label_names: tuple[str, ...]
    encoder: str
    test_labels: NDArray[np.integer]
    scores: NDArray[np.floating]
    scores_no_noise: NDArray[np.floating]
    examples: tuple[Example, ...]
    public_average: NDArray[np.floating]
    public_images: int
    ledgers_verified: bool
    verifier_lines: tuple[str, ...]
    seconds: float

    def __post_init__(self) -> None:
        if any(site.unit != self.unit for site in self.sites):
            raise ParameterError(f"the demo's unit is {self.unit}, but a site counts by another; use one unit")
        if len(self.label_names) != self.release.classes:
            raise ParameterError(f"{self.release.classes} labels are released, {len(self.label_names)} have a name")
        if not len(self.test_labels) == len(self.scores) == len(self.scores_no_noise) or (
            set(np.unique(self.test_labels).tolist()) != {0, 1}
        ):
            raise ParameterError("an AUC needs one score per test X-ray and test X-rays of labels 0 and 1")
        texts = [self.data, self.encoder, *self.label_names, *self.verifier_lines]
        texts += [f"{site.site} {site.name}" for site in self.sites]
        if self.unit == "image" and any("patient" in text.lower() for text in texts):
            raise ParameterError(
                'the unit is one image, so nothing on screen or in the report may say "patient"; '
                "reword the data's description, the names or the verifier's lines"
            )

    @property
    def epsilon(self) -> PrivacyLoss:
        """The loss of one record, X-ray and label together."""
        return self.release.loss

    @property
    def records(self) -> int:
        """How many records the centre stored, over all sites."""
        return sum(site.records for site in self.sites)

    @property
    def image_ceiling(self) -> float:
        """The most that any record can make one of the public images believed, e^eps / (e^eps + M - 1)."""
        return best_identification(self.epsilon, self.public_images)

    @property
    def words(self) -> str:
        """What epsilon means, as `campaign show` says it."""
        return in_words(self.epsilon, "record")

    @property
    def mechanism(self) -> str:
        """What was released and how, for readers who know the terms."""
        laplace = self.release.laplace
        radius = float(laplace.clip.largest_steps * laplace.grid)
        return (
            f"discrete Laplace on label code x encoder output, one joint release of X-ray and label; "
            f"k = {self.release.bottleneck_dimension}, {self.release.classes} labels, {laplace.dimension} integers per "
            f"record, L1 clip of radius {radius:g} ({laplace.clip.largest_steps:,} steps of {laplace.grid}), noise "
            f"scale {float(laplace.scale):,.6g} steps; encoder {self.encoder}"
        )

    @cached_property
    def curve(self) -> Curve:
        """How the classifier trained on the records tells the test X-rays apart."""
        return Curve.of(self.test_labels, self.scores)

    @cached_property
    def curve_no_noise(self) -> Curve:
        """The same without noise: for comparison only, no centre ever has it."""
        return Curve.of(self.test_labels, self.scores_no_noise)


@dataclass(frozen=True, eq=False)
class Curve:
    """A ROC curve on a grid of false alarm rates, and how far other test sets of this size would move it.

    The band holds 95 % of the curves, point by point, and the interval 95 % of the AUCs, of `BOOTSTRAPS` resamplings of
    the test X-rays within each label. It says nothing of other noise draws, other hospitals or other populations.
    """

    auc: float
    low: float
    high: float
    false_alarms: NDArray[np.float64]
    found: NDArray[np.float64]
    found_low: NDArray[np.float64]
    found_high: NDArray[np.float64]

    @classmethod
    def of(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> Curve:
        """From test labels (N,), 0 or 1, and scores (N,)."""
        positive, negative = scores[labels == 1], scores[labels == 0]
        grid = np.linspace(0, 1, 201)
        # A fixed seed: two reports of one run agree. This is no release.
        generator = np.random.default_rng(0)
        curves, areas = np.empty((BOOTSTRAPS, len(grid))), np.empty(BOOTSTRAPS)
        for draw in range(BOOTSTRAPS):
            again = generator.choice(positive, len(positive)), generator.choice(negative, len(negative))
            curves[draw], areas[draw] = _curve(*again, grid)
        low, high = np.percentile(areas, (2.5, 97.5))
        found_low, found_high = np.percentile(curves, (2.5, 97.5), axis=0)
        auc = float(roc_auc_score(labels, scores))
        return cls(auc, float(low), float(high), grid, _curve(positive, negative, grid)[0], found_low, found_high)


def _curve(
    positive: NDArray[np.floating], negative: NDArray[np.floating], grid: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Share of label 1 found at each false alarm rate, and the area: P(positive > negative), ties by half."""
    cuts = np.unique(np.concatenate((positive, negative)))
    above = [np.searchsorted(np.sort(part), cuts, side="left") for part in (negative, positive)]
    false_alarms = np.concatenate(([0.0], 1 - above[0][::-1] / len(negative)))
    found = np.concatenate(([0.0], 1 - above[1][::-1] / len(positive)))
    return np.interp(grid, false_alarms, found), float(np.trapezoid(found, false_alarms))
