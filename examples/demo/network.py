"""Three hospitals and one centre on this machine, as real processes with real keys, TLS and ledgers.

Everything here goes through the same functions as the commands that a hospital and a centre type; only the officers
are one program.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.demo.hospitals import LABELS, Country, Hospital
from ldp_client import desk
from ldp_client.errors import ExchangeError
from ldp_client.flow.encoder import Encoder
from ldp_client.imaging.dataset import write_dataset
from ldp_client.officer import approve as approve_campaign
from ldp_client.officer import put_into_force
from ldp_client.privacy.loss import PrivacyLoss
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.privacy.release_spec import JointLaplaceSpec
from ldp_client.processes import Program, Running, free_port, running
from ldp_client.site import Site, create_site, enrolment, open_site
from ldp_client.supernode import create_node_key, create_secret
from ldp_client.wire.campaign import Campaign, Policy, campaign_id
from ldp_client.wire.signing import SigningKey, create_signing_key, read_secret
from server.centre import Centre, enrol, open_centre, publish
from server.config import CARD_NAME, ExchangeSection
from server.service import create_centre

ENDS = "2099-12-31"
RADIUS = "1"
COORDINATES = 3
"""How many of the encoder's coordinates are released; a bottleneck of fewer gives all that it has."""


@dataclass
class Network:
    """The demo's parties: one folder each below `folder`."""

    folder: Path
    country: Country
    encoder: Encoder
    campaign: Campaign
    release: JointLaplaceSpec
    centre: Centre
    sites: dict[str, Site]

    def node_port(self, site: str) -> int:
        """Where the site's courier reaches its SuperNode."""
        return int((self.folder / site / "node" / "port").read_text())

    def close(self) -> None:
        """Let go of all ledgers."""
        self.centre.close()
        for site in self.sites.values():
            site.close()


def build(folder: Path, country: Country, encoder: Encoder) -> Network:
    """Found the centre and its three sites, enrol them, publish the campaign, sign the policies."""
    path = create_centre(
        folder / "centre",
        "Thoracic Network",
        ["127.0.0.1"],
        ExchangeSection(port=free_port(), superlink_port=free_port()),
    )
    centre = open_centre(path)
    release = joint_laplace(
        epsilon=country.epsilon,
        classes=len(LABELS),
        bottleneck_dimension=min(COORDINATES, encoder.dimension),
        radius=RADIUS,
    )
    campaign = Campaign(
        name="pneumonia",
        purpose="Learn to tell pneumonia from normal chest X-rays of children.",
        encoder=encoder.digest,
        release=release,
        label_names=LABELS,
        unit=country.unit,
        cap=country.cap,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends=ENDS,
    )
    publish(centre, campaign)
    sites = {hospital.id: _found_site(folder, hospital, country, encoder, centre) for hospital in country.hospitals}
    return Network(folder, country, encoder, campaign, release, centre, sites)


def _found_site(folder: Path, hospital: Hospital, country: Country, encoder: Encoder, centre: Centre) -> Site:
    home = folder / hospital.id
    agent, node = home / "agent", home / "node"
    agent.mkdir(parents=True)
    officer = create_signing_key(home / "officer.key")
    site = create_site(agent, hospital.id, hospital.name, (officer.public_key,))
    toml = agent / "agent.toml"
    toml.write_text(toml.read_text() + f'\n[encoder]\nbundle = "{country.encoder}"\n')
    (agent / "centre.json").write_bytes((folder / "centre" / CARD_NAME).read_bytes())
    site.create_spool()
    write_dataset(agent / "xrays", hospital.images, hospital.labels, LABELS, hospital.patients)
    public = create_node_key(node / "node")
    create_secret(node / "courier.secret")
    (node / "port").write_text(str(free_port()))
    policy = Policy(
        site=hospital.id,
        serial=1,
        encoders=(encoder.digest,),
        units=(country.unit,),
        lifetime_micro_epsilon=PrivacyLoss.of(country.lifetime).micro_epsilon,
    )
    put_into_force(site, policy, officer)
    enrol(centre, enrolment(site, public.read_text().strip()))
    site.close()
    return open_site(agent)


def approve(site: Site, campaign: Campaign) -> None:
    """What the officer does with `ldp-client campaign approve`."""
    approve_campaign(site, campaign, SigningKey(read_secret(site.folder.parent / "officer.key")))


@contextlib.contextmanager
def processes(network: Network) -> Iterator[None]:
    """Start centre, nodes, couriers and agents as their users would; stop all of them, however the block is left."""
    folder, edge = network.folder, network.centre.config.exchange
    logs = folder / "logs"
    started: list[Running] = []
    with contextlib.ExitStack() as stack:

        def start(name: str, *command: str) -> None:
            environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
            # Three hospitals share one machine here: with a thread per core each, they would wait for one another.
            environment["OMP_NUM_THREADS"] = "1"
            program = str(Path(sys.executable).parent / command[0])
            log = logs / f"{name}.log"
            started.append(stack.enter_context(running(Program([program, *command[1:]], environment, log))))

        try:
            start("centre", "ldp-server", "serve", "--state", str(folder / "centre"))
            for site in network.sites:
                home, port = folder / site, network.node_port(site)
                node = ("--folder", str(home / "node"), "--edge", f"127.0.0.1:{edge.port}", "--port", str(port))
                authority = str(folder / "centre" / "tls" / "ca.crt")
                start(f"{site}-node", "ldp-client", "node", "run", *node, "--authority", authority)
                spool = ("--spool", str(home / "agent" / "spool"), "--secret", str(home / "node" / "courier.secret"))
                start(f"{site}-courier", "ldp-client", "courier", "run", *spool, "--supernode", f"127.0.0.1:{port}")
                start(
                    f"{site}-agent", "ldp-client", "agent", "run", "--state", str(home / "agent"), "--interval", "0.5"
                )
            yield
        finally:
            # All at once: one after the other they would take a minute.
            for process in started:
                process.ask()


def wait_for_campaigns(network: Network, seconds: float) -> Iterator[str]:
    """Yield each site when the campaign has reached it.

    Raises:
        ExchangeError: it did not reach all of them in time.
    """
    return wait_for(network, network.campaign.name, seconds)


def wait_for(network: Network, asked: str, seconds: float) -> Iterator[str]:
    """Yield each site when the campaign or evaluation of this name has reached it.

    Raises:
        ExchangeError: it did not reach all of them in time.
    """
    waiting, deadline = dict(network.sites), time.monotonic() + seconds
    while waiting:
        for name, site in list(waiting.items()):
            if any(one.name == asked for one in desk.asked(site)):
                del waiting[name]
                yield name
        if time.monotonic() > deadline:
            raise ExchangeError(
                f"{asked} did not reach {', '.join(waiting)} within {seconds:g} s; see {network.folder / 'logs'}"
            )
        time.sleep(0.2)


def wait_until_finished(network: Network, seconds: float) -> Iterator[dict[str, int]]:
    """Yield how many records each site has sealed, until the centre says that nothing is left to send or to hear.

    Raises:
        ExchangeError: not finished in time.
    """
    name, deadline = campaign_id(network.campaign), time.monotonic() + seconds
    while True:
        yield {site: opened.ledger.counts(name)[0] for site, opened in network.sites.items()}
        if network.centre.finished():
            yield {site: opened.ledger.counts(name)[0] for site, opened in network.sites.items()}
            return
        if time.monotonic() > deadline:
            raise ExchangeError(f"the gathering did not finish within {seconds:g} s; see {network.folder / 'logs'}")
        time.sleep(0.3)
