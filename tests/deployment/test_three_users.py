"""Agent, courier and SuperNode as three users of the operating system, through a whole campaign.

The machine is set up with the commands of docs/install.md, the services run as its systemd units run them, and then
real processes of each user try what they must not be able to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from hospital_machine import (
    AGENT,
    COURIER,
    NODE,
    REPOSITORY,
    Machine,
    everything_in,
    make_users,
    need_root,
    remove_users,
    user_id,
)

from ldp_client.imaging.dataset import write_dataset
from ldp_client.imaging.phantoms import phantoms
from ldp_client.processes import Running, family_members, free_port, running
from server.centre import open_centre

pytestmark = [pytest.mark.processes, pytest.mark.root]
XRAYS = 6
SHIPPED = REPOSITORY / "ldp_client" / "flow" / "shipped" / "kermany28"
LABELS = ("normal", "pneumonia")
CAMPAIGN = """
[campaign]
name = "pneumonia"
purpose = "a test"
encoder = "shipped:kermany28"
labels = ["normal", "pneumonia"]
unit = "image"
ends = "2099-12-31"
"""
POLICY = """
[policy]
serial = 1
encoders = ["{encoder}"]
units = ["image"]
lifetime_epsilon = "4"
"""
# Run in the agent's own network namespace.
NETWORK = """
import errno, fcntl, json, socket, struct, sys
def connected(family, address):
    try:
        socket.socket(family, socket.SOCK_STREAM).connect(address)
        return "OK"
    except OSError as error:
        return errno.errorcode[error.errno]
port = int(sys.argv[1])
with socket.socket() as any_socket:
    flags = struct.unpack("16xh", fcntl.ioctl(any_socket, 0x8913, struct.pack("16sh", b"lo", 0)))[0]
try:
    named = socket.getaddrinfo("localhost.example.org", port)
except OSError:
    named = None
print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "lo is up": bool(flags & 1),
    "this machine": connected(socket.AF_INET, ("127.0.0.1", port)),
    "another machine": connected(socket.AF_INET, ("192.0.2.1", port)),
    "by IPv6": connected(socket.AF_INET6, ("::1", port)),
    "by name": named,
}))
"""


@dataclass
class Hospital:
    machine: Machine
    edge_port: int
    node_port: int
    services: dict[str, Running]

    def processes(self, service: str) -> list[int]:
        return family_members(self.services[service].program.family)


@pytest.fixture(scope="module")
def hospital() -> Iterator[Hospital]:
    """A site that has taken part in a campaign; its services still run."""
    need_root()
    machine = Machine.make()
    make_users()
    try:
        with ExitStack() as stack:
            hospital = Hospital(machine, free_port(), free_port(), {})
            _set_up(hospital)
            _start(hospital, stack)
            _take_part(hospital)
            yield hospital
    finally:
        remove_users()
        machine.remove()


def _set_up(hospital: Hospital) -> None:
    """docs/install.md, as root."""
    machine, run = hospital.machine, hospital.machine.run
    where = ["--port", str(hospital.edge_port), "--superlink-port", str(free_port())]
    told = run("ldp-server", "centre", "init", "--name", "Thoracic Network", "--host", "127.0.0.1", *where)
    fingerprint = told.split()[-1]
    officer = machine.folder / "officer.key"
    public = run("ldp-client", "officer", "key", "--out", str(officer)).split()[0]
    run("ldp-client", "site", "init", "--id", "north", "--name", "North Hospital", "--officer-key", public)
    run("ldp-client", "site", "pin", str(machine.centre / "centre.json"), "--fingerprint", fingerprint)
    run("ldp-client", "node", "key", "--folder", str(machine.node))
    (machine.node / "ca.crt").write_bytes((machine.centre / "tls" / "ca.crt").read_bytes())
    enrolment = machine.folder / "north.enrolment"
    run("ldp-client", "site", "enrol", "--node-key", str(machine.node / "node.pub"), "--out", str(enrolment))
    images, labels = phantoms(XRAYS, 28, seed=1, pneumonia_share=0.5)
    write_dataset(machine.site / "xrays", images, labels, LABELS)
    run("ldp-server", "site", "enrol", str(enrolment))
    campaign = machine.folder / "campaign.toml"
    campaign.write_text(CAMPAIGN)
    run("ldp-server", "campaign", "publish", str(campaign))
    run("ldp-client", "site", "permissions", *_users(machine))
    # The officer's key is with the agent's user for as long as it signs.
    os.chown(officer, user_id(AGENT), -1)


def _users(machine: Machine) -> list[str]:
    names = ["--agent-user", AGENT, "--courier-user", COURIER, "--node-user", NODE]
    return ["--node-folder", str(machine.node), *names]


def _start(hospital: Hospital, stack: ExitStack) -> None:
    machine, port = hospital.machine, str(hospital.node_port)
    secret = str(machine.node / "courier.secret")

    def start(name: str, user: str | None, *command: str) -> None:
        program = machine.program(name, *command, user=user, offline=name == "agent")
        hospital.services[name] = stack.enter_context(running(program))

    start("centre", None, "ldp-server", "serve")
    start("agent", AGENT, "ldp-client", "agent", "run", "--interval", "0.3")
    # A node that comes before its centre knows it is started again; waiting only saves these tests some seconds.
    _until(hospital, (machine.centre / "superlink" / "registered" / "north").exists, 40)
    edge = ("--edge", f"127.0.0.1:{hospital.edge_port}", "--authority", str(machine.node / "ca.crt"))
    start("node", NODE, "ldp-client", "node", "run", "--folder", str(machine.node), *edge, "--port", port)
    spool = ("--spool", str(machine.site / "spool"), "--secret", secret)
    start("courier", COURIER, "ldp-client", "courier", "run", *spool, "--supernode", f"127.0.0.1:{port}")


def _take_part(hospital: Hospital) -> None:
    """The officer's commands, run as the agent's user, and then nothing but waiting."""
    machine = hospital.machine
    card = json.loads(machine.run("ldp-server", "encoder", "card", str(SHIPPED), "--format", "json"))
    policy = machine.folder / "policy.toml"
    policy.write_text(POLICY.format(encoder=card["digest"]))
    officer = ("--officer-key", str(machine.folder / "officer.key"))
    machine.run("ldp-client", "policy", "sign", str(policy), *officer, user=AGENT)
    _until(hospital, lambda: any((machine.site / "spool" / "inbox" / "campaign").iterdir()), 60)
    machine.run("ldp-client", "campaign", "approve", "pneumonia", *officer, user=AGENT)
    centre = open_centre(machine.centre / "server.toml")
    try:
        _until(hospital, centre.finished, 90)
    finally:
        centre.close()


def _until(hospital: Hospital, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = (hospital.machine.folder / "logs").iterdir()
            raise AssertionError("\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs))
        time.sleep(0.3)


def test_a_whole_campaign_runs_with_three_users(hospital: Hospital) -> None:
    run = hospital.machine.run
    (at_centre,) = json.loads(run("ldp-server", "budget", "show", "--format", "json"))
    at_site = json.loads(run("ldp-client", "budget", "show", "--format", "json", user=AGENT))[0]
    assert (at_centre["site"], at_centre["records"], at_centre["refused"]) == ("north", XRAYS, 0)
    assert (at_site["campaign"], at_site["records"], at_site["charges"]) == ("pneumonia", XRAYS, XRAYS)
    # Every receipt was filed (the gathering is not finished before), and both ledgers hold.
    run("ldp-client", "ledger", "verify", user=AGENT)
    run("ldp-server", "ledger", "verify")


def test_each_service_runs_as_its_own_user_without_any_capability(hospital: Hospital) -> None:
    for service, user in (("agent", AGENT), ("courier", COURIER), ("node", NODE)):
        processes = hospital.processes(service)
        assert processes
        for process in processes:
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{process}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert set(status["Uid"].split()) == {str(user_id(user))}
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
            assert status["NoNewPrivs"] == "1"
            assert len(status["Groups"].split()) <= 1


def test_the_courier_reads_nothing_of_the_site_but_the_spool(hospital: Hospital) -> None:
    machine = hospital.machine
    tried = machine.probe(COURIER, everything_in(machine.site))
    spool = machine.site / "spool"
    closed = {path: answer for path, answer in tried.items() if spool not in (path, *path.parents)}
    names = {path.relative_to(machine.site).as_posix() for path in closed}
    assert {"ledger.sqlite3", "keys/site.key", "keys/secret.key", "agent.toml", "xrays/labels.csv"} <= names
    assert len([name for name in names if name.startswith("xrays/")]) == XRAYS + 1
    assert set(closed.values()) == {("EACCES", "EACCES")}


def test_the_courier_reads_the_outbox_and_cannot_write_it(hospital: Hospital) -> None:
    machine = hospital.machine
    tried = machine.probe(COURIER, everything_in(machine.site / "spool" / "outbox"))
    assert {path.name for path in tried} >= {"outbox", "state", "header", "batch"}
    # A state that the agent replaced since it was listed is gone for everybody.
    assert set(tried.values()) - {("ENOENT", "ENOENT")} == {("OK", "EACCES")}


def test_neither_side_can_write_in_the_others_name(hospital: Hospital) -> None:
    machine = hospital.machine
    spool = machine.site / "spool"
    for folder, owner in (("outbox", AGENT), ("inbox", COURIER)):
        assert {path.lstat().st_uid for path in everything_in(spool / folder)} == {user_id(owner)}
    tried = machine.probe(AGENT, [path for path in everything_in(spool / "inbox") if path.is_dir()])
    assert set(tried.values()) == {("OK", "EACCES")}
    # Nor can the courier make a file of its own the agent's.
    give = "import os, sys; path = sys.argv[1]; open(path, 'w').close(); os.chown(path, int(sys.argv[2]), -1)"
    mine = spool / "inbox" / "campaign" / ".mine"
    try:
        said = machine.run("python", "-c", give, str(mine), str(user_id(AGENT)), user=COURIER, expect=1)
    finally:
        mine.unlink()
    assert "Operation not permitted" in said


def test_the_node_reaches_nothing_of_the_site_not_even_the_spool(hospital: Hospital) -> None:
    machine = hospital.machine
    tried = machine.probe(NODE, everything_in(machine.site))
    assert set(tried.values()) == {("EACCES", "EACCES")}
    own = machine.probe(NODE, [machine.node, machine.node / "node", machine.node / "courier.secret"])
    assert set(own.values()) == {("OK", "OK")}


def test_of_the_nodes_folder_the_courier_reads_the_secret_and_the_agent_nothing(hospital: Hospital) -> None:
    machine = hospital.machine
    paths = everything_in(machine.node)
    assert machine.node / "node" in paths
    assert set(machine.probe(AGENT, paths).values()) == {("EACCES", "EACCES")}
    tried = machine.probe(COURIER, paths)
    assert tried.pop(machine.node / "courier.secret") == ("OK", "EACCES")
    assert set(tried.values()) == {("EACCES", "EACCES")}


def test_the_agent_has_no_network(hospital: Hospital) -> None:
    machine = hospital.machine
    (agent,) = hospital.processes("agent")
    probe = [sys.executable, "-c", NETWORK, str(hospital.edge_port)]

    def look(*inside: str) -> dict[str, object]:
        command = [*inside, *machine.as_user(AGENT, probe)]
        done = subprocess.run(command, env=machine.environment(), capture_output=True, text=True, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    found = look("nsenter", f"--net=/proc/{agent}/ns/net", "--")
    assert found == {
        "interfaces": ["lo"],
        "lo is up": False,
        "this machine": "ENETUNREACH",
        "another machine": "ENETUNREACH",
        "by IPv6": found["by IPv6"],
        "by name": None,
    }
    assert found["by IPv6"] in ("ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT")
    # The control: outside that namespace the same program of the same user reaches the centre's edge.
    outside = look()
    assert (outside["this machine"], outside["lo is up"]) == ("OK", True)
    assert Path(f"/proc/{agent}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    # No route leads anywhere (a first line would be the table's head); to go back out it lacks the capability.
    assert len(Path(f"/proc/{agent}/net/route").read_text().splitlines()) <= 1
    back = machine.as_user(AGENT, ["nsenter", "--net=/proc/self/ns/net", "true"])
    refused = subprocess.run(back, env=machine.environment(), capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "Operation not permitted" in refused.stderr


def test_the_permissions_hold_after_a_campaign_and_a_fault_is_named(hospital: Hospital) -> None:
    machine = hospital.machine
    check = ("ldp-client", "site", "permissions", *_users(machine), "--check")
    assert "can touch what they need and nothing else" in machine.run(*check)
    xrays = machine.site / "xrays"
    xrays.chmod(0o755)
    try:
        said = machine.run(*check, expect=2)
    finally:
        xrays.chmod(0o700)
    assert said == (
        f"ldp-client: {COURIER} can read {xrays} and must not; {COURIER} can enter {xrays} and must not. "
        "Way out: run the command as root without --check\n"
    )


def test_the_services_keep_no_file_that_another_user_could_read(hospital: Hospital) -> None:
    machine = hospital.machine
    for folder in (machine.site, machine.node):
        for path in everything_in(folder):
            assert path.lstat().st_mode & 0o007 == 0, path
