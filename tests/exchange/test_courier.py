"""The courier's ClientApp, called directly; its runner is in test_courier_tasks.py and test_deployment.py."""

import logging
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from ldp_client import courier
from ldp_client.courier import REFUSAL, CourierConfig, answer, check_flower_version, courier_app
from ldp_client.errors import ConfigurationError
from ldp_client.spool import Inbox, Outbox
from ldp_client.wire.document import MAX_BATCH_BYTES, MAX_DOCUMENT_BYTES, Document

NONCE = bytes(range(32))
SECRET_PATH = "/etc/hospital/patient-7"


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    box = Outbox(tmp_path)
    box.create()
    return box


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    box = Inbox(tmp_path)
    box.create()
    return box


def ask(outbox: Outbox, inbox: Inbox, kind: str, records: dict[str, ConfigRecord]) -> Message:
    message = Message(RecordDict(dict(records)), dst_node_id=1, message_type=kind)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    return answer(courier_app(outbox, inbox), message, context)


def offer(**changes: object) -> dict[str, ConfigRecord]:
    return {"offer": ConfigRecord({"version": 1, "nonce": NONCE, **changes})}


def test_an_offer_is_mirrored_and_answered_with_state_and_headers(outbox: Outbox, inbox: Inbox) -> None:
    outbox.put("state", b"ready")
    outbox.put("header", b"h")
    reply = ask(outbox, inbox, "query.offer", offer(campaign=[b"c"], grant=[b"g", b"g2"], receipt=[], witness=[]))
    record = reply.content.config_records["answer"]
    assert {key: record[key] for key in record} == {
        "version": 1, "nonce": NONCE, "state": [b"ready"], "header": [b"h"]
    }  # fmt: skip
    assert sorted((document.kind, document.body) for document in inbox.documents()) == [
        ("campaign", b"c"),
        ("grant", b"g"),
        ("grant", b"g2"),
    ]


def test_a_pull_brings_the_batches_that_are_there(outbox: Outbox, inbox: Inbox) -> None:
    name = outbox.put("batch", b"sealed")
    reply = ask(
        outbox, inbox, "query.pull", {"pull": ConfigRecord({"version": 1, "nonce": NONCE, "batch": ["0" * 64, name]})}
    )
    assert reply.content.config_records["batches"]["found"] == [name]
    assert reply.content.config_records["batches"]["nonce"] == NONCE
    assert reply.content.array_records["sealed"][name].data == b"sealed"


def test_a_pull_ends_where_the_limit_of_one_reply_is(outbox: Outbox, inbox: Inbox) -> None:
    names = [outbox.put("batch", bytes([number]) * (MAX_BATCH_BYTES // 2)) for number in range(3)]
    pull = {"pull": ConfigRecord({"version": 1, "nonce": NONCE, "batch": names})}
    reply = ask(outbox, inbox, "query.pull", pull)
    assert reply.content.config_records["batches"]["found"] == names[:2]


@pytest.mark.parametrize("kind", ["train", "evaluate", "query", "query.other", "train.offer", "system"])
def test_any_other_type_of_message_is_refused_in_fixed_words(outbox: Outbox, inbox: Inbox, kind: str) -> None:
    reply = ask(outbox, inbox, kind, offer(campaign=[b"c"]))
    assert reply.error.reason == REFUSAL
    assert inbox.documents() == []


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"offer": ConfigRecord({"version": 2, "nonce": NONCE})},
        {"offer": ConfigRecord({"version": 1})},
        {"offer": ConfigRecord({"version": 1, "nonce": b"short"})},
        offer(campaign=b"no list"),
        offer(campaign=["no bytes"]),
        offer(campaign=[b"x" * (MAX_DOCUMENT_BYTES + 1)]),
        offer(campaign=[b"x"] * 1001),
        offer(campaign=[b"x"] * 600, grant=[b"x"] * 600),
    ],
)
def test_a_malformed_offer_is_refused_and_the_inbox_stays(
    outbox: Outbox, inbox: Inbox, records: dict[str, ConfigRecord]
) -> None:
    inbox.mirror([Document("campaign", b"before")])
    assert ask(outbox, inbox, "query.offer", records).error.reason == REFUSAL
    assert inbox.documents() == [Document("campaign", b"before")]


def test_an_exception_says_nothing_to_the_server_or_the_log(
    outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenInbox(Inbox):
        def mirror(self, documents: object) -> None:
            raise OSError(28, "No space left on device", SECRET_PATH)

    with caplog.at_level(logging.DEBUG):
        reply = ask(outbox, BrokenInbox(tmp_path), "query.offer", offer())
    assert reply.error.reason == REFUSAL
    assert SECRET_PATH not in caplog.text
    assert "query.offer could not be answered: OSError" in caplog.text


def test_logs_carry_no_content(outbox: Outbox, inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    outbox.put("state", b"CONTENT")
    with caplog.at_level(logging.DEBUG):
        ask(outbox, inbox, "query.offer", offer(campaign=[b"CONTENT"]))
        ask(outbox, inbox, "query.offer", offer(campaign=["CONTENT"]))
        ask(outbox, inbox, "query.CONTENT", offer())
    assert "CONTENT" not in caplog.text


@pytest.mark.parametrize("version", ["1.41.0", "1.42.3"])
def test_a_tested_version_of_flower_is_taken(version: str) -> None:
    check_flower_version(version)


@pytest.mark.parametrize("version", ["1.40.9", "1.43.0", "2.0.0"])
def test_an_untested_version_of_flower_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"from 1.41 up to, not including, 1.43; found {version}"):
        check_flower_version(version)


def test_a_secret_that_is_missing_or_short_stops_the_courier(tmp_path: Path) -> None:
    config = CourierConfig(tmp_path, "127.0.0.1:1", tmp_path / "secret")
    with pytest.raises(ConfigurationError, match="needs the SuperNode's secret and cannot read"):
        courier.run(config)
    config.secret.write_bytes(b"s" * 32)
    config.secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="only its owner and one group can read: chmod 640"):
        courier.run(config)
    config.secret.write_bytes(b"short")
    config.secret.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"at least 32 bytes; .* holds 5"):
        courier.run(config)
