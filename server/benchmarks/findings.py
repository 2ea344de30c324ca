"""What the measured rows say of each other: differences that count, subgroups, the planner beside the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.prediction import Population, predict
from server.benchmarks.area import TestSet, paired_difference
from server.benchmarks.chosen import FILE
from server.benchmarks.encoded import Encoded
from server.benchmarks.scene import scene
from server.benchmarks.table import Entry
from server.benchmarks.tasks import Archive, Task

Row = dict[str, Any]
Scores = NDArray[np.floating[Any]]
WITHIN = 0.03
_NAMED = (
    "task",
    "release",
    "mechanism",
    "label_code",
    "glow",
    "epsilon",
    "cap",
    "patient_epsilon",
    "track",
    "student",
    "chosen_by",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """A row, the areas behind it on every resampling of the test set, and the scores of every repeat."""

    row: Row
    entry: Entry
    resampled: NDArray[np.float64]
    scores: Scores


def differences(measured: list[Measured]) -> list[Row]:
    """Each release of ours, as things are, less its peers at the same epsilon per unit; 95 % paired bootstrap.

    Peers: the best public-only model of the same track and of tracks V and L (best on the test set, which favours it),
    `dp_glow`, pixel Laplace, central DP-SGD, the local statistics that are released in the same way. A difference
    counts when its interval lies on one side of 0.
    """
    usual = [one for one in measured if not one.entry.circumstances]
    found = []
    for one in usual:
        if one.entry.epsilon is None or one.row["release"].partition(",")[0] not in ("joint", "latent", "image"):
            continue
        for name, peer in _peers(one, usual):
            low, high = paired_difference(one.resampled, peer.resampled)
            found.append(
                {
                    **{key: one.row[key] for key in _NAMED},
                    "against": name,
                    "difference": round(one.row["auc_mean"] - peer.row["auc_mean"], 5),
                    "low": round(low, 5),
                    "high": round(high, 5),
                    "counts": low > 0 or high < 0,
                }
            )
    return found


def _peers(one: Measured, usual: list[Measured]) -> list[tuple[str, Measured]]:
    found = []
    for track in dict.fromkeys((one.row["track"], "V", "L")):
        public = [peer for peer in usual if peer.row["release"] == "public only" and peer.row["track"] == track]
        if public:
            best = max(public, key=lambda peer: float(peer.row["auc_mean"]))
            found.append((f"best public-only model of track {track} ({best.row['glow']})", best))
    for peer in usual:
        row = peer.row
        if peer is one or peer.entry.epsilon != one.entry.epsilon:
            continue
        if row["release"] in ("dp_glow", "pixels", "classifier") and row["cap"] in (one.row["cap"], 1):
            found.append((f"{row['release']}, {row['mechanism']}, {row['glow']}", peer))
        same = all(row[key] == one.row[key] for key in ("mechanism", "label_code", "cap"))
        if same and row["glow"] == f"none: statistics {one.row['glow'].rpartition(' ')[2]}":
            found.append((f"the same release of {row['glow']}", peer))
    return found


def subgroups(archive: Archive, task: Task, measured: list[Measured]) -> list[Row]:
    """The area within parts of the test set, for the chosen releases and for the models without noise."""
    rows = np.flatnonzero((archive.part == "test") & (task.labels >= 0))
    found = []
    for one in measured:
        if one.entry.circumstances or not (one.row["chosen_by"].startswith(FILE) or one.row["release"] == "no noise"):
            continue
        for name, members in task.subgroups.items():
            inside = members[rows]
            test = TestSet.of(task.labels[rows][inside], archive.groups[rows][inside])
            areas = test.areas(one.scores[:, inside])
            found.append(
                {
                    **{key: one.row[key] for key in _NAMED},
                    "subgroup": name,
                    "xrays": int(inside.sum()),
                    "auc_mean": round(float(areas.mean()), 5),
                    "auc_std": round(float(areas.std()), 5),
                    "test_se": round(float(np.nanstd(test.resampled(one.scores[:, inside]).mean(0))), 5),
                }
            )
    return found


def forecasts(encoded: Encoded, task: Task, measured: list[Measured]) -> list[Row]:
    """The planner's prediction beside each measurement of ours.

    The planner is told what a campaign's author has to suppose: the area without noise, here that of the same numbers
    measured without noise, and the hospitals' prevalence.
    """
    clean = {
        one.row["glow"]: one.row["auc_mean"]
        for one in measured
        if one.row["release"] == "no noise" and not one.entry.circumstances
    }
    found = []
    for one in measured:
        wanted, per_record = one.entry.forecast, one.entry.per_record
        if wanted is None or per_record is None or one.row["glow"] not in clean:
            continue
        supposed = clean[one.row["glow"]]
        if not 0.5 < supposed < 1:
            continue
        labels = scene(encoded, task, one.entry.cap, 0).labels
        shares = np.bincount(labels, minlength=task.classes) / len(labels)
        outputs = encoded.view(wanted.view)[encoded.archive.pool]
        predicted = predict(
            wanted.spec(per_record, task.classes), Population(supposed, tuple(shares.tolist())), len(labels), outputs
        )
        found.append(
            {
                **{key: one.row[key] for key in _NAMED},
                "supposed_without_noise": supposed,
                "predicted": round(predicted.auc, 5),
                "measured": one.row["auc_mean"],
                "within": abs(predicted.auc - one.row["auc_mean"]) <= WITHIN,
            }
        )
    return found
