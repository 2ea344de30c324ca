"""Started programs and what they start end with the block that started them, however it is left."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError, ExchangeError
from ldp_client.processes import (
    Program,
    Running,
    family_members,
    free_port,
    running,
    supervised,
    unwinding_on_sigterm,
    wait_for_port,
)

pytestmark = pytest.mark.processes
# As Flower's SuperLink does: a child in a session of its own, out of reach of a signal to the group.
DETACHING = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
SLEEP = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def program(code: str, folder: Path, user: str | None = None) -> Program:
    return Program([sys.executable, "-c", code], {"PATH": "/usr/bin:/bin"}, folder / "log", user)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("child", [SLEEP, STUBBORN])
def test_a_child_in_a_session_of_its_own_is_stopped_as_well(tmp_path: Path, child: str) -> None:
    started = program(f"{DETACHING.format(child=child)}; time.sleep(600)", tmp_path)
    with running(started):
        until(lambda: len(family_members(started.family)) == 2)
    assert family_members(started.family) == []


def test_a_child_that_outlived_its_parent_is_stopped_as_well(tmp_path: Path) -> None:
    started = program(DETACHING.format(child=SLEEP), tmp_path)
    with running(started) as process:
        process.wait(20)
        assert len(family_members(started.family)) == 1
    assert family_members(started.family) == []


def test_an_exception_in_the_block_stops_the_program(tmp_path: Path) -> None:
    started = program(SLEEP, tmp_path)
    with pytest.raises(RuntimeError, match="in between"), running(started):
        raise RuntimeError("in between")
    assert family_members(started.family) == []


def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    with running(program(SLEEP, tmp_path)) as process:
        process.stop()
        process.stop()
        assert not process.alive()


def test_a_supervised_program_is_started_again_after_each_end(tmp_path: Path) -> None:
    started = program("pass", tmp_path)
    with supervised(started, first_seconds=0.1, most_seconds=0.2) as supervisor:
        until(lambda: supervisor.starts >= 3)
    assert family_members(started.family) == []


def test_a_killed_program_comes_back(tmp_path: Path) -> None:
    with supervised(program(SLEEP, tmp_path), first_seconds=0.1) as supervisor:
        first = supervisor.current.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: supervisor.current.pid != first and supervisor.current.alive())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_terminate_stop_what_was_started(tmp_path: Path, number: signal.Signals) -> None:
    """The parent is a program of its own, as the demo is."""
    parent = f"""
import sys, time
from pathlib import Path
from ldp_client.processes import Program, running, supervised, unwinding_on_sigterm
def program(name):
    code = {DETACHING.format(child=SLEEP) + "; time.sleep(600)"!r}
    return Program([sys.executable, "-c", code], {{}}, Path({str(tmp_path)!r}) / name, family={tmp_path.name!r} + name)
with unwinding_on_sigterm(), running(program("one")), supervised(program("two")):
    print("up", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        families = [f"{tmp_path.name}{name}" for name in ("one", "two")]
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            until(lambda: all(len(family_members(family)) == 2 for family in families))
            process.send_signal(number)
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert [family_members(family) for family in families] == [[], []]


def test_the_earlier_answer_to_sigterm_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with unwinding_on_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_only_the_given_environment_reaches_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "secret")
    with running(program("import os; print(sorted(os.environ))", tmp_path)) as process:
        process.wait(20)
    assert "OURS" not in (tmp_path / "log").read_text()


@pytest.mark.root
def test_a_program_runs_as_its_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with running(Program(["/usr/bin/id", "-u"], {}, tmp_path / "log", "nobody")) as process:
        process.wait(20)
    assert (tmp_path / "log").read_text().split() == [str(nobody.pw_uid)]


def test_an_unknown_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="an operating system user that does not exist"):
        Running(program(SLEEP, tmp_path, "no-such-user-here"))


def test_a_program_that_ends_instead_of_listening_is_named_by_its_log(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"was to listen on port \d+ and ended instead; its log is .*log"):
        wait_for_port(free_port(), lambda: False, log=tmp_path / "log")


def test_a_program_that_never_listens_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"was to listen on port \d+ within 0.1 s and did not"):
        wait_for_port(free_port(), lambda: True, log=tmp_path / "log", timeout_seconds=0.1)
