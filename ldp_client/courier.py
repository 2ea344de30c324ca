"""Carries signed bytes between the spool and Flower. It holds no key of ours and decides nothing.

A stock SuperNode unpacks the app bundle that a server sends and imports it. This runner takes that place: the bundle
stays the bytes it came as, and what answers is the ClientApp below, which the hospital installed. Two questions are
answered, `query.offer` and `query.pull`; anything else gets an error in fixed words, because Flower would carry an
exception's own text (paths included) to the server.

A SuperNode gives out one message and waits for its answer, for ever; then it gives out the next. So each message that
has come is answered, however late. But it announces a message before its parts have come, and where the run ends
meanwhile it forgets that one without a word. So each task has a thread of its own: one that waits in vain holds up no
other.

Flower has no public interface for such a runner, so this one file uses internal modules of it; the versions it was
tested with are in FLOWER_VERSIONS, and tests/exchange/test_flower_contract.py fails when their shape changes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from ldp_client.errors import ConfigurationError, FormatError, LdpError
from ldp_client.presence import LOOK_SECONDS, present
from ldp_client.spool import Inbox, Outbox
from ldp_client.wire.document import (
    DOWN_KINDS,
    EXCHANGE_VERSION,
    MAX_BATCH_BYTES,
    MAX_DOCUMENTS,
    MAX_OFFER_BYTES,
    UP_KINDS,
    Document,
    within_limits,
)
from ldp_client.wire.signing import read_shared_secret

FLOWER_VERSIONS = ((1, 41), (1, 43))
"""From the first, up to but without the second."""
OFFER, PULL = "query.offer", "query.pull"
REFUSAL = "the courier did not answer"
MOST_TASKS = 64
"""That many may wait for the parts of their messages at once; no more are asked for meanwhile."""
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_ANSWERING = threading.Lock()
"""The spool is read and written for one question at a time."""
_Item = TypeVar("_Item", str, bytes)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CourierConfig:
    """The spool, the SuperNode's address on this machine, and the secret that only the two of them read."""

    spool: Path
    supernode: str
    """host:port"""
    secret: Path
    poll_seconds: float = 0.25
    most_wait_seconds: float = 10.0


def courier_app(outbox: Outbox, inbox: Inbox) -> ClientApp:
    """The ClientApp that answers a server. Messages (each a RecordDict, nonces 32 bytes):

    `query.offer`: config "offer" {version, nonce, campaign, receipt, witness, grant: lists of bytes} to
        config "answer" {version, nonce, state, header: lists of bytes}.
    `query.pull`: config "pull" {version, nonce, batch: list of names} to config "batches" {version, nonce, found:
        list of names} with arrays "sealed" {name: its bytes}; found ends where MAX_BATCH_BYTES are reached.
    """
    app = ClientApp()

    @app.query("offer")
    def offer(message: Message, _context: Context) -> Message:
        request = _request(message, "offer")
        documents = [Document(kind, body) for kind in DOWN_KINDS for body in _list(request, kind, bytes)]
        if len(within_limits(documents)) < len(documents):
            raise FormatError(f"an offer has at most {MAX_DOCUMENTS} documents and {MAX_OFFER_BYTES} bytes; found more")
        inbox.mirror(documents)
        answer: dict[str, list[bytes]] = {kind: [] for kind in UP_KINDS}
        for document in within_limits(outbox.documents()):
            answer[document.kind].append(document.body)
        return _reply(message, {"answer": ConfigRecord({**_echo(request), **answer})})

    @app.query("pull")
    def pull(message: Message, _context: Context) -> Message:
        request = _request(message, "pull")
        found = dict(_batches(outbox, _list(request, "batch", str)))
        # Raw bytes under a name of our own: the other side reads them as they are and loads no array format.
        arrays = {name: Array("uint8", (len(body),), "sealed", body) for name, body in found.items()}
        batches = ConfigRecord({**_echo(request), "found": list(found)})
        return _reply(message, {"batches": batches, "sealed": ArrayRecord(arrays)})

    return app


def answer(app: ClientApp, message: Message, context: Context) -> Message:
    """The app's reply, or an error in fixed words; never an exception, and never a word about what went wrong."""
    kind = message.metadata.message_type
    if kind not in (OFFER, PULL):
        _log.warning("a message of another type was refused")
        return _error(message)
    try:
        return app(message, context)
    except LdpError as error:
        _log.warning("%s could not be answered: %s", kind, error.code)
    except Exception as error:
        # Whatever it is, its text may hold a path or content, and both this log and the reply leave the machine.
        _log.warning("%s could not be answered: %s", kind, type(error).__name__)
    return _error(message)


def run(config: CourierConfig, stop: threading.Event | None = None) -> None:
    """Answer tasks of the SuperNode until `stop` is set.

    It is `present` at the secret, so that a SuperNode whose courier was killed is started anew.

    Raises:
        ConfigurationError: the secret or the outbox cannot be read, the inbox cannot be written, or Flower's version is
            not one this was tested with.
    """
    check_flower_version()
    stop = threading.Event() if stop is None else stop
    outbox, inbox = Outbox(config.spool), Inbox(config.spool)
    acquiring = SuperExecAuthHttpInterceptor(master_secret=_secret(config.secret), protected_methods=[_ACQUIRE])
    outbox.check_readable()
    inbox.check_writable()
    app = courier_app(outbox, inbox)
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    tasks = Tasks(lambda token: _perform(config, token, app))
    wait = config.poll_seconds
    with present(config.secret), _client(config, acquiring) as client:
        # Whoever watches has seen it by then: nothing is half answered by one that was never seen.
        stop.wait(2 * LOOK_SECONDS)
        while not stop.is_set():
            try:
                acquired = client.AcquireTask(request)
                if acquired.HasField("task") and acquired.token:
                    tasks.begin(acquired.token)
            except Exception as error:
                # A SuperNode that restarts is no reason to end; its supervisor brings it back.
                wait = min(max(2 * wait, config.poll_seconds), config.most_wait_seconds)
                _log.warning("the SuperNode could not be asked for work: %s", type(error).__name__)
                stop.wait(wait)
            else:
                wait = config.poll_seconds
                tasks.rest(config.poll_seconds, stop)
        tasks.end()


class Tasks:
    """Tasks at work, each in a thread of its own; what still waits when the courier ends dies with it."""

    def __init__(self, perform: Callable[[str], None], most: int = MOST_TASKS, grace_seconds: float = 10.0) -> None:
        self._perform, self._most, self._grace = perform, most, grace_seconds
        self._changed = threading.Condition()
        self._at_work = self._done = self._seen = 0

    def begin(self, token: str) -> None:
        """Perform the task of a token beside the others."""
        with self._changed:
            self._at_work += 1
        threading.Thread(target=self._work, args=(token,), name="task", daemon=True).start()

    def _work(self, token: str) -> None:
        try:
            self._perform(token)
        finally:
            with self._changed:
                self._at_work -= 1
                self._done += 1
                self._changed.notify_all()

    def rest(self, seconds: float, stop: threading.Event) -> None:
        """Wait for so long, or until a task is done: the next one may be there. Longer while too many are at work."""
        with self._changed:
            self._changed.wait_for(lambda: self._done > self._seen, seconds)
            while self._at_work >= self._most and not stop.is_set():
                self._changed.wait(seconds)
            self._seen = self._done

    def end(self) -> None:
        """Let those finish that can."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_work == 0, self._grace)


def check_flower_version(version: str | None = None) -> None:
    """Raise ConfigurationError unless Flower is of a version whose internals this file knows."""
    found = importlib.metadata.version("flwr") if version is None else version
    first, beyond = FLOWER_VERSIONS
    parts = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if not first <= parts < beyond:
        raise ConfigurationError(
            f"the courier works with flwr from {first[0]}.{first[1]} up to, not including, {beyond[0]}.{beyond[1]}; "
            f"found {found}; install one of those"
        )


def _perform(config: CourierConfig, token: str, app: ClientApp) -> None:
    """One task: pull its message, answer it, push the reply. The app bundle that comes along is not looked at."""
    with _client(config, RuntimeTokenHttpInterceptor(token)) as client:
        heartbeat = HeartbeatSender(lambda: _beat(client))
        heartbeat.start()
        try:
            message, context, _run, _bundle = pull_task_input(client)
            with _ANSWERING:
                reply = answer(app, message, context)
            push_message(client, reply, context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
            _log.info("answered %s", message.metadata.message_type)
        except ObjectPullError:
            # The SuperNode has forgotten this message, and waits for no answer to it.
            _log.warning("a message was announced and never came")
            push_task_output(client, None, SubStatus.FAILED, REFUSAL)
        except Exception as error:
            # Without another word: when the task's heartbeat runs out, the SuperNode answers in the courier's place.
            # Told that the task has failed, it would wait for an answer for ever.
            _log.warning("a task could not be completed: %s", type(error).__name__)
        finally:
            heartbeat.stop()


def _beat(client: RuntimeHttpClient) -> bool:
    """As Flower's own heartbeat, but a lost task never signals this process."""
    try:
        return bool(client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
    except httpx.HTTPError:
        return False


def _client(
    config: CourierConfig, interceptor: RuntimeTokenHttpInterceptor | SuperExecAuthHttpInterceptor
) -> RuntimeHttpClient:
    # Plain HTTP: the SuperNode listens on this machine's loopback, and a task is given only against the secret.
    return RuntimeHttpClient.from_server_address(
        server_address=config.supernode,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="ldp-courier"), interceptor],
    )


def _secret(path: Path) -> bytes:
    try:
        secret = read_shared_secret(path)
    except OSError as error:
        raise ConfigurationError(
            f"the courier needs the SuperNode's secret and cannot read {path} ({error.strerror}); "
            "`ldp-client node key` makes it, `ldp-client site permissions` lets the courier's user read it"
        ) from error
    if len(secret) < 32:
        raise ConfigurationError(f"the SuperNode's secret has at least 32 bytes; {path} holds {len(secret)}")
    return secret


def _request(message: Message, name: str) -> ConfigRecord:
    record = message.content.config_records.get(name)
    if record is None or record.get("version") != EXCHANGE_VERSION:
        raise FormatError(f"a {name} of version {EXCHANGE_VERSION} was expected; found another message")
    nonce = record.get("nonce")
    if not isinstance(nonce, bytes) or len(nonce) != 32:
        raise FormatError("a request bears a nonce of 32 bytes; found none")
    return record


def _list(record: ConfigRecord, key: str, kind: type[_Item]) -> list[_Item]:
    values = record.get(key, [])
    if not isinstance(values, list) or len(values) > MAX_DOCUMENTS:
        raise FormatError(f"{key} must be a list of at most {MAX_DOCUMENTS} entries; found something else")
    items = [value for value in values if isinstance(value, kind)]
    if len(items) < len(values):
        raise FormatError(f"{key} must be a list of {kind.__name__}; found something else")
    return items


def _echo(request: ConfigRecord) -> dict[str, int | bytes]:
    nonce = request["nonce"]
    return {"version": EXCHANGE_VERSION, "nonce": nonce if isinstance(nonce, bytes) else b""}


def _batches(outbox: Outbox, names: Iterable[str]) -> Iterable[tuple[str, bytes]]:
    size = 0
    for name in names:
        body = outbox.batch(name)
        if body is not None:
            size += len(body)
            if size > MAX_BATCH_BYTES:
                return
            yield name, body


def _reply(message: Message, records: dict[str, ConfigRecord | ArrayRecord]) -> Message:
    return Message(RecordDict(dict(records)), reply_to=message)


def _error(message: Message) -> Message:
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=REFUSAL), reply_to=message)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m ldp_client.courier`: the courier as a program of its own; SIGTERM lets it finish its task."""
    parser = argparse.ArgumentParser(prog="python -m ldp_client.courier", description=main.__doc__)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--supernode", required=True, help="host:port of the SuperNode on this machine")
    parser.add_argument("--secret", type=Path, required=True)
    config = CourierConfig(**vars(parser.parse_args(arguments)))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # httpx would write a line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    run(config, stop)


if __name__ == "__main__":
    main()
