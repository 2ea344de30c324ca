"""One way from a scene to scores of the test X-rays, and the words that its rows have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError, WaitingError
from ldp_client.privacy.release_design import joint_codebook, joint_laplace, latent
from ldp_client.privacy.release_spec import ReleaseSpec
from server.benchmarks.encoded import OF_THE_FLOW
from server.benchmarks.released import released
from server.benchmarks.scene import Scene
from server.learning.head import weigh
from server.learning.public_shares import public_shares, tells_classes
from server.learning.student import Shares
from server.learning.train import TrainingSet, train

Floats = NDArray[np.float64]
Track = Literal["U", "V", "L"]
STUDENT_SECONDS, HEAD_SECONDS = 0.3, 0.4
FEW, SPREADING = 1000, 4
"""Records, and the epsilon of one, below which releases are repeated more often."""
Score = Callable[[Scene, Fraction | None], Floats]
Alter = Callable[[Scene, TrainingSet], TrainingSet]
"""What becomes of the decoded records before they are learnt from: crafted ones among them, a cap on sites."""


class Student(Protocol):
    """A student on public X-rays without labels: post-processing of a direction, which costs no epsilon."""

    def __call__(self, scene: Scene, view: str, direction: Floats, shares: Shares | None) -> Floats:
        """Scores (T,) or (T, K) of the test X-rays.

        Args:
            scene: whose public pool and test X-rays are meant; hospital X-rays and all labels are out of bounds.
            view: the numbers that the direction belongs to.
            direction: (K-1, k), as `LinearClassifier.mean` has it.
            shares: of the labels among the public X-rays as far as they are known; None where nothing says.
        """
        ...


@dataclass(frozen=True, eq=False)
class Arm:
    """What is released, how, and what is learnt from it.

    Attributes:
        glow: which of the encoder's numbers are used: `bottleneck 4` the first four of its own coordinates, `map 8` the
            first eight principal ones of the log-scale map, `level2 3` the first three of its second level, `map` all
            of it, `latents`, or none.
        score: scene and epsilon per record to scores (T,) or (T, K) of the test X-rays.
        private: whether epsilon changes anything; where not, there is one row.
        repeats: independent releases, or trainings.
        repeats_of_few: the same where there are fewer than FEW records and epsilon is at most SPREADING: there releases
            differ so much that the mean of ten says little.
        seconds: what one repeat takes, roughly, for the time that is left.
    """

    release: str
    mechanism: str
    label_code: str
    glow: str
    score: Score
    track: Track = "U"
    public_labels: int = 0
    student: bool = False
    chosen_by: str = "fixed beforehand"
    private: bool = True
    repeats: int = 10
    repeats_of_few: int = 0
    seconds: float = 1.0
    oriented: bool = True

    def times(self, records: int, epsilon: Fraction | None) -> int:
        """How often the arm is measured on so many records at an epsilon per record."""
        spreads = epsilon is not None and epsilon <= SPREADING and records < FEW
        return max(self.repeats, self.repeats_of_few) if spreads else self.repeats


@dataclass(frozen=True)
class Wanted:
    """A release of ours without its epsilon.

    Attributes:
        kind: joint codebook, joint Laplace or latent.
        view: which numbers of an X-ray (`Encoded.view`).
        radius: of the L1 ball, for Laplace.
        constant: of the codebook as a share of a unit vector, of Laplace in encoder units; None for none.
        head: whether public X-rays weigh what the records say (`server.learning.head`).
    """

    kind: Literal["codebook", "laplace", "latent"]
    view: str
    label_code: Literal["simplex", "one_hot"] = "simplex"
    constant: str | None = None
    radius: str = "1"
    head: bool = False

    def spec(self, epsilon: Fraction, classes: int) -> ReleaseSpec:
        """The release at one epsilon, image and label together."""
        common: dict[str, Any] = {
            "epsilon": epsilon,
            "classes": classes,
            "bottleneck_dimension": int(self.view.split()[1]),
        }
        if self.kind == "codebook":
            return joint_codebook(**common, label_code=self.label_code, constant=self.constant)
        if self.kind == "laplace":
            return joint_laplace(**common, label_code=self.label_code, constant=self.constant, radius=self.radius)
        return latent(**common, label_epsilon=epsilon / 2, radius=self.radius)

    def within(self, dimension: int) -> Wanted:
        """The same of no more coordinates than an encoder has: it may be another than the one that was chosen for."""
        source, _, k = self.view.partition(" ")
        few = source == "bottleneck" and 0 < dimension < int(k)
        return replace(self, view=f"{source} {dimension}") if few else self

    @property
    def words(self) -> dict[str, str]:
        """What rows say of it."""
        glow = self.view if self.view.startswith(OF_THE_FLOW) else f"none: {self.view}"
        code = self.label_code + (f", constant {self.constant}" if self.constant else "")
        behind = ", with a head" if self.head else ""
        if self.kind == "latent":
            return {
                "release": f"latent{behind}",
                "mechanism": f"laplace radius {self.radius}",
                "label_code": "randomized response, half of epsilon",
                "glow": glow,
            }
        mechanism = "codebook" if self.kind == "codebook" else f"laplace radius {self.radius}"
        return {"release": f"joint{behind}", "mechanism": mechanism, "label_code": code, "glow": glow}


def ours(wanted: Wanted, alter: Alter | None = None, student: Student | None = None, **words: Any) -> Arm:
    """An arm of one of our releases: the centre's own training on real records, without public labels.

    `alter` stands between records and training; behind it a head, if one is wanted, and a `student`. The student is
    told the shares that the records estimate of the public X-rays where they can, those of the hospitals' X-rays where
    they say no more than that.
    """

    def score(scene: Scene, epsilon: Fraction | None) -> Floats:
        if epsilon is None:
            return without_noise(scene, wanted)
        records = released(
            scene.asking, wanted.spec(epsilon, scene.task.classes), scene.hospital(wanted.view), scene.labels
        )
        if alter is not None:
            records = alter(scene, records)
        trained, view, pool = train(records), wanted.view, scene.encoded.archive.pool
        if wanted.head:
            view = _all_of(view, scene.encoded.bottleneck.dimension)
            trained = weigh(records, trained, scene.encoded.view(view)[pool])
        if student is None:
            return trained.classifier.scores(scene.test(view))
        direction = np.array(trained.classifier.mean, dtype=np.float64)
        if tells_classes(records.release):
            try:
                found = public_shares(records, scene.encoded.view(wanted.view)[pool])
            except WaitingError:  # too few records
                found = None
            if found is None or not found.is_mixture:
                # The command refuses a student here, and what there is are the records.
                return trained.classifier.scores(scene.test(view))
            return student(scene, view, direction, found.shares)
        return student(scene, view, direction, None if trained.moments is None else Shares.told_by(trained.moments))

    codebook, named = wanted.kind == "codebook", wanted.words
    arm = Arm(
        named["release"],
        named["mechanism"],
        named["label_code"],
        named["glow"],
        score,
        repeats=10 if codebook else 20,
        repeats_of_few=40,
        seconds=(0.5 if codebook else 0.1)
        + (0.0 if student is None else STUDENT_SECONDS)
        + (HEAD_SECONDS if wanted.head else 0.0),
        student=student is not None,
    )
    return replace(arm, **words)


def _all_of(view: str, dimension: int) -> str:
    """All coordinates of the encoder's own; of another view those that were released, which is all that it has."""
    return f"bottleneck {dimension}" if view.startswith("bottleneck") else view


def noise_of(epsilon: Fraction | None) -> Fraction:
    """The epsilon of an arm that cannot do without.

    Raises:
        ParameterError: there is none.
    """
    if epsilon is None:
        raise ParameterError("this release has no form without noise; ask for it at an epsilon")
    return epsilon


def without_noise(scene: Scene, wanted: Wanted) -> Floats:
    """What the same estimator learns where nothing is clipped or noised: class means with equal weight."""
    outputs, classes = scene.hospital(wanted.view), range(scene.task.classes)
    means = np.stack([outputs[scene.labels == label].mean(0) for label in classes])
    scores: Floats = scene.test(wanted.view) @ (means - means.mean(0)).T
    return scores
