"""`python -m examples.bench [SUITE ...]`: each figure beside its peer's, in one run, written to build/bench/SUITE.json.

The two sides of a figure alternate in one process, and medians are taken; the title says what else the machine was
doing. Without a name, every suite runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform

from rich.console import Console
from rich.table import Table

from examples.bench.rows import Row, write

SUITES = ("privacy", "planner", "glow", "ledger", "road")
"""Each is a module beside this one with `rows()`. Loaded when it runs, so that one suite needs no other's peer."""

ASKED_FOR = ("glow_gpu",)
"""Suites that run only when they are named: not every machine can."""


def machine() -> str:
    """The processor, its cores, and the load that was there before."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def show(suite: str, rows: list[Row]) -> None:
    """Print a suite's rows as a table."""
    table = Table(title=f"{suite}: {machine()}")
    for name in rows[0]:
        table.add_column(name)
    for one in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, float) else str(value) for value in one.values()))
    Console(width=140).print(table)


def main() -> None:
    """Measure, print and write the suites that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m examples.bench", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", choices=[*SUITES, *ASKED_FOR, []], metavar="SUITE", help=", ".join((*SUITES, *ASKED_FOR))
    )
    asked = parser.parse_args().suites or SUITES
    missed = []
    for suite in asked:
        rows: list[Row] = importlib.import_module(f"examples.bench.{suite}").rows()
        show(suite, rows)
        print(f"written to {write(suite, rows)}")
        missed += [f"{suite}: {one['name']} {one['size']}" for one in rows if not one["met"]]
    if missed:
        print("targets missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
