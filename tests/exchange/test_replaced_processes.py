"""A lost key and another node, with the real SuperLink, edge, SuperNodes and couriers: the site goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from exchange_deployment import until
from exchange_pair import OFFICER, XRAYS, Pair, founded

from ldp_client import desk
from ldp_client.courier import CourierConfig
from ldp_client.officer import approve
from ldp_client.processes import free_port
from ldp_client.site import enrolment
from ldp_client.supernode import SuperNodeConfig, courier_running, create_node_key, create_secret, supernode_running
from server.centre import open_centre, publish, replace_node, rotate_key
from server.config import ExchangeSection
from server.service import create_centre, serving
from tests.client.world import make_campaign

pytestmark = pytest.mark.processes


@contextlib.contextmanager
def served(path: Path) -> Iterator[None]:
    """The centre's service, as `ldp-server serve` runs it, in a thread."""
    stop = threading.Event()
    with contextlib.closing(open_centre(path)) as centre, serving(path, centre) as service:
        thread = threading.Thread(target=service.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextlib.contextmanager
def connected(pair: Pair, node_key: Path) -> Iterator[None]:
    """A SuperNode with a key, and the courier behind it."""
    folder = node_key.parent
    create_secret(folder / "courier.secret")
    edge = f"127.0.0.1:{pair.centre.config.exchange.port}"
    authority = pair.folder / "centre" / "tls" / "ca.crt"
    config = SuperNodeConfig(folder / "state", edge, authority, node_key, folder / "courier.secret", free_port())
    courier = CourierConfig(pair.site.folder / "spool", f"127.0.0.1:{config.port}", config.secret)
    with supernode_running(config), courier_running(courier, folder / "courier"):
        yield


def worked(pair: Pair) -> bool:
    """One of the agent's looks, a second after the last."""
    time.sleep(1.0)
    return bool(pair.agent.step())


def gathered(pair: Pair, name: str) -> None:
    """A campaign from its publication until all of its records are at the centre; the agent works meanwhile."""
    campaign = make_campaign(name=name, epsilon=1, ends="2099-12-31")
    publish(pair.centre, campaign)
    until(lambda: worked(pair) and campaign in desk.campaigns(pair.site), "the campaign comes", 300)
    approve(pair.site, campaign, OFFICER)
    until(lambda: worked(pair) and pair.records(campaign) == XRAYS, "its records arrive", 300)


def test_a_site_goes_on_with_another_key_behind_another_node(tmp_path: Path) -> None:
    exchange = ExchangeSection(port=free_port(), superlink_port=free_port())
    path = create_centre(tmp_path / "centre", "Centre", ["127.0.0.1"], exchange)
    with founded(tmp_path, open_centre(path)) as pair, served(path):
        with connected(pair, tmp_path / "node"):
            gathered(pair, "one")
        # The machine is gone, and with it the node's key and the site's own.
        (pair.site.folder / "keys" / "site.key").unlink()
        document = pair.rotate(lost=True)
        second = tmp_path / "second" / "node"
        public = create_node_key(second).read_text()
        rotate_key(pair.centre, document)
        replace_node(pair.centre, enrolment(pair.site, public))
        with connected(pair, second):
            gathered(pair, "two")
            until(lambda: worked(pair) and pair.centre.finished(), "everything is acknowledged", 300)
        pair.exports()
        assert pair.codes() == []
