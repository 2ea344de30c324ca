"""A folder that is written all or nothing, and what is said where it cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError, VerificationError
from server.learning.new_folder import new_folder, obstacle, require_new

MADE = r"asked to write a report to .*, which cannot be made \({}\); name a new folder in one that you may write to"


def test_what_is_written_stands_when_all_went_well(tmp_path: Path) -> None:
    with new_folder(tmp_path / "below" / "new", "a report") as folder:
        (folder / "page").write_text("one")
        assert not (tmp_path / "below" / "new").exists()
    assert (tmp_path / "below" / "new" / "page").read_text() == "one"
    assert (tmp_path / "below" / "new").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["new"]


def test_nothing_stands_when_something_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(VerificationError), new_folder(tmp_path / "new", "a report"):
        raise VerificationError("what was written does not hold")
    with (
        pytest.raises(ConfigurationError, match=MADE.format("No space left on device")),
        new_folder(tmp_path / "new", "a report"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with new_folder(tmp_path / "new", "a report") as folder:
            (folder / "page").touch()
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "theirs").touch()

    with pytest.raises(ConfigurationError, match="which cannot be made"):
        write()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]


@pytest.mark.parametrize("place", ["there", "link"])
def test_what_exists_is_never_overwritten(tmp_path: Path, place: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=f"a report to '{place}', which exists; name a new folder"):
        require_new(tmp_path / place, "a report")


@pytest.mark.parametrize(
    ("place", "why"),
    [("file/new", "file is a file"), ("/proc/new", ".+"), ("/proc/deep/new", ".+"), ("n" * 300, "File name too long")],
)
def test_a_place_where_nothing_can_be_made_is_refused_beforehand(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=MADE.format(why)):
        require_new(tmp_path / place, "a report")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_stays_made_where_something_could_be(tmp_path: Path) -> None:
    require_new(tmp_path / "deep" / "new", "a report")
    assert obstacle(tmp_path / "deep") == ""
    assert list(tmp_path.iterdir()) == []
