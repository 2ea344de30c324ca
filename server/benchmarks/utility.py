"""`ldp-server bench utility`: measure every row of the table, resume after a kill, write rows, differences and edges.

Scores of the test X-rays are kept for each row and repeat, so that areas, bootstraps and subgroups are taken from the
same numbers. A row that is there is not measured again: its file's name has the digests of the data, of the encoder, of
the code that makes scores, and of what the row is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ldp_client.flow.installed import open_bundle
from server.benchmarks.area import TestSet, test_error
from server.benchmarks.encoded import OTHERWISE, SHIPPED_FOR, Encoded, Step, encode_archive
from server.benchmarks.figure import curves_png
from server.benchmarks.findings import Measured, Row, differences, forecasts, subgroups
from server.benchmarks.networks import require_opacus
from server.benchmarks.provenance import code_digest, one_thread, processor
from server.benchmarks.resume import write_array, write_text
from server.benchmarks.scene import scene
from server.benchmarks.smaller import smaller
from server.benchmarks.students import student
from server.benchmarks.table import Entry, Extent, entries
from server.benchmarks.tasks import Archive, Task, read_archive

FIELDS = (
    "data", "task", "release", "mechanism", "label_code", "epsilon", "unit", "cap", "patient_epsilon", "records",
    "repeats", "track", "public_labels", "student", "glow", "chosen_by", "auc_mean", "auc_std", "test_se",
)  # fmt: skip
Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Asked:
    """What a run was asked for."""

    data: Path
    public: Path | None
    encoder: str
    out: Path
    caps: tuple[int, ...]
    quick: bool
    without: tuple[str, ...]
    jobs: int
    tasks: tuple[str, ...] = ()
    """Only these; all where none is named."""


@dataclass(frozen=True, eq=False)
class Job:
    """One row to measure: a task by name, and a place in its table."""

    task: str
    cap: int
    place: int
    file: Path
    seconds: float


Report = Callable[[str, float, float], None]
"""Told what was just done, which share of the work is done, and how many seconds are left."""


class Bench:
    """A data file, encoded, and the tables of its tasks."""

    def __init__(self, asked: Asked, step: Step = lambda done, of: None) -> None:
        self.asked = asked
        archive = read_archive(asked.data, asked.public)
        self.archive: Archive = smaller(archive) if asked.quick else archive
        self.data = archive.name
        self.tasks = tuple(self.archive.task(name) for name in asked.tasks) or self.archive.tasks
        self._tables: dict[tuple[str, int], list[Entry]] = {}
        bundle = asked.encoder or SHIPPED_FOR.get(self.data, OTHERWISE)
        encoder = open_bundle(bundle, Path())
        self.encoded: Encoded = encode_archive(self.archive, encoder, asked.out / "resume", step)
        self.key = hashlib.sha256(f"{self.archive.digest} {encoder.digest} {code_digest()}".encode()).hexdigest()[:16]

    def caps(self) -> tuple[int, ...]:
        """The caps that have a meaning: 1 alone where each image is a unit."""
        return self.asked.caps if self.archive.unit == "patient" else (1,)

    def table(self, task: Task, cap: int) -> list[Entry]:
        """The rows of a task at a cap."""
        key = (task.name, cap)
        if key not in self._tables:
            extent = Extent(
                quick=self.asked.quick,
                without=self.asked.without,
                dimension=self.encoded.bottleneck.dimension,
                student=student,
                public_labels=self.archive.has_public_labels(task),
                records=len(scene(self.encoded, task, 1, 0).rows),
            )
            self._tables[key] = entries(self.data, task, cap, extent)
        return self._tables[key]

    def jobs(self) -> Iterator[Job]:
        """Every row that is to be there in the end."""
        folder = self.asked.out / "resume" / f"rows-{self.key}"
        folder.mkdir(parents=True, exist_ok=True)
        for task in self.tasks:
            for cap in self.caps():
                for place, entry in enumerate(self.table(task, cap)):
                    words = self.words(task, entry)
                    name = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:24]
                    seconds = entry.arm.seconds * words["repeats"]
                    yield Job(task.name, cap, place, folder / f"{name}.npy", seconds)

    def words(self, task: Task, entry: Entry) -> Row:
        """What a row says before anything is measured."""
        arm, per_record = entry.arm, entry.per_record
        public = len(self.archive.part[(self.archive.part == "public") & (task.labels >= 0)])
        found = scene(self.encoded, task, entry.cap, 0, entry.changes)
        unit = self.archive.unit
        return {
            "data": self.archive.name,
            "task": f"{task.name}, {entry.circumstances}" if entry.circumstances else task.name,
            "release": arm.release,
            "mechanism": arm.mechanism,
            "label_code": arm.label_code,
            "epsilon": None if per_record is None else float(per_record),
            "unit": unit,
            "cap": entry.cap,
            "patient_epsilon": float(entry.epsilon) if entry.epsilon is not None and unit == "patient" else None,
            "records": 0 if arm.release == "public only" else len(found.rows),
            "repeats": arm.times(len(found.rows), per_record),
            "track": arm.track,
            "public_labels": public if arm.public_labels < 0 else arm.public_labels,
            "student": arm.student,
            "glow": arm.glow,
            "chosen_by": arm.chosen_by,
        }

    def run(self, job: Job) -> None:
        """Measure one row and keep its scores."""
        task = self.archive.task(job.task)
        entry = self.table(task, job.cap)[job.place]
        scores = entry.scores(self.encoded, task, self.words(task, entry)["repeats"])
        write_array(job.file, scores.astype(np.float32))

    def measured(self, report: Report) -> dict[str, list[Measured]]:
        """Every row with its areas on every resampling, by task: minutes, where there are many."""
        found: dict[str, list[Measured]] = {}
        tests, jobs, began = {}, list(self.jobs()), time.monotonic()
        for done, job in enumerate(jobs):
            if done:
                left = (time.monotonic() - began) / done * (len(jobs) - done)
                report(f"resampled {done} of {len(jobs)} rows", done / len(jobs), left)
            task = self.archive.task(job.task)
            rows = np.flatnonzero((self.archive.part == "test") & (task.labels >= 0))
            if job.task not in tests:
                tests[job.task] = TestSet.of(task.labels[rows], self.archive.groups[rows])
            entry = self.table(task, job.cap)[job.place]
            scores = np.load(job.file, allow_pickle=False).astype(np.float64)
            found.setdefault(job.task, []).append(self._measured(task, entry, tests[job.task], scores))
        return found

    def _measured(self, task: Task, entry: Entry, test: TestSet, scores: Scores) -> Measured:
        areas, resampled = test.areas(scores), test.resampled(scores)
        if not entry.arm.oriented and areas.mean() < 0.5:
            areas, resampled, scores = 1 - areas, 1 - resampled, -scores
        row = {
            **self.words(task, entry),
            "auc_mean": round(float(areas.mean()), 5),
            "auc_std": round(float(areas.std()), 5),
            "test_se": round(test_error(resampled), 5),
        }
        return Measured(row, entry, resampled, scores)


def measure(asked: Asked, report: Report, step: Step = lambda done, of: None) -> Path:
    """Measure what is missing, write `utility.json`, `utility.csv` and `utility.png` into `out`, return the first.

    Raises:
        ConfigurationError: the data, the encoder or the chosen configurations cannot be used, or Opacus is missing.
        EncoderError: the encoder may have seen the test X-rays.
    """
    if "dp-sgd" not in asked.without:
        require_opacus()
    started = time.monotonic()
    with one_thread():
        return _measured(Bench(asked, step), report, started)


def _measured(bench: Bench, report: Report, started: float) -> Path:
    asked = bench.asked
    jobs = list(bench.jobs())
    missing = [job for job in jobs if not job.file.exists()]
    total, done = sum(job.seconds for job in missing), 0.0
    began = time.monotonic()
    for job in _worked(bench, missing):
        done += job.seconds
        took = time.monotonic() - began
        report(f"{job.task}, cap {job.cap}, row {job.place}", done / total, took / done * (total - done))
    measured = bench.measured(report)
    about = {
        "data": bench.archive.name,
        "data_sha256": bench.archive.digest,
        "encoder": bench.encoded.encoder,
        "quick": asked.quick,
        "seconds": round(time.monotonic() - started, 1),
        "rows_resumed": len(jobs) - len(missing),
        "rows_measured": len(missing),
        "processor": processor(),
        "processes": asked.jobs,
        "torch": torch.__version__,
    }
    return write(asked.out, about, bench, measured)


def _worked(bench: Bench, missing: list[Job]) -> Iterator[Job]:
    if bench.asked.jobs == 1 or len(missing) < 2:
        for job in missing:
            bench.run(job)
            yield job
        return
    with ProcessPoolExecutor(bench.asked.jobs, initializer=_begin, initargs=(bench.asked,)) as pool:
        # The longest first: a long row that starts last would be waited for alone.
        order = sorted(missing, key=lambda job: -job.seconds)
        for future in as_completed({pool.submit(_work, job): job for job in order}):
            yield future.result()


def write(out: Path, about: Row, bench: Bench, measured: dict[str, list[Measured]]) -> Path:
    """Write the three files and return the JSON."""
    rows = [one.row for found in measured.values() for one in found]
    whole = {
        "about": about,
        "rows": rows,
        "differences": [line for found in measured.values() for line in differences(found)],
        "subgroups": [
            line
            for name, found in measured.items()
            for line in subgroups(bench.archive, bench.archive.task(name), found)
        ],
        "forecasts": [
            line
            for name, found in measured.items()
            for line in forecasts(bench.encoded, bench.archive.task(name), found)
        ],
    }
    file = out / "utility.json"
    write_text(file, json.dumps(whole, indent=1) + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "utility.csv", table.getvalue())
    (out / "utility.png").write_bytes(curves_png(rows))
    return file


_BENCH: list[Bench] = []
_SINGLE = ExitStack()


def _begin(asked: Asked) -> None:
    _SINGLE.enter_context(one_thread())  # for as long as the process lives
    _BENCH.append(Bench(asked))


def _work(job: Job) -> Job:
    _BENCH[0].run(job)
    return job
