"""What became of every X-ray: both ledgers read back, and held against each other."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from examples.demo.network import Network
from ldp_client.verify import verify_export
from server.store.export import write_export as write_central_export
from server.store.queries import incidents, records_of


@dataclass(frozen=True)
class Verdict:
    """Counts over all sites and campaigns. `faults` says in words what must not be; empty if all is well.

    sealed: records that a site's ledger holds. arrived: records that the centre holds. lost: sealed and not arrived,
    or arrived with other bytes. doubled: X-rays of a campaign with more than one record at the centre. double_charged:
    X-rays charged more than once in a campaign. reconciled: sites whose export the centre's ledger agrees with.
    """

    sealed: int
    arrived: int
    lost: int
    doubled: int
    double_charged: int
    reconciled: int
    faults: tuple[str, ...]


def judge(network: Network, campaigns: list[str], xrays: dict[str, int], exports: Path) -> Verdict:
    """Read everything back, after all processes have ended.

    Args:
        campaigns: ids of the campaigns that every site has worked off.
        xrays: how many X-rays each site has, each of which every campaign must have drawn for once.
    """
    exports.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    at_centre: dict[tuple[str, int], bytes] = {}
    with network.centre.database.snapshot() as connection:
        for campaign in campaigns:
            at_centre |= {(record.site, record.seal): record.payload for record in records_of(connection, campaign)}
        contradictions = Counter(
            incident.code for incident in incidents(connection) if incident.code in ("clone", "fork", "rollback")
        )
        write_central_export(connection, network.centre.keys.signing, exports / "centre.jsonl")
    faults += [f"{count} honest documents were taken for a {code}" for code, count in contradictions.items()]
    sealed = arrived = lost = doubled = double_charged = reconciled = 0
    for site in network.sites:
        # The tables themselves, without our own reading of them.
        with sqlite3.connect(f"file:{network.folder / site / 'agent' / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
            rows = ledger.execute(
                """SELECT o.campaign, o.xray, o.unit, o.micro_epsilon, s.sequence, s.payload
                   FROM openings o LEFT JOIN seals s ON s.charge = o.charge"""
            ).fetchall()
        charged = Counter((campaign, xray) for campaign, xray, *_ in rows)
        double_charged += sum(count > 1 for count in charged.values())
        held = [(campaign, xray, seal, payload) for campaign, xray, _, _, seal, payload in rows if payload is not None]
        there = [one for one in held if (site, one[2]) in at_centre]
        sealed += len(held)
        lost += sum(at_centre.get((site, seal)) != payload for _, _, seal, payload in held)
        doubled += sum(count > 1 for count in Counter((campaign, xray) for campaign, xray, _, _ in there).values())
        mine = [key for key in at_centre if key[0] == site]
        arrived += len(mine)
        if strangers := len(mine) - len(there):
            faults.append(f"{site}: {strangers} records at the centre belong to no seal of the site's ledger")
        spent: Counter[bytes] = Counter()
        released: Counter[bytes] = Counter()
        for _, _, unit, cost, seal, _ in rows:
            spent[unit] += cost
            released[unit] += cost * ((site, seal) in at_centre)
        if any(released[unit] > spent[unit] for unit in spent):
            faults.append(f"{site}: more was released of a unit than it was charged")
        for campaign in campaigns:
            drawn = len({xray for name, xray, *_ in held if name == campaign})
            if drawn != xrays[site]:
                faults.append(f"{site}: {drawn} of {xrays[site]} X-rays were drawn for in campaign {campaign[:12]}")
        reconciled += _reconcile(network, site, exports / f"{site}.jsonl", faults)
    _verify(exports / "centre.jsonl", faults)
    for what, count in (("lost", lost), ("doubled", doubled), ("charged twice", double_charged)):
        if count:
            faults.append(f"{count} {what}")
    if not sealed:
        faults.append("nothing was released: nothing was tried")
    return Verdict(sealed, arrived, lost, doubled, double_charged, reconciled, tuple(faults))


def _reconcile(network: Network, site: str, export: Path, faults: list[str]) -> bool:
    """Whether a site's export verifies and agrees with the centre's ledger, by the commands that an auditor types."""
    export.unlink(missing_ok=True)
    agent = network.folder / site / "agent"
    if not _command(faults, "ldp-client", "ledger", "export", "--state", agent, "--out", export):
        return False
    return _verify(export, faults) and _command(
        faults, "ldp-server", "ledger", "reconcile", export, "--state", network.folder / "centre"
    )


def _verify(export: Path, faults: list[str]) -> bool:
    try:
        verify_export(export)
    except Exception as error:
        faults.append(f"{export.name} does not verify: {error}")
        return False
    return True


def _command(faults: list[str], program: str, *arguments: str | Path) -> bool:
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        faults.append(f"`{program} {arguments[0]} {arguments[1]}` ended with {done.returncode}: {done.stderr[-500:]}")
    return done.returncode == 0
