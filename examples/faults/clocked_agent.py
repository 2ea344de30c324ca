"""`python -m examples.faults.clocked_agent --state FOLDER FILE`: an agent whose clock is wrong by the days in a file.

It is the agent that `ldp-client agent run` starts, with another clock as its argument; the file is read at each look,
so the clock jumps while X-rays are charged and drawn for.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import signal
import threading
import time
from pathlib import Path

from ldp_client.agent import Agent
from ldp_client.site import open_site


def main() -> None:
    """Work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.faults.clocked_agent", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("days", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def off() -> int:
        return int(arguments.days.read_text())

    def today() -> datetime.date:
        return datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=off())

    with contextlib.closing(open_site(arguments.state)) as site:
        # A refusal of today is forgotten tomorrow: the other clock jumps along.
        Agent(site, today=today, clock=lambda: time.monotonic() + 86_400 * abs(off())).run(stop, 0.5)


if __name__ == "__main__":
    main()
