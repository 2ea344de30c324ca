"""What our releases are held against: everything released, nothing noised, nothing asked of hospitals, no flow.

Every estimator's settings were fixed beforehand; none was chosen by a test label.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from sklearn.linear_model import LogisticRegression

from ldp_client.privacy.laplace import noise_variance
from ldp_client.privacy.release_design import dp_glow
from ldp_client.privacy.release_spec import DpGlowSpec
from server.benchmarks.area import area
from server.benchmarks.arms import STUDENT_SECONDS, Arm, Floats, Score, Student, noise_of
from server.benchmarks.encoded import OF_THE_FLOW
from server.benchmarks.released import released
from server.benchmarks.scene import Scene
from server.learning.student import Shares

PENALTY = 0.01
"""Inverse strength of the L2 penalty of every logistic regression on standardised numbers."""
COMPONENTS = 8
STARTS = 4
EVEN, UNEVEN = 0.5, (0.3, 0.7)
"""Shares of the last label that are supposed where no record says one."""
BOX = "3"


def posterior_mean(noised: Floats, scale: float, spread: float) -> Floats:
    """E[z | z + Laplace(scale) = y] for z normal of mean 0 and deviation `spread`.

    g(y, b) = tanh((log Phi(y - 1/b) - log Phi(-y - 1/b) - 2 y / b) / 2) / b for deviation 1, and tau g(y/tau, b/tau)
    for tau. Post-processing: it costs nothing.
    """
    y, b = noised / spread, scale / spread
    half = (log_ndtr(y - 1 / b) - log_ndtr(-y - 1 / b) - 2 * y / b) / 2
    shrunk: Floats = spread * np.tanh(half) / b
    return shrunk


def everything_noised(view: str, bound: str = BOX) -> Score:
    """All numbers of a view in a box with Laplace noise, labels randomized: DP-GLOW on latents, the baseline on pixels.

    The centre shrinks what it gets to the posterior mean and fits a logistic regression on the randomized labels.
    """

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        outputs = scene.hospital(view)
        total = noise_of(epsilon)
        spec = dp_glow(
            epsilon=total, label_epsilon=total / 2, classes=scene.task.classes, latents=outputs.shape[1], bound=bound
        )
        records = released(scene.asking, spec, outputs, scene.labels)
        pool = np.clip(scene.encoded.view(view)[scene.encoded.archive.pool], -float(bound), float(bound))
        # A label's unbiased indicator is largest for the label that was said.
        parts = records.vectors.reshape(len(outputs), spec.classes, -1)
        said = parts[:, :, 0].argmax(1)
        vectors = parts[np.arange(len(parts)), said, 1:] / parts[np.arange(len(parts)), said, :1]
        scale = _laplace_scale(spec)
        shrunk = posterior_mean(vectors - pool.mean(0), scale, float(pool.std()))
        spread = shrunk.std(0)
        model = _logistic(shrunk / np.where(spread > 0, spread, 1), said)
        clean = scene.test(view)
        if model is None:
            return np.zeros((len(clean), spec.classes))
        return _columns(model, (clean - pool.mean(0)) / np.maximum(pool.std(0), 1e-6), spec.classes)

    return score


def _laplace_scale(spec: DpGlowSpec) -> float:
    """b of the continuous Laplace distribution with the same variance."""
    return float(np.sqrt(noise_variance(spec.laplace) / 2))


def logistic(view: str, labelled: str = "hospital", count: int | None = None) -> Score:
    """Logistic regression on all numbers of a view, without noise: of hospital X-rays, or of public ones (track L)."""

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        if labelled == "hospital":
            features, labels = scene.hospital(view), scene.labels
        else:
            features, labels = scene.encoded.view(view)[scene.part(labelled)], scene.labels_of(labelled)
            if count is not None:
                some = scene.generator.choice(len(labels), size=min(count, len(labels)), replace=False)
                features, labels = features[some], labels[some]
        model = _logistic(features, labels)
        clean = scene.test(view)
        return (
            np.zeros((len(clean), scene.task.classes)) if model is None else _columns(model, clean, scene.task.classes)
        )

    return score


def _logistic(features: Floats, labels: NDArray[np.int64]) -> LogisticRegression | None:
    if len(np.unique(labels)) < 2:
        return None
    return LogisticRegression(C=PENALTY, max_iter=500, tol=1e-4).fit(features, labels)


def _columns(model: LogisticRegression, features: Floats, classes: int) -> Floats:
    """A column of scores for each label; one that the training lacked stands below all others."""
    decision = model.decision_function(features)
    if decision.ndim == 1:
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    columns = np.full((len(features), classes), decision.min() - 1.0)
    columns[:, model.classes_] = decision
    return columns


def first_component(view: str) -> Score:
    """The first public principal component, no hospital and no label. Its sign is anybody's guess."""

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        return scene.test(view)[:, 0]

    return score


def chosen_on_validation(views: tuple[str, ...]) -> Score:
    """Of the first principal components of some views and both signs, the one that does best on validation labels."""

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        rows, labels = scene.part("validation"), scene.labels_of("validation")
        best, found = -1.0, np.zeros(0)
        for view in views:
            outputs, clean = scene.encoded.view(view)[rows], scene.test(view)
            for axis in range(outputs.shape[1]):
                value = area(outputs[:, axis], labels)
                for sign, reached in ((1.0, value), (-1.0, 1 - value)):
                    if reached > best:
                        best, found = reached, sign * clean[:, axis]
        return found

    return score


def public_only(classes: int, coordinates: int, more: tuple[str, ...] = ()) -> list[Arm]:
    """What nobody needs a hospital for, by track. Components have no meaning for more than two labels.

    `more` names further views whose first component is asked: what is released has its own peer among these.
    """
    rows = []
    components = (f"map {COMPONENTS}", f"statistics {COMPONENTS}", f"bottleneck {coordinates}")
    if classes == 2:
        for view in ("map 2", "statistics 2", f"bottleneck {coordinates}", *more):
            rows.append(
                Arm(
                    "public only",
                    "none",
                    "none",
                    glow=_glow(view) + ", first component",
                    score=first_component(view),
                    repeats=1,
                    seconds=0.1,
                    chosen_by="orientation free: the better sign is quoted",
                    oriented=False,
                    private=False,
                )
            )
        rows.append(
            Arm(
                "public only",
                "none",
                "none",
                glow=f"one of {COMPONENTS} of the map, {COMPONENTS} of local statistics, {coordinates} coordinates",
                score=chosen_on_validation(components),
                track="V",
                repeats=1,
                seconds=0.1,
                chosen_by="validation labels",
                private=False,
            )
        )
    for view in ("map", "statistics"):
        for count in (100, None):
            rows.append(
                Arm(
                    "public only",
                    "none",
                    "none",
                    glow=_glow(view),
                    score=logistic(view, "public", count),
                    track="L",
                    public_labels=count or -1,
                    repeats=1 if count is None else 10,
                    seconds=0.3,
                    private=False,
                )
            )
    return rows


def taught_by_nobody(student: Student, coordinates: int) -> list[Arm]:
    """What the student makes of public structure alone: from the first coordinate, and from wrong starts after it.

    Equally frequent labels need no knowledge (track U); other shares stand for what validation labels could tell
    (track V). The first start says how much of a student's area the hospitals' records bring (orientation and
    prevalence, or more), the others whether a student finds a finding that nobody pointed to. The better sign is
    quoted of all.
    """
    taken = min(STARTS, coordinates)

    def starting(axis: int, ill: float) -> Score:
        def score(scene: Scene, epsilon: Fraction | None) -> Floats:
            direction = np.zeros((1, taken))
            direction[0, axis] = 1.0
            return student(scene, f"bottleneck {taken}", direction, Shares.known(np.array([1 - ill, ill])))

        return score

    return [
        Arm(
            "public only",
            "none",
            "none",
            glow=f"bottleneck {taken}, started from coordinate {axis + 1}, shares {1 - ill:g} and {ill:g} supposed",
            score=starting(axis, ill),
            track="U" if ill == EVEN else "V",
            student=True,
            repeats=1,
            seconds=STUDENT_SECONDS,
            chosen_by="orientation free: the better sign is quoted",
            oriented=False,
            private=False,
        )
        for axis in range(taken)
        for ill in (EVEN, *UNEVEN)
    ]


def _glow(view: str) -> str:
    return view if view.startswith(OF_THE_FLOW) else f"none: {view}"


def everything(classes: int) -> list[Arm]:
    """DP-GLOW, its baseline on pixels, and the models without noise."""
    half = "randomized response, half of epsilon"
    return [
        Arm("dp_glow", "laplace in a box", half, "latents", everything_noised("latents"), seconds=2.0),
        Arm("pixels", "laplace in a box", half, "none: pixels", everything_noised("pixels", "1"), seconds=0.8),
        Arm("no noise", "none", "none", "map", logistic("map"), private=False, repeats=1, seconds=0.5),
        Arm(
            "no noise",
            "none",
            "none",
            "none: statistics",
            logistic("statistics"),
            private=False,
            repeats=1,
            seconds=0.5,
        ),
    ]
