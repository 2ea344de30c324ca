"""Attacks by someone who holds candidates: which patient, which label, what does the X-ray look like?

Each attacker knows encoder, release and codewords, weighs its candidates by Bayes' rule (`likelihood`), and starts with
all of them equally likely. Of those who hold the released X-ray itself nobody is right more often; who holds another
X-ray of the patient takes it for the released one. The ceilings hold against every attacker (docs/privacy.md, 5):

- one of C equally likely candidates: e^eps / (e^eps + C - 1), a label of two: e^eps / (1 + e^eps);
- what the posterior mean explains of the pixels' variance: min(1, sinh^2(eps / 2) l / t), t the variance of all pixels
  together and l its largest part along one direction. For a record's density ratio r to its mean over candidates,
  a <= r <= a e^eps and mean 1 give E (r - 1)^2 <= sinh^2(eps / 2), and by Cauchy and Schwarz the posterior mean lies
  at most sqrt(l E (r - 1)^2) from the prior's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_identification
from ldp_client.privacy.release_spec import ReleaseSpec
from server.benchmarks.encoded import Encoded
from server.benchmarks.likelihood import Candidates
from server.benchmarks.released import records_of

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
CANDIDATES = 100
ALPHA = 1e-6
_FEW = 8
_NEAREST = 20
_SEED = 1612


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    Attributes:
        success: the share of attempts that were right, or of the pixels' variance that was explained.
        low: what the true share is at least, with confidence 1 - 10^-6 (Clopper and Pearson); None for a variance.
        ceiling: what no attacker passes; 1 where nothing is noised.
        chance: what guessing reaches.
    """

    attempts: int
    candidates: int
    success: float
    low: float | None
    ceiling: float
    chance: float

    @property
    def holds(self) -> bool:
        """Whether the ceiling can be true."""
        return (self.success if self.low is None else self.low) <= self.ceiling


@dataclass(frozen=True, eq=False)
class Target:
    """X-rays under attack, and what the attacker holds.

    Attributes:
        encoded: the file; `view` names the numbers that are released.
        true: (N,) the X-rays that are released, as rows of the file.
        which: (N, C) the X-rays that the attacker holds, as rows of the file.
        answer: (N,) the column of the right one.
        labels: (N,) of the released X-rays.
    """

    encoded: Encoded
    true: Rows
    which: Rows
    answer: Rows
    labels: Rows


def identify(target: Target, view: str, release: ReleaseSpec | None) -> Outcome:
    """Name which of C candidates a record is of, its label unknown. Without a release: by the distance in a view."""
    if release is None:
        outputs = target.encoded.view(view)
        if outputs.shape[1] > _FEW:  # by correlation, which exposure and contrast leave alone
            outputs = outputs - outputs.mean(1, keepdims=True)
            outputs = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
        pairs = zip(target.true, target.which, strict=True)
        weights = -np.stack([((outputs[row] - outputs[rows]) ** 2).sum(1) for row, rows in pairs])[:, :, None]
        return _identified(target, weights, None)
    return _identified(target, _weights(target, view, release, noised=True), release.loss)


def identify_without_noise(target: Target, view: str, release: ReleaseSpec) -> Outcome:
    """The same where the mechanism's input is what leaves: clipped, on its grid, not noised."""
    return _identified(target, _weights(target, view, release, noised=False), None, best=True)


def infer_label(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Tell the label of a record whose X-ray the attacker holds (the one candidate). A coin drew it."""
    weights = _weights(target, view, release, noised=noised)[:, 0]  # (N, K)
    right = _first_of_best(weights) == target.labels
    return _outcome(right, release.classes, release.loss if noised else None)


def reconstruct(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Draw the posterior mean of the candidates' pixels, and say how much of the pixels' variance it explains.

    Candidates are equally likely beforehand; who is not among them has no formal ceiling, and gets 1.
    """
    weights = _weights(target, view, release, noised=noised)
    if noised:
        shares = np.exp(weights - weights.max(axis=(1, 2), keepdims=True)).sum(2)
    else:
        # Of who lies at no distance the picture is known; where nobody does, the mean of the nearest is the best guess.
        best = weights.max(2)
        bar = np.where(best.max(1) == 0, 0.0, np.sort(best, axis=1)[:, -min(_NEAREST, best.shape[1])])
        shares = (best >= bar[:, None]).astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    pool = _pixels(target.encoded, target.which[0])
    mean = pool.mean(0)
    drawn, true = shares @ pool, _pixels(target.encoded, target.true)
    explained = 1 - float(((drawn - true) ** 2).sum() / ((mean - true) ** 2).sum())
    ceiling = 1.0
    if noised and bool((target.which == target.true[:, None]).any(1).all()):
        # The eigenvalues of the Gram matrix are those of the covariance, and it is the smaller of the two.
        spread = np.linalg.eigvalsh((pool - mean) @ (pool - mean).T)
        ceiling = min(1.0, math.sinh(float(release.loss) / 2) ** 2 * float(spread[-1] / spread.sum()))
    return Outcome(len(true), len(pool), explained, None, ceiling, 0.0)


def _pixels(encoded: Encoded, rows: Rows) -> Floats:
    return encoded.archive.images[rows].reshape(len(rows), -1).astype(np.float64) / 255


def other_xrays_of_the_patient(encoded: Encoded, times: int, generator: np.random.Generator) -> Target | None:
    """For each hospital patient with several X-rays: one is released, the attacker holds another, and one of each of
    C - 1 other patients. None where the file has no patients."""
    patients = encoded.archive.patients
    if patients is None:
        return None
    rows = np.flatnonzero(encoded.archive.part == "hospital")
    names, member = np.unique(patients[rows], return_inverse=True)
    order = generator.permutation(len(rows))
    of_patient = [rows[order][member[order] == patient] for patient in range(len(names))]
    several = [patient for patient, xrays in enumerate(of_patient) if len(xrays) > 1]
    true, which, answer = [], [], []
    for _ in range(times):
        for patient in several:
            released, held = generator.choice(of_patient[patient], size=2, replace=False)
            others = generator.choice(len(names) - 1, size=min(CANDIDATES, len(names)) - 1, replace=False)
            others += others >= patient
            decoys = [int(generator.choice(of_patient[other])) for other in others]
            column = int(generator.integers(len(decoys) + 1))
            true.append(int(released))
            which.append([*decoys[:column], int(held), *decoys[column:]])
            answer.append(column)
    return _target(encoded, true, which, answer) if several else None


def same_xray(encoded: Encoded, attempts: int, generator: np.random.Generator) -> Target:
    """The attacker holds the very X-ray that was released, among C - 1 others of the hospitals."""
    rows = np.flatnonzero(encoded.archive.part == "hospital")
    count = min(CANDIDATES, len(rows))
    which = np.stack([generator.choice(rows, size=count, replace=False) for _ in range(attempts)])
    answer = generator.integers(count, size=attempts)
    return _target(encoded, which[np.arange(attempts), answer].tolist(), which.tolist(), answer.tolist())


def held_xray(encoded: Encoded, classes: int, attempts: int, generator: np.random.Generator) -> Target:
    """The attacker holds the X-ray and wants its label, which a coin drew, so that the X-ray itself says nothing."""
    rows = generator.choice(np.flatnonzero(encoded.archive.part == "hospital"), size=attempts)
    return Target(
        encoded, rows, rows[:, None], np.zeros(attempts, dtype=np.int64), generator.integers(classes, size=attempts)
    )


def pictured(encoded: Encoded, attempts: int, pool: int, among: bool, generator: np.random.Generator) -> Target:
    """The attacker holds a pool of public X-rays, and the released one is one of them, or a hospital's."""
    public = np.flatnonzero(encoded.archive.pool)
    public = generator.choice(public, size=min(pool, len(public)), replace=False)
    rows = public if among else np.flatnonzero(encoded.archive.part == "hospital")
    true = generator.choice(rows, size=attempts)
    return _target(encoded, true.tolist(), np.tile(public, (attempts, 1)).tolist(), [0] * attempts)


def _target(encoded: Encoded, true: list[int], which: list[list[int]], answer: list[int]) -> Target:
    rows = np.array(true, dtype=np.int64)
    labels = np.maximum(encoded.archive.tasks[0].labels[rows], 0)
    return Target(encoded, rows, np.array(which, dtype=np.int64), np.array(answer, dtype=np.int64), labels)


def _weights(target: Target, view: str, release: ReleaseSpec, noised: bool) -> Floats:
    # Only X-rays that somebody names are clipped: the file has thousands, each with all its latents.
    named, places = np.unique(np.concatenate([target.true[:, None], target.which], axis=1), return_inverse=True)
    places = places.reshape(len(target.true), -1)
    outputs = target.encoded.view(view)[named]
    candidates = Candidates(release, outputs)
    if not noised:
        return candidates.without_noise(places[:, 0], target.labels, places[:, 1:])
    records = records_of(release, outputs[places[:, 0]], target.labels)
    return candidates.log_likelihoods(records, places[:, 1:])


def _identified(target: Target, weights: Floats, loss: PrivacyLoss | None, best: bool = False) -> Outcome:
    # With noise the labels' likelihoods add up; without, the nearest of them counts.
    summed = weights.max(2) if best else np.logaddexp.reduce(weights, axis=2)
    return _outcome(_first_of_best(summed) == target.answer, summed.shape[1], loss)


def _first_of_best(weights: Floats) -> Rows:
    """The column of the largest weight; of equal ones any, so that ties are no advantage and no harm."""
    ties = np.random.default_rng(_SEED).random(weights.shape)
    best = weights >= weights.max(axis=1, keepdims=True) - 1e-9
    found: Rows = np.where(best, ties, -1.0).argmax(axis=1)
    return found


def _outcome(right: NDArray[np.bool_], candidates: int, loss: PrivacyLoss | None) -> Outcome:
    count, hits = len(right), int(right.sum())
    low = float(beta.ppf(ALPHA, hits, count - hits + 1)) if hits else 0.0
    ceiling = 1.0 if loss is None else best_identification(loss, candidates)
    return Outcome(count, candidates, hits / count, low, ceiling, 1 / candidates)
