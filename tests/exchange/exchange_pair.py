"""A real site and a real centre in one process, a courier between them in memory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ldp_client.agent import Agent
from ldp_client.export import write_export
from ldp_client.officer import approve, put_into_force
from ldp_client.rotation import rotate_key
from ldp_client.site import Site, create_site, enrolment, open_site
from ldp_client.supernode import create_node_key
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import Campaign, Policy, campaign_id
from ldp_client.wire.signing import SigningKey
from server.centre import Centre, enrol, publish
from server.config import CARD_NAME
from server.reconcile import compare
from server.store.export import write_export as write_central_export
from server.store.queries import incidents, records_of
from tests.client.second_reader import read_site_export
from tests.client.world import MeanEncoder, make_campaign, pictures, write_xrays

OFFICER, SECOND, THIRD = (SigningKey(letter * 32) for letter in (b"o", b"p", b"q"))
XRAYS = 6


@dataclass
class Pair:
    """A site with two officers, its centre, and the road between."""

    folder: Path
    centre: Centre
    site: Site
    agent: Agent

    def carry(self, rounds: int = 1, *, lose_batches: bool = False) -> None:
        """What courier and gathering do, so many times."""
        for _ in range(rounds):
            self.site.inbox.mirror(self.centre.offer("north"))
            self.agent.step()
            self.centre.answer("north", self.site.outbox.documents())
            for name in [] if lose_batches else self.centre.wanted("north"):
                body = self.site.outbox.batch(name)
                if body is not None:
                    self.centre.submit("north", body)

    def release(self, name: str, officer: SigningKey = OFFICER) -> Campaign:
        """Publish a campaign, approve it and carry until everything has arrived."""
        campaign = self.begin(name, officer)
        self.finish()
        return campaign

    def begin(self, name: str, officer: SigningKey = OFFICER) -> Campaign:
        campaign = make_campaign(name=name, epsilon=1, ends="2099-12-31")
        publish(self.centre, campaign)
        self.carry()
        approve(self.site, campaign, officer)
        return campaign

    def finish(self) -> None:
        for _ in range(12):
            self.carry()
            if self.centre.finished():
                return
        raise AssertionError("not finished")

    def rotate(self, *, lost: bool = False, officer: SigningKey = OFFICER) -> bytes:
        """New key, as IT and an officer make it; the agent is stopped meanwhile."""
        self.site.close()
        document, _ = rotate_key(self.site.folder, officer, lost=lost)
        self.restart()
        return document

    def restart(self) -> None:
        self.site.close()
        self.site = open_site(self.site.folder)
        self.agent = Agent(self.site, encoder=MeanEncoder())  # type: ignore[arg-type]

    def records(self, campaign: Campaign) -> int:
        with self.centre.database.snapshot() as connection:
            return len(list(records_of(connection, campaign_id(campaign))))

    def codes(self) -> list[str]:
        with self.centre.database.snapshot() as connection:
            return [incident.code for incident in incidents(connection)]

    def exports(self) -> tuple[Path, Path]:
        """Both sides' exports, verified and reconciled."""
        mine, theirs = self.folder / "north.jsonl", self.folder / "centre.jsonl"
        mine.unlink(missing_ok=True)
        write_export(self.site, mine)
        with self.centre.database.snapshot() as connection:
            write_central_export(connection, self.centre.keys.signing, theirs)
            verify_export(mine)
            verify_export(theirs)
            compare(connection, mine, self.centre.keys.signing.public_key)
        # A reader that was written from the format's page alone finds the same.
        assert read_site_export(mine).sealed == verify_export(mine).histories[0].sealed
        return mine, theirs


@contextlib.contextmanager
def founded(folder: Path, centre: Centre) -> Iterator[Pair]:
    """A site with two officers, enrolled at a centre whose folder is `centre`; its node's key is `folder / "node"`."""
    site = create_site(folder / "north", "north", "North", (OFFICER.public_key, SECOND.public_key))
    shutil.copy(folder / "centre" / CARD_NAME, site.folder)
    site.create_spool()
    images, labels = pictures(XRAYS)
    write_xrays(site.folder / "xrays", images, labels, [f"{number}.png" for number in range(XRAYS)])
    toml = site.folder / "agent.toml"
    toml.write_text(toml.read_text() + "\n[release]\nrecords_per_batch = 2\nlook_for_late_seconds = 100000\n")
    policy = Policy(
        site="north", serial=1, encoders=(MeanEncoder.digest,), units=("image",), lifetime_micro_epsilon=9_000_000
    )
    put_into_force(site, policy, OFFICER)
    enrol(centre, enrolment(site, create_node_key(folder / "node").read_text()))
    pair = Pair(folder, centre, site, Agent(site))
    pair.restart()
    try:
        yield pair
    finally:
        pair.site.close()
        centre.close()
