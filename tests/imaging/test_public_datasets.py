"""Fetching and loading public data sets, against a transport that plays the publisher."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import server.datasets
from ldp_client.errors import ConfigurationError, ExchangeError, VerificationError
from server.cli.dataset import app
from server.datasets import (
    PNEUMONIAMNIST_MD5,
    PNEUMONIAMNIST_URL,
    fetch_pneumoniamnist,
    load_cxr64,
    load_pneumoniamnist,
)

CONTENT = b"the publisher's bytes"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher's digest is that of CONTENT."""
    monkeypatch.setattr(server.datasets, "PNEUMONIAMNIST_MD5", hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())


def fetch(target: Path, answer: Answer, timeout_seconds: float = 5.0) -> Path:
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        return fetch_pneumoniamnist(target, timeout_seconds=timeout_seconds, client=client)


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing should have been asked")


@pytest.mark.usefixtures("published")
def test_the_publishers_bytes_are_put_in_place(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=CONTENT)

    target = tmp_path / "new" / "p.npz"
    assert fetch(target, answer) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["p.npz"]
    assert asked == [PNEUMONIAMNIST_URL]


@pytest.mark.usefixtures("published")
def test_a_file_already_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(CONTENT)
    assert fetch(tmp_path / "p.npz", never).read_bytes() == CONTENT


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="another file stands there; remove it or name another file"):
        fetch(tmp_path / "p.npz", never)
    assert (tmp_path / "p.npz").read_bytes() == b"mine"


def test_changed_bytes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(
        VerificationError, match=f"with MD5 {PNEUMONIAMNIST_MD5}; found .* nothing was written; try again"
    ):
        fetch(tmp_path / "p.npz", lambda _: httpx.Response(200, content=b"changed"))
    assert not list(tmp_path.iterdir())


def test_more_bytes_than_the_file_can_have_are_not_read(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"\0" * (1 << 20)

    with pytest.raises(VerificationError, match="found more than 16 MiB"):
        fetch(tmp_path / "p.npz", lambda _: httpx.Response(200, content=endless()))
    assert sent <= 18


@pytest.mark.usefixtures("published")
def test_a_redirect_to_https_is_followed(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "zenodo.org":
            return httpx.Response(302, headers={"location": "https://files.example/p"})
        return httpx.Response(200, content=CONTENT)

    assert fetch(tmp_path / "p.npz", answer).read_bytes() == CONTENT


def test_a_redirect_away_from_https_is_not_followed(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        return httpx.Response(302, headers={"location": "http://files.example/p"})

    with pytest.raises(ExchangeError, match=r"it led to another scheme; .*--data file"):
        fetch(tmp_path / "p.npz", answer)


def test_redirects_without_end_are_given_up(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="more than 5 redirects"):
        fetch(tmp_path / "p.npz", lambda request: httpx.Response(302, headers={"location": str(request.url)}))


def test_a_refusal_of_the_publisher_names_its_status(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="it answered 503; try later, or download it elsewhere"):
        fetch(tmp_path / "p.npz", lambda _: httpx.Response(503))


def test_an_unreachable_publisher_says_the_way_out(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("no route")

    with pytest.raises(ExchangeError, match=r"cannot be reached \(ConnectTimeout\); download it elsewhere and name it"):
        fetch(tmp_path / "p.npz", answer)


def test_a_closed_port_on_this_machine_is_unreachable_over_a_real_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(server.datasets, "PNEUMONIAMNIST_URL", f"https://127.0.0.1:{taken.getsockname()[1]}/p.npz")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(ExchangeError, match=r"cannot be reached \(Connect(Error|Timeout)\)"):
            fetch_pneumoniamnist(tmp_path / "p.npz", timeout_seconds=2.0)


def test_a_publisher_that_drips_is_given_up(tmp_path: Path) -> None:
    def drip() -> Iterator[bytes]:
        while True:
            yield b"x"

    with pytest.raises(ExchangeError, match=r"within 0\.05 seconds; found \d+ bytes so far; give it longer"):
        fetch(tmp_path / "p.npz", lambda _: httpx.Response(200, content=drip()), timeout_seconds=0.05)


@pytest.mark.usefixtures("published")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"its folder cannot be written .* name another file with --out"):
        fetch(tmp_path / "file" / "p.npz", lambda _: httpx.Response(200, content=CONTENT))


@pytest.mark.usefixtures("published")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        fetch(tmp_path / "p.npz", lambda _: httpx.Response(200, content=CONTENT))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("published")
def test_the_command_says_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(CONTENT)
    result = CliRunner().invoke(app, ["fetch", "pneumoniamnist", "--out", str(tmp_path / "p.npz")])
    assert result.exit_code == 0
    assert "(published digest checked)" in result.output


def test_the_command_knows_only_its_data_sets(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["fetch", "other", "--out", str(tmp_path / "x")]).exit_code == 2


@pytest.fixture
def fields() -> dict[str, NDArray[np.generic]]:
    made: dict[str, NDArray[np.generic]] = {}
    for part, count in (("train", 4708), ("val", 524), ("test", 624)):
        made[f"{part}_images"] = np.zeros((count, 28, 28), dtype=np.uint8)
        made[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    return made


def saved(path: Path, fields: dict[str, NDArray[np.generic]]) -> Path:
    np.savez_compressed(path, allow_pickle=True, **fields)
    return path


def test_pneumoniamnist_is_loaded_with_flat_labels(tmp_path: Path, fields: dict[str, NDArray[np.generic]]) -> None:
    data = load_pneumoniamnist(saved(tmp_path / "p.npz", fields))
    assert data.train_images.shape == (4708, 28, 28)
    assert data.test_labels.shape == (624,)
    assert data.val_labels.tolist()[:3] == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train_images", np.zeros((3, 28, 28), np.uint8), "train_images of 4708 x 28 x 28 uint8; found 3 x 28 x 28"),
        ("val_images", np.zeros((524, 28, 28)), "found 524 x 28 x 28 float64"),
        ("val_labels", np.zeros(524, np.uint8), "val_labels of 524 x 1 uint8; found 524 uint8"),
        ("test_labels", np.full((624, 1), 2, np.uint8), "test_labels of 0 to 1; found 2"),
        ("test_images", np.array([print], dtype=object), "something that cannot be read without executing it"),
    ],
)
def test_another_data_set_is_refused(
    tmp_path: Path, fields: dict[str, NDArray[np.generic]], name: str, value: NDArray[np.generic], text: str
) -> None:
    with pytest.raises(VerificationError, match=text):
        load_pneumoniamnist(saved(tmp_path / "p.npz", fields | {name: value}))


def test_a_missing_field_is_named(tmp_path: Path, fields: dict[str, NDArray[np.generic]]) -> None:
    del fields["test_images"]
    with pytest.raises(VerificationError, match="expected a field test_images; found none; fetch the data set again"):
        load_pneumoniamnist(saved(tmp_path / "p.npz", fields))


def test_a_file_that_unpacks_without_end_is_not_unpacked(tmp_path: Path) -> None:
    bomb = {"train_images": np.zeros((300 << 20,), dtype=np.uint8)}
    with pytest.raises(VerificationError, match="at most 256 MiB unpacked; found 300 MiB"):
        load_pneumoniamnist(saved(tmp_path / "p.npz", bomb))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(b"no archive")
    with pytest.raises(VerificationError, match="expected an npz archive; found something else"):
        load_pneumoniamnist(tmp_path / "p.npz")
    with pytest.raises(ConfigurationError, match="there is no such file; name one with --data file"):
        load_pneumoniamnist(tmp_path / "none.npz")


def test_an_array_with_an_archive_behind_it_is_refused(tmp_path: Path, fields: dict[str, NDArray[np.generic]]) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    both = (tmp_path / "one.npy").read_bytes() + saved(tmp_path / "p.npz", fields).read_bytes()
    (tmp_path / "p.npz").write_bytes(both)
    with pytest.raises(VerificationError, match="expected an npz archive; found a single array"):
        load_pneumoniamnist(tmp_path / "p.npz")


def cxr_fields() -> dict[str, NDArray[np.generic]]:
    return {
        "images": np.zeros((3, 64, 64), dtype=np.uint8),
        "labels": np.array([0, 1, 1], dtype=np.uint8),
        "label_names": np.array(["normal", "pneumonia"]),
        "patient_id": np.array(["a", "b", "c"]),
        "group_id": np.array(["g", "g", "h"]),
        "split": np.array(["public", "hospital", "test"]),
    }


def test_cxr64_is_loaded_with_its_patients(tmp_path: Path) -> None:
    data = load_cxr64(saved(tmp_path / "c.npz", cxr_fields()))
    assert data.label_names == ("normal", "pneumonia")
    assert data.group_id.tolist() == ["g", "g", "h"]
    assert data.images.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("images", np.zeros((3, 28, 28), np.uint8), "images of N x 64 x 64 uint8"),
        ("labels", np.array([0, 1, 2], np.uint8), "labels of 0 to 1; found 2"),
        ("group_id", np.array(["g"]), "group_id of 3 texts; found 1"),
        ("split", np.array([1, 2, 3]), "split of 3 texts; found 3 int64"),
    ],
)
def test_another_cxr64_is_refused(tmp_path: Path, name: str, value: NDArray[np.generic], text: str) -> None:
    with pytest.raises(VerificationError, match=text):
        load_cxr64(saved(tmp_path / "c.npz", cxr_fields() | {name: value}))
