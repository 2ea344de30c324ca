"""The spool between agent and courier: whole files or none, and nothing that a hostile side puts there is believed."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError, FormatError, ParameterError
from ldp_client.spool import MAX_ENTRIES, Disk, Inbox, Outbox, Skip
from ldp_client.wire.document import (
    MAX_BATCH_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENTS,
    MAX_OFFER_BYTES,
    Document,
    file_name,
    within_limits,
)


class WatchedDisk(Disk):
    """Notes each call, and stops as a power failure would before call number `cut`."""

    def __init__(self, cut: int | None = None) -> None:
        self.calls: list[str] = []
        self._cut = cut

    def _note(self, call: str) -> None:
        if self._cut == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append(call)

    def write(self, path: Path, body: bytes) -> None:
        self._note("write")
        super().write(path, body)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename")
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self._note("remove")
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder")
        super().sync_folder(folder)


class TornDisk(Disk):
    """Loses power in the middle of writing."""

    def write(self, path: Path, body: bytes) -> None:
        super().write(path, body[: len(body) // 2])
        raise KeyboardInterrupt


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


def plant(box: Outbox | Inbox, kind: str, body: bytes) -> Path:
    path = box.folder / kind / file_name(body)
    path.write_bytes(body)
    return path


def test_what_the_agent_puts_the_courier_reads(outbox: Outbox) -> None:
    name = outbox.put("batch", b"sealed")
    outbox.put("header", b"h")
    outbox.put("state", b"s")
    assert outbox.batch(name) == b"sealed"
    assert outbox.documents() == [Document("state", b"s"), Document("header", b"h")]


def test_a_mirror_leaves_exactly_the_last_offer(inbox: Inbox) -> None:
    inbox.mirror([Document("campaign", b"one"), Document("receipt", b"r")])
    inbox.mirror([Document("campaign", b"two")])
    assert inbox.documents() == [Document("campaign", b"two")]


def test_a_replaced_folder_holds_exactly_the_new_documents(outbox: Outbox) -> None:
    outbox.replace("state", [b"old"])
    outbox.replace("state", [b"new", b"newer"])
    assert {document.body for document in outbox.documents()} == {b"new", b"newer"}


def test_a_removed_document_is_gone_and_removing_it_again_is_harmless(outbox: Outbox) -> None:
    name = outbox.put("header", b"h")
    outbox.remove("header", name)
    outbox.remove("header", name)
    assert outbox.documents() == []


def test_modes_let_the_group_read_and_nobody_else(outbox: Outbox) -> None:
    previous = os.umask(0o077)
    try:
        name = outbox.put("state", b"s")
        outbox.create()
    finally:
        os.umask(previous)
    assert stat.S_IMODE((outbox.folder / "state" / name).stat().st_mode) == 0o640
    assert stat.S_IMODE((outbox.folder / "state").stat().st_mode) == 0o2750
    assert stat.S_IMODE(outbox.folder.stat().st_mode) == 0o2750


def test_a_file_is_written_then_renamed_then_its_folder_is_synced(tmp_path: Path) -> None:
    Outbox(tmp_path).create()
    disk = WatchedDisk()
    Outbox(tmp_path, disk).put("header", b"h")
    assert disk.calls == ["remove", "write", "rename", "sync_folder"]


def test_the_same_bytes_again_touch_nothing(tmp_path: Path) -> None:
    Outbox(tmp_path).create()
    Outbox(tmp_path).put("header", b"h")
    disk = WatchedDisk()
    Outbox(tmp_path, disk).put("header", b"h")
    assert disk.calls == []


@pytest.mark.parametrize("cut", range(8))
def test_a_crash_between_any_two_steps_of_a_replacement_leaves_only_whole_documents(tmp_path: Path, cut: int) -> None:
    Outbox(tmp_path).create()
    Outbox(tmp_path).put("state", b"old")
    with contextlib.suppress(KeyboardInterrupt):
        Outbox(tmp_path, WatchedDisk(cut)).replace("state", [b"new"])
    reading = Outbox(tmp_path).look()
    bodies = {document.body for document in reading.documents}
    assert reading.skipped == {}
    assert bodies in ({b"old"}, {b"old", b"new"}, {b"new"})
    Outbox(tmp_path).replace("state", [b"new"])
    assert [path.name for path in (tmp_path / "outbox" / "state").iterdir()] == [file_name(b"new")]


def test_a_write_that_tears_is_never_seen_and_is_cleared_later(tmp_path: Path) -> None:
    Outbox(tmp_path).create()
    with pytest.raises(KeyboardInterrupt):
        Outbox(tmp_path, TornDisk()).put("header", b"half of this")
    assert Outbox(tmp_path).look().skipped == {}
    assert Outbox(tmp_path).documents() == []
    Outbox(tmp_path).replace("header", [b"half of this"])
    assert len(list((tmp_path / "outbox" / "header").iterdir())) == 1


def test_a_link_is_not_followed(outbox: Outbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"key")
    (outbox.folder / "header" / file_name(b"key")).symlink_to(secret)
    assert outbox.look().skipped == {Skip.UNREADABLE: 1}
    (outbox.folder / "batch" / file_name(b"key")).symlink_to(secret)
    assert outbox.batch(file_name(b"key")) is None


def test_a_folder_that_is_a_link_is_not_entered(outbox: Outbox, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / file_name(b"key")).write_bytes(b"key")
    (outbox.folder / "header").rmdir()
    (outbox.folder / "header").symlink_to(elsewhere)
    assert outbox.look().documents == []
    assert outbox.look().skipped == {Skip.UNREADABLE: 1}


@pytest.mark.timeout(10)
def test_a_pipe_does_not_hold_up_the_reader(outbox: Outbox) -> None:
    os.mkfifo(outbox.folder / "header" / file_name(b"pipe"))
    assert outbox.look().skipped == {Skip.NOT_A_FILE: 1}


def test_a_folder_in_place_of_a_file_is_passed_over(inbox: Inbox) -> None:
    (inbox.folder / "grant" / file_name(b"x")).mkdir()
    assert inbox.look().skipped == {Skip.NOT_A_FILE: 1}


def test_a_file_over_the_limit_is_not_read(outbox: Outbox) -> None:
    path = plant(outbox, "header", b"")
    os.truncate(path, MAX_DOCUMENT_BYTES + 1)
    batch = plant(outbox, "batch", b"")
    os.truncate(batch, MAX_BATCH_BYTES + 1)
    assert outbox.look().skipped == {Skip.TOO_LARGE: 1}
    assert outbox.batch(batch.name) is None


def test_a_name_that_is_not_the_digest_is_not_believed(outbox: Outbox) -> None:
    (outbox.folder / "header" / file_name(b"one")).write_bytes(b"other")
    (outbox.folder / "state" / "readme.txt").write_bytes(b"hello")
    assert outbox.look().documents == []
    assert outbox.look().skipped == {Skip.DIGEST: 1, Skip.NAME: 1}


@pytest.mark.parametrize("name", ["../../secret", "a" * 63, "A" * 64, "", "." * 64])
def test_a_batch_is_only_found_under_a_digest(outbox: Outbox, name: str) -> None:
    assert outbox.batch(name) is None


def test_too_many_files_are_counted_once_and_the_rest_stays_readable(outbox: Outbox) -> None:
    for number in range(MAX_DOCUMENTS + 5):
        plant(outbox, "header", number.to_bytes(4, "big"))
    reading = outbox.look()
    assert len(reading.documents) == MAX_DOCUMENTS
    assert reading.skipped == {Skip.TOO_MANY: 1}


def test_a_folder_of_countless_names_is_not_listed_in_full(outbox: Outbox) -> None:
    for number in range(MAX_ENTRIES + 10):
        (outbox.folder / "state" / f"x{number}").touch()
    assert outbox.look().skipped == {Skip.TOO_MANY: 1, Skip.NAME: MAX_ENTRIES}


def test_documents_end_where_one_exchange_ends(outbox: Outbox) -> None:
    for number in range(10):
        plant(outbox, "header", bytes([number]) * MAX_DOCUMENT_BYTES)
    reading = outbox.look()
    assert sum(len(document.body) for document in reading.documents) == MAX_OFFER_BYTES
    assert reading.skipped == {Skip.TOO_MANY: 1}


def test_files_that_are_not_their_name_are_read_up_to_the_limit_only(inbox: Inbox) -> None:
    for number in range(20):
        (inbox.folder / "grant" / file_name(bytes([number]))).write_bytes(b"another")
    plant(inbox, "campaign", b"c")
    assert inbox.look().skipped == {Skip.DIGEST: 8, Skip.TOO_MANY: 1}
    assert inbox.documents() == [Document("campaign", b"c")]


def test_a_link_to_a_readers_own_file_gives_it_nothing_new(outbox: Outbox, tmp_path: Path) -> None:
    """A hard link has no mark of its own: what is read is what has the digest that the name says, and nothing else."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"key")
    (outbox.folder / "header" / file_name(b"other")).hardlink_to(secret)
    (outbox.folder / "header" / "a\nb").hardlink_to(secret)
    assert outbox.look().documents == []
    assert outbox.look().skipped == {Skip.DIGEST: 1, Skip.NAME: 1}


def test_a_file_that_grows_or_is_swapped_while_it_is_read_is_not_believed(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = plant(outbox, "header", b"h"), os.fstat

    def swapped(descriptor: int) -> os.stat_result:
        found = look(descriptor)
        if stat.S_ISREG(found.st_mode):
            path.write_bytes(b"another, and longer than what was announced")
        return found

    monkeypatch.setattr(os, "fstat", swapped)
    assert outbox.look().skipped == {Skip.DIGEST: 1}


@pytest.mark.root
def test_an_unreadable_file_is_passed_over() -> None:
    # Not tmp_path: pytest closes its parents to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        outbox = Outbox(Path(folder))
        outbox.create()
        plant(outbox, "header", b"h").chmod(0)
        for path in (outbox.folder, *outbox.folder.iterdir()):
            path.chmod(0o755)
        os.seteuid(65534)
        try:
            assert outbox.look().skipped == {Skip.UNREADABLE: 1}
        finally:
            os.seteuid(0)


def test_a_missing_spool_reads_as_empty_and_is_named_when_written(tmp_path: Path) -> None:
    assert Inbox(tmp_path).documents() == []
    assert Outbox(tmp_path).batch("0" * 64) is None
    with pytest.raises(ConfigurationError, match="the outbox needs its folder 'state'; found none"):
        Outbox(tmp_path).put("state", b"s")


def test_a_kind_of_the_other_side_is_refused_before_anything_is_written(inbox: Inbox, outbox: Outbox) -> None:
    with pytest.raises(ParameterError, match="the outbox holds state, header, batch; found another kind"):
        outbox.put("campaign", b"c")
    with pytest.raises(ParameterError, match="the inbox holds campaign, receipt, witness, grant; found another kind"):
        inbox.mirror([Document("campaign", b"c"), Document("state", b"s")])
    assert inbox.documents() == []


def test_writing_over_the_limit_is_refused(outbox: Outbox) -> None:
    with pytest.raises(ParameterError, match="a header in the outbox has at most 1048576 bytes; found 1048577"):
        outbox.put("header", b"x" * (MAX_DOCUMENT_BYTES + 1))


def test_removing_by_anything_but_a_digest_is_refused(outbox: Outbox) -> None:
    with pytest.raises(ParameterError, match="named by 64 hexadecimal digits; found another name"):
        outbox.remove("header", "../state/x")


def test_a_document_has_a_known_kind_and_a_limit() -> None:
    with pytest.raises(FormatError, match="found another kind"):
        Document("code", b"")
    with pytest.raises(FormatError, match="at most 1048576 bytes; found 1048577"):
        Document("state", b"x" * (MAX_DOCUMENT_BYTES + 1))


def test_an_offer_ends_at_its_limits() -> None:
    assert len(within_limits([Document("grant", b"x")] * (MAX_DOCUMENTS + 1))) == MAX_DOCUMENTS
    assert len(within_limits([Document("grant", b"x" * MAX_DOCUMENT_BYTES)] * 9)) == 8
