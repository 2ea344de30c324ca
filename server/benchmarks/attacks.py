"""Attacks by someone who holds candidates: which patient, which label, what does the X-ray look like?

Each attacker knows encoder, release and codewords, and of every candidate the X-ray and the label, which can often be
read off it. Who holds the released X-ray weighs candidates by Bayes' rule with the mechanism's own probabilities
(`likelihood`), all equally likely beforehand: nobody is right more often. Who holds another X-ray of the patient takes
the candidate whose noiseless record points most nearly where the record points: Bayes' rule would be right about
another question. Who holds no candidate simulates releases of public X-rays and regresses their pixels on what the
records decode to.
The ceilings hold against every attacker (docs/privacy.md, 5):

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
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold

from ldp_client.privacy.labels import label_codes
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.meaning import best_identification
from ldp_client.privacy.release_spec import JointCodebookSpec, JointLaplaceSpec, ReleaseSpec
from server.benchmarks.encoded import Encoded
from server.benchmarks.likelihood import Candidates
from server.benchmarks.released import Asking, records_of, released
from server.learning.train import clipped

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
CANDIDATES = 100
ALPHA = 1e-6
_FEW = 8
SIMULATED = 10
"""Releases that an attacker makes of each X-ray of its pool; one, where a record has more than `_MANY` numbers."""
_MANY = 64
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
        theirs: (N, C) the labels of those that the attacker holds.
    """

    encoded: Encoded
    true: Rows
    which: Rows
    answer: Rows
    labels: Rows
    theirs: Rows


def identify_unreleased(target: Target, view: str) -> Outcome:
    """Name the candidate that is nearest in a view, where nothing is released and X-rays themselves are compared."""
    outputs = target.encoded.view(view)
    if outputs.shape[1] > _FEW:  # by correlation, which exposure and contrast leave alone
        outputs = outputs - outputs.mean(1, keepdims=True)
        outputs = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    pairs = zip(target.true, target.which, strict=True)
    return _identified(target, -np.stack([((outputs[row] - outputs[rows]) ** 2).sum(1) for row, rows in pairs]), None)


def identify(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Name which of C candidates a record is of. Without noise, the mechanism's input is what leaves: clipped, on its
    grid."""
    return _identified(target, _weights(target, view, release, noised), release.loss if noised else None)


def recognise(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Name which of C candidates a record's patient is: the one whose own record, but for noise, has the largest cosine
    with what this one decodes to."""
    outputs, places = _named(target, view)
    clean = _clean(release, outputs)
    clean /= np.maximum(np.linalg.norm(clean, axis=2, keepdims=True), 1e-12)
    if noised:
        found = _decoded(target.encoded, release, outputs[places[:, 0]], target.labels)
    else:
        found = clean[places[:, 0], target.labels]
    pairs = zip(found, places[:, 1:], target.theirs, strict=True)
    weights = np.stack([clean[rows, labels] @ vector for vector, rows, labels in pairs])
    return _identified(target, weights, release.loss if noised else None)


def reconstruct(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Draw the posterior mean of the candidates' pixels, and say how much of the pixels' variance it explains.

    Candidates are equally likely beforehand. Where the true one is not among them there is no ceiling; the row says 1.
    """
    weights = _weights(target, view, release, noised)
    if noised:
        shares = np.exp(weights - weights.max(axis=1, keepdims=True))
    else:
        shares = (weights == weights.max(axis=1, keepdims=True)).astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    pool = _pixels(target.encoded, target.which[0])
    mean = pool.mean(0)
    ceiling = 1.0
    if noised and bool((target.which == target.true[:, None]).any(1).all()):
        # The eigenvalues of the Gram matrix are those of the covariance, and it is the smaller of the two.
        spread = np.linalg.eigvalsh((pool - mean) @ (pool - mean).T)
        ceiling = min(1.0, math.sinh(float(release.loss) / 2) ** 2 * float(spread[-1] / spread.sum()))
    explained = _explained(shares @ pool, _pixels(target.encoded, target.true), mean)
    return Outcome(len(target.true), len(pool), explained, None, ceiling, 0.0)


def redraw(target: Target, view: str, release: ReleaseSpec, noised: bool = True) -> Outcome:
    """Draw an X-ray that nobody holds, by what releases of the pool teach: pixels regressed on decoded records.

    The attacker knows the label. It makes releases of its own of each X-ray of the pool, and takes the ridge that draws
    best what it left out of the pool. There is no formal ceiling, and the row says 1; chance is what the mean of the
    pool's X-rays with that label explains.
    """
    encoded, outputs = target.encoded, target.encoded.view(view)
    pool, labels = target.which[0], target.theirs[0]
    rows = np.repeat(np.arange(len(pool)), SIMULATED if noised and outputs.shape[1] <= _MANY else 1)
    known = _features(encoded, release, outputs[pool[rows]], labels[rows], noised)
    asked = _features(encoded, release, outputs[target.true], target.labels, noised)
    pixels, true = _pixels(encoded, pool), _pixels(encoded, target.true)
    # Of each label its own mean; the records say what lies off it.
    centres = _by_label(known, labels[rows], release.classes)
    means = _by_label(pixels, labels, release.classes)
    known = known - centres[labels[rows]]
    unit = max(float((known**2).sum(0).mean()), 1e-12)
    ridges = GridSearchCV(
        Ridge(fit_intercept=False),
        {"alpha": [unit * 10.0**power for power in range(-3, 4)]},
        cv=GroupKFold(min(5, len(pool))),
        scoring="neg_mean_squared_error",
    )
    best = ridges.fit(known, (pixels - means[labels])[rows], groups=rows)
    alone, mean = means[target.labels], pixels.mean(0)
    explained = _explained(alone + best.predict(asked - centres[target.labels]), true, mean)
    return Outcome(len(true), len(pool), explained, None, 1.0, _explained(alone, true, mean))


def _by_label(values: Floats, labels: Rows, classes: int) -> Floats:
    """The mean (K, D) of the values (N, D) with each label; of a label that none has, of all."""
    chosen = [labels == label if (labels == label).any() else slice(None) for label in range(classes)]
    return np.stack([values[rows].mean(0) for rows in chosen])


def _features(encoded: Encoded, release: ReleaseSpec, outputs: Floats, labels: Rows, noised: bool) -> Floats:
    """What records (N, q f) say of the features (N, f) of X-rays whose labels (N,) are known."""
    if noised:
        vectors = _decoded(encoded, release, outputs, labels)
    else:
        vectors = _clean(release, outputs)[np.arange(len(labels)), labels]
    if isinstance(release, JointCodebookSpec | JointLaplaceSpec):
        codes = label_codes(release.label_code, release.classes)
        found: Floats = np.einsum("nq,nqf->nf", codes[labels], vectors.reshape(len(labels), codes.shape[1], -1))
        return found
    # Indicators of the labels times features; of one X-ray they add up to 1.
    whole: Floats = vectors.reshape(len(labels), release.classes, -1).sum(1)
    return whole


def _clean(release: ReleaseSpec, outputs: Floats) -> Floats:
    """What records of X-rays (N, k) with each label decode to but for noise, (N, K, q f)."""
    return np.stack([clipped(release, outputs, label) for label in range(release.classes)], axis=1)


def _decoded(encoded: Encoded, release: ReleaseSpec, outputs: Floats, labels: Rows) -> Floats:
    archive = encoded.archive
    asking = Asking(encoded.encoder, archive.tasks[0].label_names, archive.unit, 1)
    return released(asking, release, outputs, labels).vectors


def _explained(drawn: Floats, true: Floats, mean: Floats) -> float:
    """The share of the pixels' variance around the pool's mean."""
    return 1 - float(((drawn - true) ** 2).sum() / ((mean - true) ** 2).sum())


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
    labels = generator.integers(classes, size=attempts)
    every = np.tile(np.arange(classes), (attempts, 1))
    return Target(encoded, rows, np.tile(rows[:, None], classes), labels, labels, every)


def pictured(encoded: Encoded, attempts: int, pool: int, among: bool, generator: np.random.Generator) -> Target:
    """The attacker holds a pool of public X-rays, and the released one is one of them, or a hospital's."""
    public = np.flatnonzero(encoded.archive.pool)
    public = generator.choice(public, size=min(pool, len(public)), replace=False)
    rows = public if among else np.flatnonzero(encoded.archive.part == "hospital")
    true = generator.choice(rows, size=attempts)
    return _target(encoded, true.tolist(), np.tile(public, (attempts, 1)).tolist(), [0] * attempts)


def _target(encoded: Encoded, true: list[int], which: list[list[int]], answer: list[int]) -> Target:
    labels = np.maximum(encoded.archive.tasks[0].labels, 0)
    rows, held = np.array(true, dtype=np.int64), np.array(which, dtype=np.int64)
    return Target(encoded, rows, held, np.array(answer, dtype=np.int64), labels[rows], labels[held])


def _named(target: Target, view: str) -> tuple[Floats, Rows]:
    """Outputs (P, k) of the X-rays that somebody names, and where among them the true one and the held ones are,
    (N, 1 + C). Only those are clipped: the file has thousands, each with all its latents."""
    named, places = np.unique(np.concatenate([target.true[:, None], target.which], axis=1), return_inverse=True)
    return target.encoded.view(view)[named], places.reshape(len(target.true), -1)


def _weights(target: Target, view: str, release: ReleaseSpec, noised: bool) -> Floats:
    outputs, places = _named(target, view)
    candidates = Candidates(release, outputs)
    if not noised:
        return candidates.without_noise(places[:, 0], target.labels, places[:, 1:], target.theirs)
    records = records_of(release, outputs[places[:, 0]], target.labels)
    return candidates.log_likelihoods(records, places[:, 1:], target.theirs)


def _identified(target: Target, weights: Floats, loss: PrivacyLoss | None) -> Outcome:
    right = _first_of_best(weights) == target.answer
    count, hits, candidates = len(right), int(right.sum()), weights.shape[1]
    low = float(beta.ppf(ALPHA, hits, count - hits + 1)) if hits else 0.0
    ceiling = 1.0 if loss is None else best_identification(loss, candidates)
    return Outcome(count, candidates, hits / count, low, ceiling, 1 / candidates)


def _first_of_best(weights: Floats) -> Rows:
    """The column of the largest weight; of equal ones any, so that ties are no advantage and no harm."""
    ties = np.random.default_rng(_SEED).random(weights.shape)
    best = weights >= weights.max(axis=1, keepdims=True) - 1e-9
    found: Rows = np.where(best, ties, -1.0).argmax(axis=1)
    return found
