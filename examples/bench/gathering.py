"""Two sites send their batches over TLS through the edge: the gathering beside the same one with an empty intake."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from examples.bench.one_exchange import release_records
from examples.bench.one_site import approved_site
from examples.bench.rows import Row, row
from ldp_client.courier import CourierConfig
from ldp_client.processes import free_port
from ldp_client.site import enrolment
from ldp_client.submission import make_batches
from ldp_client.supernode import SuperNodeConfig, courier_running, create_node_key, create_secret, supernode_running
from ldp_client.wire.document import Document
from server import centre as centres
from server.centre import Centre, open_centre
from server.config import CARD_NAME, ExchangeSection
from server.service import Service, create_centre, serving
from server.superlink import run_status, start_run

APP = Path(__file__).parent / "gather_app"
SITES = ("anne", "bert")
COORDINATES = 256
"""A record of two labels, whose code is one coordinate, has 2,058 bytes."""
PATIENCE_SECONDS = 300.0


def gather_megabytes(megabytes: int = 200, rounds: int = 3) -> Row:
    """Sealed megabytes a second that two sites bring to committed receipts, and to a centre that forgets them."""
    with tempfile.TemporaryDirectory() as name, _two_sites(Path(name), megabytes * 1_000_000) as (service, size):
        centre_file = service.config_path.parent / "centre.sqlite3"
        before = centre_file.read_bytes()
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(_gathered(service, empty=True))
            ours.append(_gathered(service, empty=False))
            _put_back(centre_file, before)
    rates = [size / 1e6 / statistics.median(side) for side in (ours, theirs)]
    return row(f"gather {megabytes} MB", round(size / 1e6), "MB/s", rates[0], rates[1], 0.8)


def _gathered(service: Service, *, empty: bool) -> float:
    """Seconds from the first offer to the last batch, in a run of its own."""
    file = service.config_path.parent / "measured"
    file.unlink(missing_ok=True)
    settings: dict[str, str | bool] = {
        "server-config": str(service.config_path.resolve()),
        "measured": str(file.resolve()),
        "empty-intake": empty,
    }
    run = start_run(service.superlink, settings, APP)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not file.exists() or not file.read_text(encoding="utf-8"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the gathering is {run_status(service.superlink, run)} and has not ended")
        time.sleep(0.2)
    while not run_status(service.superlink, run).startswith("finished"):
        time.sleep(0.2)
    return float(file.read_text(encoding="utf-8"))


def _put_back(file: Path, content: bytes) -> None:
    """The centre's database as it was before any batch came; nobody has it open."""
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    file.write_bytes(content)


@contextlib.contextmanager
def _two_sites(folder: Path, size: int) -> Iterator[tuple[Service, int]]:
    """A centre and two sites with granted batches in their outboxes, all of them running; the bytes that wait."""
    path = create_centre(
        folder / "centre", "Bench", ["127.0.0.1"], ExchangeSection(port=free_port(), superlink_port=free_port())
    )
    centre = open_centre(path)
    waiting = 0
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(serving(path, centre))
        for name in SITES:
            waiting += _found(folder / name, name, centre, size // len(SITES))
        # Every run opens the database itself; nobody else has it then.
        service.register_nodes()
        centre.close()
        for name in SITES:
            node = SuperNodeConfig(
                folder / name / "supernode",
                f"127.0.0.1:{centre.config.exchange.port}",
                folder / "centre" / "tls" / "ca.crt",
                folder / name / "node",
                folder / name / "secret",
                free_port(),
            )
            courier = CourierConfig(folder / name / "site" / "spool", f"127.0.0.1:{node.port}", node.secret)
            stack.enter_context(supernode_running(node))
            stack.enter_context(courier_running(courier, folder / name / "courier"))
        yield service, waiting


def _found(folder: Path, name: str, centre: Centre, size: int) -> int:
    """A site with so many bytes of batches that the centre has granted."""
    folder.mkdir()
    public = create_node_key(folder / "node")
    create_secret(folder / "secret")
    card = (folder.parent / "centre" / CARD_NAME).read_bytes()
    with approved_site(folder, 1, name=name, coordinates=COORDINATES) as (site, campaign):
        (site.folder / "centre.json").write_bytes(card)
        site.create_spool()
        if name == SITES[0]:
            centres.publish(centre, campaign)
        centres.enrol(centre, enrolment(site, public.read_text(encoding="utf-8").strip()))
        # Base64 makes four bytes of three; entries and framing take a tenth of a record.
        release_records(site, campaign, round(size / (8 * COORDINATES * 4 / 3 * 1.1)))
        make_batches(site.ledger, site.signer, site.centre, date.today())
        headers = site.ledger.unacknowledged(0)
        centre.answer(name, [Document("header", envelope) for _, envelope in headers])
        waiting = 0
        for header, _ in headers:
            sealed = site.ledger.sealed_batch(header)
            if sealed is not None:
                site.outbox.put("batch", sealed)
                waiting += len(sealed)
    return waiting
