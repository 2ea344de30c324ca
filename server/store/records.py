"""Records that passed intake, and the codes of those that did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from ldp_client.wire.exchange import Refusal
from server.store import rows, tables


class Record(NamedTuple):
    """A privatized record as it was sealed: the entry that sealed it, its campaign, its bytes; as its row has them."""

    site: str
    seal: int
    campaign: str
    payload: bytes


# Built once: building a statement takes longer than running it.
_COUNT = (
    update(tables.sites)
    .where(tables.sites.c.site == bindparam("of_site"))
    .values(
        records=tables.sites.c.records + bindparam("stored"), refused=tables.sites.c.refused + bindparam("not_stored")
    )
)


def store(connection: Connection, site: str, accepted: Sequence[Record], refused: Sequence[Refusal]) -> None:
    """Keep the records, and the refusals beside them."""
    rows.write(connection, tables.records, accepted)
    rows.write(connection, tables.refusals, [(site, refusal.seal, str(refusal.code)) for refusal in refused])
    connection.execute(_COUNT, {"of_site": site, "stored": len(accepted), "not_stored": len(refused)})


def of_campaign(connection: Connection, campaign: str) -> Iterator[Record]:
    """A campaign's records by site and seal, streamed. The order says nothing: sites shuffle before they draw."""
    columns = tables.records.c
    query = select(tables.records).where(columns.campaign == campaign).order_by(columns.site, columns.seal)
    with connection.execute(query.execution_options(yield_per=1000)) as found:
        for row in found:
            yield Record(row.site, row.seal, row.campaign, row.payload)
