"""`ldp-client site permissions`, and the mistakes that docs/install.md lists with the very words of the program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hospital_machine import AGENT, COURIER, NODE, REPOSITORY, Machine, make_users, need_root, remove_users, user_id

from ldp_client.errors import ConfigurationError
from ldp_client.imaging.label_table import read_label_table
from ldp_client.permissions import Account, Accounts, Places, faults, find_accounts, find_places, set_permissions
from ldp_client.spool import Inbox, Outbox
from ldp_client.supernode import SuperNodeConfig, supernode_running

ANYBODY = Accounts(Account("a", 1, 1), Account("b", 2, 2), Account("c", 3, 3))


def folders(root: Path) -> tuple[Path, Path]:
    """A site's and a node's folder as far as `find_places` looks at them."""
    site, node = root / "site", root / "node"
    (site / "spool" / "outbox").mkdir(parents=True)
    (site / "spool" / "inbox").mkdir()
    (site / "agent.toml").write_text('[site]\nid = "north"\nname = "North"\n')
    node.mkdir()
    (node / "courier.secret").write_bytes(b"s" * 32)
    return site, node


def test_a_user_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no user ldp-nobody on this machine; make it with `useradd --system"):
        find_accounts("ldp-nobody", "daemon", "nobody")


def test_root_runs_none_of_the_three() -> None:
    with pytest.raises(ConfigurationError, match="root can touch everything; give agent, courier and node users"):
        find_accounts("daemon", "root", "nobody")


def test_two_of_the_three_cannot_be_one_user() -> None:
    with pytest.raises(ConfigurationError, match="found daemon, nobody and daemon, of which two are one or share"):
        find_accounts("daemon", "nobody", "daemon")


def test_x_rays_are_looked_for_where_agent_toml_says(tmp_path: Path) -> None:
    site, node = folders(tmp_path)
    (site / "agent.toml").write_text('[site]\nid = "north"\nname = "North"\n[data_set]\nfolder = "/srv/xrays"\n')
    places = find_places(site, node)
    assert places == Places(site, node, Path("/srv/xrays"), site / "xrays" / "labels.csv")


def test_the_nodes_folder_does_not_lie_in_the_sites(tmp_path: Path) -> None:
    site, _node = folders(tmp_path)
    with pytest.raises(ConfigurationError, match="must lie apart; move one of them"):
        find_places(site, site / "spool")


def test_a_missing_spool_is_named(tmp_path: Path) -> None:
    site, node = folders(tmp_path)
    (site / "spool" / "inbox").rmdir()
    with pytest.raises(
        ConfigurationError, match=r"spool/inbox is missing; make it, as `ldp-client site init` once did"
    ):
        find_places(site, node)


def test_a_node_without_its_secret_is_named(tmp_path: Path) -> None:
    site, node = folders(tmp_path)
    (node / "courier.secret").unlink()
    with pytest.raises(ConfigurationError, match=r"holds no courier.secret; make it with `ldp-client node key`"):
        find_places(site, node)


def test_only_root_gives_files_away_and_tries_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = find_places(*folders(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="only root can give files to other users; run the command with sudo"):
        set_permissions(places, ANYBODY)
    with pytest.raises(ConfigurationError, match="only root can try what other users may touch; run the command with"):
        faults(places, ANYBODY)


def test_a_service_without_its_folders_or_files_does_not_start(tmp_path: Path) -> None:
    missing = (
        r"is missing or belongs to another user; run `ldp-client site permissions` as root, and this as its own user"
    )
    with pytest.raises(ConfigurationError, match=f"the outbox .* {missing}"):
        Outbox(tmp_path).check_readable()
    with pytest.raises(ConfigurationError, match=f"the inbox .* {missing}"):
        Inbox(tmp_path).check_writable()
    key, secret = tmp_path / "node", tmp_path / "courier.secret"
    config = SuperNodeConfig(tmp_path, "127.0.0.1:1", tmp_path / "ca.crt", key, secret, 1)
    for what, path in (("key", key), ("secret", secret), ("centre's ca.crt", tmp_path / "ca.crt")):
        with pytest.raises(ConfigurationError, match=f"the node needs its {what} and cannot read {path}"):
            supernode_running(config).__enter__()
        path.touch()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["link", "second name", "pipe"])
def test_root_is_not_led_to_another_file(tmp_path: Path, kind: str) -> None:
    need_root()
    places = find_places(*folders(tmp_path))
    precious = tmp_path / "precious"
    precious.write_text("another user's")
    trap = places.site / "trap"
    if kind == "link":
        trap.symlink_to(precious)
    elif kind == "second name":
        trap.hardlink_to(precious)
    else:
        os.mkfifo(trap)
    before = precious.stat()
    with pytest.raises(ConfigurationError, match="trap is a link, or has a second name; remove it and try again"):
        set_permissions(places, ANYBODY)
    assert (precious.stat().st_uid, precious.stat().st_mode) == (before.st_uid, before.st_mode)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A site as it is before `site permissions`."""
    need_root()
    machine = Machine.make()
    make_users()
    try:
        officer = str(machine.folder / "officer.key")
        public = machine.run("ldp-client", "officer", "key", "--out", officer).split()[0]
        machine.run("ldp-client", "site", "init", "--id", "north", "--name", "North", "--officer-key", public)
        machine.run("ldp-client", "node", "key", "--folder", str(machine.node))
        machine.run("ldp-server", "centre", "init", "--name", "T", "--host", "127.0.0.1")
        (machine.site / "xrays").mkdir()
        (machine.site / "xrays" / "labels.csv").write_text("file,diagnosis\na.png,normal\n")
        yield machine
    finally:
        remove_users()
        machine.remove()


def permissions(machine: Machine, *more: str, expect: int = 0) -> str:
    names = ["--agent-user", AGENT, "--courier-user", COURIER, "--node-user", NODE]
    command = ["ldp-client", "site", "permissions", "--node-folder", str(machine.node), *names, *more]
    return machine.run(*command, expect=expect)


def documented(machine: Machine) -> list[str]:
    """The messages in the table of docs/install.md, for this machine's folders."""
    text = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8").partition("## 9. Common mistakes")[2]
    return [said.strip().replace("/var/lib/ldp-glow", str(machine.folder)) for said in re.findall(r"``(.+?)``", text)]


@pytest.mark.root
@pytest.mark.processes
def test_each_mistake_in_the_document_gets_exactly_these_words(machine: Machine) -> None:
    site, told = machine.site, documented(machine)
    card, shown = machine.centre / "centre.json", "1a2b-3c4d-5e6f-7a8b"
    courier = ("courier", "run", "--spool", str(site / "spool"), "--secret", str(machine.node / "courier.secret"))
    found = []

    def refused(*command: str, user: str | None = None) -> None:
        said = machine.run("ldp-client", *command, user=user, expect=2)
        found.append(said.removeprefix("ldp-client: ").strip())

    refused("site", "pin", str(card), "--fingerprint", shown)
    # The fingerprint that the card has is another in each run.
    found[0] = re.sub(r"fingerprint is [0-9a-f-]{19}", "fingerprint is 6e9c-87b5-1f4f-6ac0", found[0])
    (site / "keys" / "site.key").chmod(0o644)
    refused("budget", "show")
    (site / "keys" / "site.key").chmod(0o600)
    toml = (site / "agent.toml").read_text()
    (site / "agent.toml").write_text(toml + 'folders = "x"\n')
    refused("budget", "show")
    (site / "agent.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as refusal:
        read_label_table(site / "xrays" / "labels.csv")
    found.append(str(refusal.value))
    refused("agent", "run", user=AGENT)
    refused(*courier, user=COURIER)
    permissions(machine)
    (site / "spool" / "outbox").chmod(0o700)
    refused(*courier, user=COURIER)
    permissions(machine)
    assert found == told


@pytest.mark.root
@pytest.mark.processes
def test_each_service_refuses_to_start_as_another_ones_user(machine: Machine) -> None:
    permissions(machine)
    secret = str(machine.node / "courier.secret")
    courier = ("ldp-client", "courier", "run", "--spool", str(machine.site / "spool"), "--secret", secret)
    node = ("ldp-client", "node", "run", "--folder", str(machine.node), "--edge", "127.0.0.1:1")
    authority = ("--authority", str(machine.centre / "tls" / "ca.crt"))
    assert "needs the SuperNode's secret and cannot read" in machine.run(*courier, user=AGENT, expect=2)
    assert "readable" in machine.run("ldp-client", "agent", "run", user=NODE, expect=2)
    assert "the node needs its key and cannot read" in machine.run(*node, *authority, user=COURIER, expect=2)
    said = machine.run(*node, "--authority", str(machine.site / "agent.toml"), user=NODE, expect=2)
    assert "the node needs its centre's ca.crt and cannot read" in said


@pytest.mark.root
@pytest.mark.processes
def test_a_fault_in_any_of_the_rules_is_found(machine: Machine) -> None:
    """The broken twins of the check: each loosened or tightened mode is named, with user and path."""
    site, node = machine.site, machine.node
    permissions(machine)
    for path, mode, faulty in (
        (site / "spool" / "outbox" / "batch", 0o2770, f"{COURIER} can write {site}/spool/outbox/batch and must not"),
        (site / "keys", 0o755, f"{COURIER} can enter {site}/keys and must not"),
        (site, 0o711, f"{NODE} can enter {site} and must not"),
        (site, 0o750, f"{COURIER} can read {site} and must not"),
        (
            site / "spool" / "inbox" / "grant",
            0o2700,
            f"{AGENT} must be able to read {site}/spool/inbox/grant and cannot",
        ),
        (node / "courier.secret", 0o644, None),
        (node, 0o711, None),
        (node / "node", 0o400, None),
        (node / "node", 0o644, f"{COURIER} can read {node}/node and must not"),
    ):
        before = path.stat().st_mode
        path.chmod(mode)
        said = permissions(machine, "--check", expect=2 if faulty else 0)
        path.chmod(before)
        assert faulty is None or faulty in said, (path, said)
    os.chown(site / "ledger.lock", 0, 0)
    lock = (
        f"{AGENT} must be able to write {site}/ledger.lock and cannot. Way out: run the command as root without --check"
    )
    assert lock in permissions(machine, "--check", expect=2)
    permissions(machine)
    assert (site / "ledger.lock").stat().st_uid == user_id(AGENT)


@pytest.mark.root
@pytest.mark.processes
def test_the_node_wants_the_edges_port(machine: Machine) -> None:
    permissions(machine)
    node = ("ldp-client", "node", "run", "--folder", str(machine.node), "--authority", str(machine.node / "node.pub"))
    said = machine.run(*node, "--edge", "centre.example.org", expect=2)
    assert (
        said
        == "ldp-client: the centre's edge is host:port, such as centre.example.org:8443; found 'centre.example.org'\n"
    )
