"""`ldp-client agent`: the process that sees the X-rays. Run it as its own user and without a network."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ldp_client.agent import Agent
from ldp_client.cli.console import HERE, State
from ldp_client.site import open_site
from ldp_client.wire.evaluation import Asked, Evaluation

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _describe() -> None:
    """Reads X-rays, charges, draws, seals, and lays batches out for the courier."""


@app.command()
def run(
    interval: Annotated[float, typer.Option(help="Seconds between two looks at the inbox.")] = 1.0,
    state: State = HERE,
) -> None:
    """Work until stopped (Ctrl-C or SIGTERM). Stopping at any moment is safe."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _agent(state) as agent:
        agent.run(stop, interval)


@app.command()
def release(
    wait: Annotated[float, typer.Option(help="Seconds to wait for the centre's witness.")] = 0.0,
    state: State = HERE,
) -> None:
    """Release every approved campaign and answer every approved evaluation once, and end.

    Exit 5 where the centre has not witnessed the ledger in time.

    The records are laid out for the courier, and leave while `agent run` answers the centre's grants.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    with _agent(state) as agent:
        agent.release(wait)


@contextmanager
def _agent(state: Path) -> Iterator[Agent]:
    """The site's agent, with a progress bar where a person looks."""
    site = open_site(state)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        site.outbox.check_writable()
        site.inbox.check_readable()
        with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
            tasks: dict[str, TaskID] = {}

            def report(campaign: Asked, done: int, total: int) -> None:
                if campaign.name not in tasks:
                    tasks[campaign.name] = progress.add_task(f"{_doing(campaign)} {campaign.name}", total=total)
                progress.update(tasks[campaign.name], completed=done)

            yield Agent(site, report=report)
    finally:
        site.close()


def _doing(asked: Asked) -> str:
    return "scoring for" if isinstance(asked, Evaluation) else "releasing"
