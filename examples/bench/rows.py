"""A figure beside its peer's, as every benchmark here reports it: one row, the ratio in it.

Rows: {name, size, unit, better, ours, theirs, ratio, target, met}. The ratio is ours / theirs where higher is better,
and theirs / ours where lower is better, so a larger ratio is always the better one. Where the target is a fixed figure,
`theirs` is that figure and the target is 1.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Row = dict[str, object]
ROUNDS = 5
OUT = Path("build") / "bench"


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of both sides, taken in turns, after one round to warm up."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def row(
    name: str,
    size: int | str,
    unit: str,
    ours: float,
    theirs: float,
    target: float,
    better: Literal["higher", "lower"] = "higher",
) -> Row:
    """One figure and its peer's."""
    ratio = ours / theirs if better == "higher" else theirs / ours
    return {
        "name": name,
        "size": size,
        "unit": unit,
        "better": better,
        "ours": float(f"{ours:.5g}"),
        "theirs": float(f"{theirs:.5g}"),
        "ratio": round(ratio, 3),
        "target": target,
        "met": ratio >= target,
    }


def write(suite: str, rows: list[Row], out: Path = OUT) -> Path:
    """Write a suite's rows to `out`/SUITE.json and return the file."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{suite}.json"
    file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return file
