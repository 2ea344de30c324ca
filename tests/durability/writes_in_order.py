"""A child process for strace: a charge, a seal, a file in the spool, a batch committed; it says which is when."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from examples.bench.one_exchange import waiting_exchange
from examples.bench.one_site import approved_site
from ldp_client.ledger.store import ChargeRequest, OpenCharge
from ldp_client.spool import Outbox


def say(mark: str) -> None:
    """A line that strace shows between the calls."""
    os.write(2, f"MARK {mark}\n".encode())


def main(folder: Path, careless: bool) -> None:
    """Do each step once; a careless site does not wait for its disk."""
    with approved_site(folder / "first", 1) as (site, campaign):
        if careless:
            site.ledger._connection.execute("PRAGMA synchronous = OFF")
        say("charge")
        charges = site.ledger.charge(campaign, [ChargeRequest(b"u" * 32, b"x" * 32, b"s" * 32)], "2026-01-01")
        say("seal")
        site.ledger.seal([(one, b"record") for one in charges if isinstance(one, OpenCharge)], "2026-01-01")
        say("spool")
        outbox = Outbox(folder / "spool")
        outbox.create()
        say("put")
        outbox.put("header", b"a header")
        say("end")
    (folder / "second").mkdir()
    with waiting_exchange(folder / "second", 1) as exchange:
        say("commit")
        exchange.centre.submit(exchange.site, exchange.sealed[0])
        say("done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["careless"])
