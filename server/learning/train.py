"""From records to a classifier: post-processing, which costs no epsilon.

A joint record estimates a_y (x) f without bias, a_y the label's code and f the features of the X-ray, so the mean of N
records estimates

    E[a_y (x) f]  =  sum_y  pi_y  a_y (x) E[f | y]

with a standard error of sqrt((signal variance + noise variance) / N) per coordinate. What follows from it depends on
what the release carries:

- `simplex` without a constant: for two classes 2 pi_0 pi_1 (mu_1 - mu_0) + (pi_1 - pi_0) E[z]. The bottleneck is
  centred on public images, so with E[z] near 0 this is the difference of the class means up to scale, in the scale that
  the bottleneck gives its coordinates. Where it is whitened, that is near the direction of Fisher's discriminant; where
  a teacher ordered the coordinates, their scale says how much each is thought to tell, and undoing it makes the
  classifier worse (docs/decisions/0056).
- with a constant c in f: the share of each label, sum_y pi_y a_y = mean / c, and from it every
  class mean. `one_hot` needs no assumption; `simplex` has one equation less and takes E[z] = 0 for it.
- a vector and a randomized label: the label's unbiased indicators times the vector are a `one_hot` record.

Adding records or sites needs no retraining from nothing: `Sums` is all that training needs of records, and sums add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.diagnosis.classifier import LinearClassifier
from ldp_client.errors import FormatError, ParameterError, WaitingError
from ldp_client.privacy import codebook, laplace, randomized_response
from ldp_client.privacy.clipping import to_grid
from ldp_client.privacy.drawing import ClippedPair, prepare
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.privacy.labels import code_dimension, label_codes, simplex
from ldp_client.privacy.release_spec import DpGlowSpec, JointCodebookSpec, JointLaplaceSpec, LatentSpec, ReleaseSpec
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.record import Contents, IndexRecord, LabelledRecord, unpack


@dataclass(frozen=True)
class TrainingSet:
    """Decoded records of one campaign: unbiased estimates of a_y (x) f.

    `vectors` has shape (N, q f): q coordinates of a label's code, f features. For releases in two parts, q = K and the
    features are a 1 and the vector.
    """

    campaign: Campaign
    vectors: NDArray[np.float64]

    @property
    def release(self) -> ReleaseSpec:
        """The mechanism that drew the records."""
        return _mechanism(self.campaign)

    @classmethod
    def from_payloads(cls, campaign: Campaign, payloads: Iterable[bytes]) -> TrainingSet:
        """Unpack and decode stored records.

        Raises:
            WaitingError: there are none yet.
            FormatError: a stored record is not of this campaign: the database was altered.
            ParameterError: its records are pictures, from which `image_training` learns.
        """
        release = _mechanism(campaign)
        try:
            contents = [unpack(payload, release) for payload in payloads]
        except FormatError as error:
            raise FormatError(f"a stored record does not fit campaign {campaign.name}: {error}") from error
        if not contents:
            raise WaitingError(f"campaign {campaign.name} has no records yet; gather first")
        return cls(campaign, _decode(release, contents))


@dataclass(frozen=True, eq=False)
class Sums:
    """What a campaign's records add up to, so that old ones need not be kept or decoded again: train(A + B) is what the
    records of both together teach.

    Attributes:
        count: N, how many records.
        total: (q f,), the sum of their vectors.
        told: (q, q), the sum of the products of what each record says of its label, its vector's first feature.
    """

    campaign: Campaign
    count: int
    total: NDArray[np.float64]
    told: NDArray[np.float64]

    @classmethod
    def of(cls, records: TrainingSet) -> Sums:
        """The sums of decoded records."""
        vectors = records.vectors
        told = vectors.reshape(len(vectors), _coordinates(records.release), -1)[:, :, 0]
        return cls(records.campaign, len(vectors), vectors.sum(axis=0), told.T @ told)

    def __add__(self, other: Sums) -> Sums:
        """The sums of two sets of records that have none in common.

        Raises:
            ParameterError: they are of two campaigns.
        """
        if campaign_id(self.campaign) != campaign_id(other.campaign):
            raise ParameterError(
                f"only records of one campaign add up; found {self.campaign.name} and {other.campaign.name}, or two "
                "campaigns of that name"
            )
        count, total, told = self.count + other.count, self.total + other.total, self.told + other.told
        return Sums(self.campaign, count, total, told)


@dataclass(frozen=True)
class Moments:
    """What records say of each class: its share of the records (K,), and its mean features (K, k).

    `share_error` (K,) is how far noise and chance may have moved each share, one standard deviation.

    Features as they were released: clipped, or of length 1. In an L1 ball, codes of different L1 norm (simplex, K >= 3)
    leave their classes different room, so far-out classes are shrunk by different factors.
    """

    shares: NDArray[np.float64]
    means: NDArray[np.float64]
    share_error: NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A classifier, how far the noise alone may have moved each coordinate of the mean (one standard deviation), and
    the label shares where the release carries them."""

    classifier: LinearClassifier
    noise_error: float
    moments: Moments | None


def train(records: TrainingSet | Sums) -> Trained:
    """The mean of the releases as a linear classifier.

    Where the class means are known, they enter with equal weight: M = (K-1)/K sum_y s_y (x) mu_y, so that neither the
    shares nor a shifted population turn the direction.
    """
    sums = records if isinstance(records, Sums) else Sums.of(records)
    campaign, moments = sums.campaign, class_moments(sums)
    mean = _direction(sums, moments)
    classifier = LinearClassifier(
        encoder=campaign.encoder,
        campaign=campaign_id(campaign),
        label_names=campaign.label_names,
        records=sums.count,
        mean=tuple(tuple(repr(float(value)) for value in row) for row in mean),
    )
    return Trained(classifier, _noise_error(sums), moments)


def direction(sums: Sums) -> NDArray[np.float64]:
    """M alone, (K-1, k), as `train` has it."""
    return _direction(sums, class_moments(sums))


def _direction(sums: Sums, moments: Moments | None) -> NDArray[np.float64]:
    classes = _mechanism(sums.campaign).classes
    if moments is None:
        return (sums.total / sums.count).reshape(classes - 1, -1)
    mean: NDArray[np.float64] = (classes - 1) / classes * simplex(classes).T @ moments.means
    return mean


def class_moments(records: TrainingSet | Sums) -> Moments | None:
    """Shares and mean features of the classes; None where a release carries neither a constant nor a label.

    Shares are brought into 1/N .. 1, since the noise may put a rare class below nothing.
    """
    sums = records if isinstance(records, Sums) else Sums.of(records)
    spec, count = _mechanism(sums.campaign), sums.count
    if isinstance(spec, JointLaplaceSpec | JointCodebookSpec):
        if spec.constant is None:
            return None
        codes = label_codes(spec.label_code, spec.classes)
    else:
        codes = np.eye(spec.classes)
    means = (sums.total / count).reshape(codes.shape[1], -1)  # (q, f)
    told_codes, weight = carried(spec, codes)
    # A code of K-1 coordinates lacks one equation: shares add up to 1, and features have mean 0 in public units.
    lacking = len(codes) - codes.shape[1]
    ones = np.ones((lacking, len(codes)))
    equations = np.linalg.inv(np.vstack([told_codes.T, ones]))  # (K, q + lacking)
    shares = equations @ np.concatenate([means[:, 0], np.ones(lacking)])
    spread = (sums.told / count - np.outer(means[:, 0], means[:, 0])) / count  # of what the records say of labels
    parts = equations[:, : codes.shape[1]]
    error = np.sqrt(np.maximum(np.einsum("yq,qr,yr->y", parts, spread, parts), 0.0))
    shares = np.clip(shares, 1 / count, 1)
    shares = shares / shares.sum()
    known = np.vstack([means[:, 1:] / weight, np.zeros((lacking, means.shape[1] - 1))])
    return Moments(shares, np.linalg.solve(np.vstack([codes.T, ones]), known) / shares[:, None], error)


def _coordinates(spec: ReleaseSpec) -> int:
    """q, coordinates of a label's code; K where the label leaves beside the vector."""
    if isinstance(spec, JointLaplaceSpec | JointCodebookSpec):
        return code_dimension(spec.label_code, spec.classes)
    return spec.classes


def carried(spec: ReleaseSpec, codes: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Each code times the constant, in whole grid steps as it was noised, and what the features were multiplied by."""
    if isinstance(spec, LatentSpec | DpGlowSpec) or spec.constant is None:
        return codes, 1.0
    constant = float(spec.constant)
    if isinstance(spec, JointCodebookSpec):
        return codes * constant, math.sqrt(1 - constant**2)
    grid = spec.laplace.grid
    rounded = to_grid(codes * constant, grid).astype(np.float64)
    rounded *= float(grid)
    return rounded, 1.0


def _mechanism(campaign: Campaign) -> ReleaseSpec:
    if isinstance(campaign.release, ImageSpec):
        raise ParameterError(
            f"the records of campaign {campaign.name} are pictures; `ldp-server model export` learns from those"
        )
    return campaign.release


def _decode(spec: ReleaseSpec, contents: list[Contents]) -> NDArray[np.float64]:
    if isinstance(spec, JointCodebookSpec):
        drawn = [record for record in contents if isinstance(record, IndexRecord)]
        return codebook.decode(spec.codebook, [one.index for one in drawn], [one.seed for one in drawn])
    if isinstance(spec, JointLaplaceSpec):
        return laplace.decode(np.stack([record for record in contents if isinstance(record, np.ndarray)]), spec.laplace)
    pairs = [record for record in contents if isinstance(record, LabelledRecord)]
    vectors = laplace.decode(np.stack([pair.steps for pair in pairs]), spec.laplace)  # (N, k)
    labels = randomized_response.decode(np.array([pair.label for pair in pairs]), spec.label)  # (N, K)
    return _beside(labels, vectors)


def _beside(labels: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Indicators of the labels (N, K) times features (N, 1 + k), of which the first is a 1: (N, K (1 + k))."""
    features = np.concatenate([np.ones((len(vectors), 1)), vectors], axis=1)
    joint: NDArray[np.float64] = (labels[:, :, None] * features[:, None, :]).reshape(len(vectors), -1)
    return joint


def clipped(spec: ReleaseSpec, outputs: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """What records of X-rays (N, k) with this label decode to on average, (N, q f): clipped as released, not noised."""
    labels = np.full(len(outputs), label)
    ready = prepare(spec, outputs, labels)
    vectors = ready.vectors if isinstance(ready, ClippedPair) else ready
    grid = spec.codebook.clip.grid if isinstance(spec, JointCodebookSpec) else spec.laplace.grid
    values: NDArray[np.float64] = vectors.steps.astype(np.float64) * float(grid)
    return _beside(np.eye(spec.classes)[labels], values) if isinstance(ready, ClippedPair) else values


def _noise_error(sums: Sums) -> float:
    spec = _mechanism(sums.campaign)
    if isinstance(spec, JointCodebookSpec):
        variance = codebook.noise_variance(spec.codebook)
    elif isinstance(spec, JointLaplaceSpec):
        variance = laplace.noise_variance(spec.laplace)
    else:
        # A noised coordinate times the estimate of an indicator: the square of the latter, as found in the records.
        squares = float(np.trace(sums.told)) / (sums.count * spec.classes)
        variance = squares * laplace.noise_variance(spec.laplace)
    return math.sqrt(variance / sums.count)
