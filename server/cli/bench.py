"""`ldp-server bench`: what a release is worth, and what it gives away, measured on real X-rays."""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ldp_client.cli.console import say
from ldp_client.errors import ConfigurationError
from server.benchmarks import attack_report
from server.benchmarks.table import PARTS
from server.benchmarks.utility import Asked, measure

app = typer.Typer(no_args_is_help=True, help="Measure what a release is worth, and what it gives away.")


@app.callback()
def _describe() -> None:
    """Figures of this code on real X-rays; nothing is released by them."""


DataOption = Annotated[Path, typer.Option(help="PneumoniaMNIST's .npz, or one with the fields of cxr64.")]
PublicOption = Annotated[
    Path | None, typer.Option(help="Public X-rays for a file that has none (adult64): an .npz with a public split.")
]
EncoderOption = Annotated[
    str, typer.Option(help="A bundle's folder or shipped:NAME; empty takes the shipped one that fits the data.")
]
JobsOption = Annotated[int, typer.Option(help="Processes, each with one thread.")]


@app.command()
def utility(
    data: DataOption,
    public: PublicOption = None,
    encoder: EncoderOption = "",
    out: Annotated[Path, typer.Option(help="Folder of the results; an interrupted run goes on from there.")] = Path(
        "build/utility"
    ),
    cap: Annotated[list[int], typer.Option(help="Records per patient; may be given more than once.")] = [1, 2],  # noqa: B006
    task: Annotated[list[str], typer.Option(help="Only this finding; may be given more than once.")] = [],  # noqa: B006
    without: Annotated[list[str], typer.Option(help=f"Leave rows out: {', '.join(PARTS)}.")] = [],  # noqa: B006
    jobs: JobsOption = 2,
    quick: Annotated[bool, typer.Option("--quick", help="A part of the data, two epsilons, three repeats.")] = False,
) -> None:
    """Measure our releases, their peers and the public-only models over epsilon, and write JSON, CSV and a figure.

    No choice looks at a test X-ray: what is released at which epsilon stands in a committed file.
    """
    unknown = sorted(set(without) - set(PARTS))
    if unknown or jobs < 1 or not cap or min(cap) < 1:
        raise ConfigurationError(
            f"asked to leave out {', '.join(unknown) or 'nothing'}, for {jobs} processes and the caps {cap}; "
            f"give any of {', '.join(PARTS)}, at least 1 process and caps from 1 on"
        )
    parts = tuple(sorted(set(without)))
    asked = Asked(data, public, encoder, out, tuple(sorted(set(cap))), quick, parts, jobs, tuple(dict.fromkeys(task)))
    _writable(out)
    with Shown() as shown:
        file = measure(asked, shown.row, shown.encoding)
    say(f"wrote {file}, {file.with_suffix('.csv').name} and {file.with_suffix('.png').name}")


@app.command()
def attacks(
    data: DataOption,
    public: PublicOption = None,
    encoder: EncoderOption = "",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("build/attacks"),
    quick: Annotated[bool, typer.Option("--quick", help="A part of the data, two epsilons, few attempts.")] = False,
) -> None:
    """Attack records: which patient, which label, what does the X-ray look like? Writes JSON, CSV and a figure.

    Each attack stands beside its formal ceiling and beside the same attack on releases without noise. Ends with exit
    code 6 if one passes its ceiling.
    """
    _writable(out)
    with Shown() as shown:
        file = attack_report.measure(attack_report.Asked(data, public, encoder, out, quick), shown.row, shown.encoding)
    say(f"wrote {file}, {file.with_suffix('.csv').name}, {file.with_suffix('.png').name}; no attack passed its ceiling")


def _writable(folder: Path) -> None:
    """Return if results can be written there: it takes an hour to have them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot hold the results ({error.strerror}); name with --out a folder that can be written"
        ) from error


class Shown:
    """Progress as a bar on a terminal, as a line at least every half minute elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("encoding", total=1.0, left="")
        self.said = 0.0

    def __enter__(self) -> Shown:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def encoding(self, done: int, of: int) -> None:
        """Told after each part of the X-rays is encoded."""
        self._show("encoding", done / of, "")

    def row(self, what: str, share: float, seconds_left: float) -> None:
        """Told after each row."""
        self._show(what, share, f"about {timedelta(seconds=round(seconds_left))} left")

    def _show(self, what: str, share: float, left: str) -> None:
        self.bar.update(self.task, description=what, completed=share, left=left)
        if self.bar.disable and (share >= 1 or time.monotonic() - self.said > 30):
            self.said = time.monotonic()
            sys.stderr.write(f"{what}: {100 * share:.0f} % {left}\n")
            sys.stderr.flush()
