"""A centre on disk and the sites that joined it: what a test of the centre needs at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hospital import Hospital, Sent

from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import parse
from ldp_client.wire.document import Document
from ldp_client.wire.envelope import RECEIPT, OneKey, open_envelope
from ldp_client.wire.evaluation import Asked, asked_id
from ldp_client.wire.exchange import Receipt
from server import centre as centres
from server import intake
from server.centre import Centre
from server.store import queries
from server.store.queries import Incident, SiteBudget
from server.store.records import Record


@dataclass
class World:
    """One centre, one published campaign, and whoever joins."""

    config: Path
    centre: Centre
    campaign: Campaign
    hospitals: dict[str, Hospital] = field(default_factory=dict)

    def join(self, site: str = "anne") -> Hospital:
        hospital = Hospital(site, self.centre.keys.sealing.public_key)
        centres.enrol(self.centre, hospital.enrolment())
        self.hospitals[site] = hospital
        return hospital

    def announce(self, hospital: Hospital, *sent: Sent) -> None:
        self.centre.answer(hospital.site, [Document("header", one.announcement) for one in sent])

    def accept(self, hospital: Hospital, sent: Sent) -> Receipt:
        keys = self.centre.keys
        envelope = intake.accept(
            sent.sealed, hospital.site, self.centre.database, signer=keys.signing, sealing_key=keys.sealing
        )
        return self.read(envelope)

    def read(self, envelope: bytes) -> Receipt:
        owner = OneKey("the centre", self.centre.keys.signing.public_key)
        return parse(Receipt, open_envelope(envelope, RECEIPT, owner)[1])

    def deliver(self, hospital: Hospital) -> Receipt:
        """Pack up, announce and submit everything that the hospital has not sent."""
        sent = hospital.pack_up()
        self.announce(hospital, sent)
        return self.accept(hospital, sent)

    def records(self, campaign: Asked | None = None) -> list[Record]:
        with self.centre.database.snapshot() as connection:
            return list(queries.records_of(connection, asked_id(campaign or self.campaign)))

    def incidents(self) -> list[Incident]:
        with self.centre.database.snapshot() as connection:
            return queries.incidents(connection)

    def codes(self) -> list[str]:
        return [incident.code for incident in self.incidents()]

    def budget(self, site: str = "anne") -> SiteBudget:
        with self.centre.database.snapshot() as connection:
            return next(one for one in queries.budgets(connection) if one.site == site)
