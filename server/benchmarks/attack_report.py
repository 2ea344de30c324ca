"""`ldp-server bench attacks`: what records give away to someone who holds candidates, beside what nobody can pass."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ldp_client.errors import VerificationError
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.release_design import dp_glow
from ldp_client.privacy.release_spec import ReleaseSpec
from server.benchmarks import attacks
from server.benchmarks.arms import Wanted
from server.benchmarks.attack_figure import attacks_png
from server.benchmarks.attacks import Outcome, Target
from server.benchmarks.chosen import chosen
from server.benchmarks.encoded import OTHERWISE, SHIPPED_FOR, Encoded, Step, encode_archive
from server.benchmarks.provenance import one_thread, processor
from server.benchmarks.resume import write_text
from server.benchmarks.smaller import smaller
from server.benchmarks.tasks import read_archive

FIELDS = (
    "data", "attack", "release", "mechanism", "label_code", "glow", "chosen", "epsilon", "unit", "attempts",
    "candidates", "success", "at_least", "ceiling", "chance", "noiseless", "holds",
)  # fmt: skip
EPSILONS = ("1/2", "1", "2", "4", "8", "16")
QUICK_EPSILONS = ("1", "4")
RELEASES = (Wanted("codebook", "map 8"), Wanted("laplace", "map 2"), Wanted("latent", "map 2"))
WHOLE = ("map 2", "map 4", "map 8", "map", "latents", "pixels")
"""What would be released without any mechanism: how much of a patient lies in these numbers."""
ANOTHER, SAME, LABEL = "patient, by another X-ray", "patient, by the same X-ray", "label, by the X-ray"
AMONG, OUTSIDE = "picture, of one of the pool", "picture, of an X-ray that nobody holds"
_ATTACKS = {
    ANOTHER: attacks.recognise,
    SAME: attacks.identify,
    LABEL: attacks.identify,
    AMONG: attacks.reconstruct,
    OUTSIDE: attacks.redraw,
}
_SEED = 90125
Row = dict[str, Any]
Report = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Effort:
    """How many attempts; those of `dp_glow` are fewer, since each has all latents."""

    attempts: int = 2000
    times: int = 20
    pictures: int = 300
    pool: int = 400
    heavy: int = 200


QUICK = Effort(attempts=150, times=2, pictures=30, pool=60, heavy=20)


@dataclass(frozen=True)
class Asked:
    """What a run was asked for."""

    data: Path
    public: Path | None
    encoder: str
    out: Path
    quick: bool


@dataclass(frozen=True, eq=False)
class Attacked:
    """A release under attack and the words that its rows have; `chosen` where it is what chosen.toml asks for."""

    words: Row
    view: str
    release: ReleaseSpec
    heavy: bool = False


def measure(asked: Asked, report: Report, step: Step = lambda done, of: None) -> Path:
    """Attack every release, write `attacks.json`, `attacks.csv` and `attacks.png` into `out`, return the first.

    Raises:
        ConfigurationError: the data, the encoder or the chosen configurations cannot be used.
        EncoderError: the encoder may have seen the X-rays under attack.
        VerificationError: an attack passed its ceiling. The files are written before.
    """
    started = time.monotonic()
    with one_thread():
        whole = read_archive(asked.data, asked.public)
        encoder = open_bundle(asked.encoder or SHIPPED_FOR.get(whole.name, OTHERWISE), Path())
        archive = smaller(whole) if asked.quick else whole
        encoded = encode_archive(archive, encoder, asked.out / "resume", step)
        rows = list(_rows(encoded, whole.name, asked.quick, report))
    about = {
        "data": archive.name,
        "data_sha256": archive.digest,
        "encoder": encoder.digest,
        "quick": asked.quick,
        "seconds": round(time.monotonic() - started, 1),
        "processor": processor(),
    }
    return write(asked.out, about, rows)


def write(out: Path, about: Row, rows: list[Row]) -> Path:
    """Write the three files and return the JSON.

    Raises:
        VerificationError: an attack passed its ceiling.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "attacks.json"
    write_text(file, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "attacks.csv", table.getvalue())
    (out / "attacks.png").write_bytes(attacks_png(rows))
    passed = [row for row in rows if not row["holds"]]
    if passed:
        first = passed[0]
        raise VerificationError(
            f"asked whether attacks stay below their ceilings; {len(passed)} did not, first {first['attack']!r} on "
            f"{first['release']} at epsilon {first['epsilon']}: {first['success']} against {first['ceiling']}; a claim "
            "of epsilon is wrong: release nothing with this version"
        )
    return file


def _rows(encoded: Encoded, data: str, quick: bool, report: Report) -> Iterator[Row]:
    epsilons = [Fraction(epsilon) for epsilon in (QUICK_EPSILONS if quick else EPSILONS)]
    targets = _Targets(encoded, QUICK if quick else Effort())
    began = time.monotonic()
    yield from targets.whole()
    for done, epsilon in enumerate(epsilons):
        for attacked in _releases(encoded, data, epsilon):
            yield from targets.rows(attacked, epsilon)
        share = (done + 1) / len(epsilons)
        report(f"epsilon {epsilon}", share, (time.monotonic() - began) * (1 - share) / share)


def _releases(encoded: Encoded, data: str, epsilon: Fraction) -> Iterator[Attacked]:
    task = encoded.archive.tasks[0]
    first = chosen(data, task.name, epsilon).within(encoded.bottleneck.dimension)
    for wanted in dict.fromkeys((first, *RELEASES)):
        words = {**wanted.words, "chosen": wanted == first}
        yield Attacked(words, wanted.view, wanted.spec(epsilon, task.classes))
    latents = encoded.latents.shape[1]
    everything = dp_glow(epsilon=epsilon, label_epsilon=epsilon / 2, classes=task.classes, latents=latents)
    words = {
        "release": "dp_glow",
        "mechanism": "laplace in a box",
        "label_code": "randomized response, half of epsilon",
        "glow": "latents",
        "chosen": False,
    }
    yield Attacked(words, "latents", everything, heavy=True)


class _Targets:
    """The X-rays under attack, the same for every release and epsilon, and fewer of them for heavy releases."""

    def __init__(self, encoded: Encoded, effort: Effort) -> None:
        self.encoded, self.effort = encoded, effort
        self.usual, self.few = self._of(effort, heavy=False), self._of(effort, heavy=True)
        self._noiseless: dict[tuple[str, ...], float] = {}

    def _of(self, effort: Effort, heavy: bool) -> dict[str, Target]:
        encoded, generator = self.encoded, np.random.default_rng(_SEED)
        attempts = effort.heavy if heavy else effort.attempts
        pictures = min(effort.pictures, attempts)
        found = {
            SAME: attacks.same_xray(encoded, attempts, generator),
            LABEL: attacks.held_xray(encoded, encoded.archive.tasks[0].classes, attempts, generator),
            AMONG: attacks.pictured(encoded, pictures, effort.pool, True, generator),
            OUTSIDE: attacks.pictured(encoded, pictures, effort.pool, False, generator),
        }
        another = attacks.other_xrays_of_the_patient(encoded, 1 if heavy else effort.times, generator)
        return found if another is None else {ANOTHER: another, **found}

    def whole(self) -> Iterator[Row]:
        """Identification by numbers that leave as they are."""
        for view in WHOLE:
            words = {"release": "no noise", "mechanism": "none", "label_code": "none", "glow": view, "chosen": False}
            for name in (ANOTHER, SAME):
                target = (self.few if view in ("latents", "pixels", "map") else self.usual).get(name)
                if target is not None:
                    outcome = attacks.identify_unreleased(target, view)
                    yield self._row(name, words, None, outcome, outcome.success)

    def rows(self, attacked: Attacked, epsilon: Fraction) -> Iterator[Row]:
        """Every attack on one release."""
        for name, target in (self.few if attacked.heavy else self.usual).items():
            yield self._row(
                name, attacked.words, epsilon, self._run(name, target, attacked), self.noiseless(name, target, attacked)
            )

    def _run(self, name: str, target: Target, attacked: Attacked, noised: bool = True) -> Outcome:
        return _ATTACKS[name](target, attacked.view, attacked.release, noised)

    def noiseless(self, name: str, target: Target, attacked: Attacked) -> float:
        """The same attack on the mechanism's input: once for each release, since epsilon has no part in it."""
        key = (name, *(str(attacked.words[word]) for word in ("mechanism", "label_code", "glow")))
        if key not in self._noiseless:
            self._noiseless[key] = self._run(name, target, attacked, noised=False).success
        return self._noiseless[key]

    def _row(self, name: str, words: Row, epsilon: Fraction | None, outcome: Outcome, noiseless: float) -> Row:
        return {
            "data": self.encoded.archive.name,
            "attack": name,
            **words,
            "epsilon": None if epsilon is None else float(epsilon),
            "unit": "record",
            "attempts": outcome.attempts,
            "candidates": outcome.candidates,
            "success": round(outcome.success, 5),
            "at_least": None if outcome.low is None else round(outcome.low, 5),
            "ceiling": round(outcome.ceiling, 5),
            "chance": round(outcome.chance, 5),
            "noiseless": round(noiseless, 5),
            "holds": outcome.holds,
        }
