"""The real SuperLink over TLS, the real edge, real SuperNodes, and our runner, on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from exchange_deployment import FOLDER_APP, Centre, Site, centre_running, enrol, site_running, until
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from ldp_client.courier import REFUSAL
from ldp_client.errors import ExchangeError
from ldp_client.processes import running
from ldp_client.supernode import supernode_program
from server.edge import FORWARDED, MAX_BODY_BYTES
from server.superlink import register_supernode, run_status, start_run, stop_run

pytestmark = pytest.mark.processes
HOSTILE_APP = Path(__file__).parent / "hostile_app"
MIB = 1 << 20


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with centre_running(tmp_path_factory.mktemp("centre")) as centre:
        yield centre


@pytest.fixture(scope="module")
def site(centre: Centre) -> Iterator[Site]:
    with site_running(centre, "alpha") as site:
        yield site


def door(centre: Centre) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(centre.edge.authority))
    return httpx.Client(base_url=f"https://127.0.0.1:{centre.edge.port}", verify=context, trust_env=False)


def fleet(centre: Centre, port: int, node_key: Path) -> FleetHttpClient:
    key = serialization.load_ssh_private_key(node_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return FleetHttpClient.from_server_address(
        f"127.0.0.1:{port}",
        False,
        centre.edge.authority.read_bytes(),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="test"),
            NodeAuthHttpInterceptor(key, key.public_key()),
        ],
    )


def test_an_offer_and_a_pull_carry_bytes_both_ways_through_the_edge(centre: Centre, site: Site) -> None:
    sealed = [os.urandom(6 * MIB), os.urandom(100)]
    names = [site.outbox.put("batch", body) for body in sealed]
    for name in names:
        site.outbox.put("header", name.encode())
    site.outbox.put("state", b"ready")
    offered = centre.root / "folder" / "offer" / "alpha" / "campaign" / "one"
    offered.parent.mkdir(parents=True)
    offered.write_bytes(b"a campaign")
    run = start_run(centre.superlink, {"server-config": str(centre.root / "folder")}, FOLDER_APP)

    def received(kind: str) -> list[bytes]:
        return [document.body for document in site.inbox.documents() if document.kind == kind]

    until(lambda: len(received("receipt")) == 2, "two receipts")
    assert received("campaign") == [b"a campaign"]
    assert sorted(received("receipt")) == sorted(name.encode() for name in names)
    site.outbox.replace("state", [b"done"])
    until(lambda: run_status(centre.superlink, run) == "finished:completed", "the end of the run")
    for name, body in zip(names, sealed, strict=True):
        assert (centre.root / "folder" / "batch" / "alpha" / name).read_bytes() == body


def test_code_that_a_server_sends_runs_under_a_stock_supernode_and_does_not_run_at_ours(
    centre: Centre, site: Site
) -> None:
    replies = centre.root / "replies.json"
    control = enrol(centre, "control")
    command = list(supernode_program(control.config).command)
    command[command.index("process")] = "subprocess"
    stock = dataclasses.replace(supernode_program(control.config), command=command)
    with running(stock):
        until(lambda: "SuperNode ID" in stock.log.read_text(), "the stock SuperNode")
        start_run(centre.superlink, {"server-config": str(replies)}, HOSTILE_APP)
        until(replies.exists, "the replies", 100)
    said = json.loads(replies.read_text())
    # The control: the same bundle, at the same moment, under stock Flower, has the private key.
    assert (control.folder / "stolen").read_bytes() == (control.folder / "node").read_bytes()
    assert said[f"{control.node_id} train"] == "ran"
    # Ours: nothing was imported, nothing written, and the server learns nothing from the refusal.
    assert [said[f"{site.node_id} {kind}"] for kind in ("train", "query.offer", "query.steal")] == [REFUSAL] * 3
    assert list(site.folder.rglob("stolen")) == []
    assert "stealing" not in "".join(path.name for path in site.folder.rglob("*"))


@pytest.mark.parametrize(
    "path",
    ["/v1/control/start-run", "/v1/control/list-nodes", "/v1/runtime/acquire-task", "/v1/fleet/register-node", "/x"],
)
def test_the_edge_refuses_what_the_superlink_would_obey(centre: Centre, path: str) -> None:
    with door(centre) as client:
        reply = client.post(path, content=b"", headers={"content-type": "application/protobuf"})
    assert (reply.status_code, reply.text) == (404, "nothing here")


def test_behind_the_edge_the_superlink_does_obey(centre: Centre) -> None:
    """The control of the test above, and the reason for the edge."""
    context = ssl.create_default_context(cafile=str(centre.superlink.authority))
    with httpx.Client(base_url=f"https://{centre.superlink.address}", verify=context, trust_env=False) as client:
        reply = client.post("/v1/control/list-nodes", content=b"", headers={"content-type": "application/protobuf"})
    assert reply.status_code == 200


@pytest.mark.parametrize("path", sorted(FORWARDED))
def test_the_edge_refuses_an_oversize_body(centre: Centre, path: str) -> None:
    with door(centre) as client:
        reply = client.post(path, content=bytes(MAX_BODY_BYTES + 1))
    assert (reply.status_code, reply.text) == (413, "the body is larger than the edge passes on")


def test_the_edge_speaks_tls_only_and_names_no_software(centre: Centre) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{centre.edge.port}/", trust_env=False)
    with door(centre) as client:
        assert "server" not in client.get("/").headers


def test_a_node_without_an_enrolled_key_is_turned_away(centre: Centre, tmp_path: Path) -> None:
    with door(centre) as client:
        reply = client.post("/v1/fleet/pull-messages", content=b"", headers={"content-type": "application/protobuf"})
    assert reply.status_code == 401


def test_a_reply_in_another_nodes_name_is_refused_by_the_edge(centre: Centre, site: Site) -> None:
    other = enrol(centre, "mallory")

    def push(source: int) -> PushMessagesRequest:
        metadata = Metadata(
            run_id=1, message_id="m", src_node_id=source, dst_node_id=1, reply_to_message_id="r", ttl=1.0,
            created_at=time.time(), message_type="query.offer",
        )  # fmt: skip
        return PushMessagesRequest(
            node=Node(node_id=other.node_id),
            messages_list=[Message(metadata=metadata)],
            message_object_trees=[ObjectTree(object_id="m")],
        )

    with fleet(centre, centre.edge.port, other.config.node_key) as mallory:
        with pytest.raises(httpx.HTTPStatusError) as refusal:
            mallory.PushMessages(push(site.node_id))
        assert refusal.value.response.status_code == 403
        assert refusal.value.response.text == "a node pushes only replies of its own"
        # In its own name it passes the edge, and it is the SuperLink that has no such run.
        with pytest.raises(httpx.HTTPStatusError) as answered:
            mallory.PushMessages(push(other.node_id))
        assert answered.value.response.text != "a node pushes only replies of its own"
    # Without the edge both names get one answer (no such run): the SuperLink does not look at the name.
    with fleet(centre, centre.superlink.port, other.config.node_key) as mallory:
        statuses = []
        for source in (site.node_id, other.node_id):
            with pytest.raises(httpx.HTTPStatusError) as direct:
                mallory.PushMessages(push(source))
            statuses.append(direct.value.response.status_code)
        assert statuses[0] == statuses[1]


def test_a_failing_flower_command_is_told_with_its_reason(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExchangeError, match=r"`flwr supernode register` was to answer in JSON and ended with status 1"):
        register_supernode(centre.superlink, tmp_path / "missing.pub", "x")
    with pytest.raises(ExchangeError, match=r"`flwr stop` failed: "):
        stop_run(centre.superlink, 12345)
    with pytest.raises(ExchangeError, match=r"run 12345 and knows of none|`flwr list` failed: "):
        run_status(centre.superlink, 12345)
    monkeypatch.setattr("server.superlink._COMMAND_SECONDS", 0.01)
    with pytest.raises(ExchangeError, match=r"`flwr stop` gave no answer within 0.01 s; is the SuperLink up\?"):
        stop_run(centre.superlink, 12345)


def in_this_folder(root: Path) -> list[int]:
    """The processes whose Flower state is in a folder."""
    mark = f"FLWR_HOME={root}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_terminate_stop_centre_edge_supernode_and_courier(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from exchange_deployment import *; from ldp_client.processes import unwinding_on_sigterm\n"
        "with unwinding_on_sigterm(), centre_running(Path(sys.argv[2])) as centre, site_running(centre, 'alpha'):\n"
        "    print('up', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"up\n"
            # SuperLink, its SuperExec, edge, SuperNode, courier.
            assert len(in_this_folder(tmp_path)) >= 5
            parent.send_signal(number)
            parent.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                parent.kill()
    assert in_this_folder(tmp_path) == []
