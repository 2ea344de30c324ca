"""Public X-rays: fetched from their publisher with the digest checked, and read with their shapes checked."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError, ExchangeError, VerificationError

# MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023), the publisher's record on Zenodo; CC BY 4.0.
PNEUMONIAMNIST_URL = "https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1"
# The only digest that MedMNIST publishes. MD5 still resists a second preimage, which is what stands against somebody
# who changes the file on its way; TLS and the checks of `load_pneumoniamnist` stand beside it.
PNEUMONIAMNIST_MD5 = "28209eda62fecd6e6a2d98b1501bb15f"
_MAX_DOWNLOAD_BYTES = 16 << 20  # the file has 4.2 MB
_MAX_UNPACKED_BYTES = 256 << 20
_MAX_REDIRECTS = 5
_COUNTS = {"train": 4708, "val": 524, "test": 624}
_WAY_OUT = "download it elsewhere and name it with --data file"


@dataclass(frozen=True)
class PneumoniaMnist:
    """PneumoniaMNIST at 28 px: images (N, 28, 28) uint8 and labels (N,) uint8, 1 for pneumonia, of three parts."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    val_images: NDArray[np.uint8]
    val_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Cxr64:
    """Chest X-rays at 64 px with patients; all fields but `label_names` are row-aligned.

    Attributes:
        images: (N, 64, 64) uint8.
        labels: (N,) uint8, an index into `label_names`.
        label_names: the two labels.
        patient_id, group_id: who it is of; `group_id` is coarser and is the privacy unit.
        split: which part of the data set the row belongs to.
        source: the collection that the row comes from.
        subtype: normal, bacteria or virus; None where the file does not say.
        sex, view: of the patient and of the film; None where the file does not say.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    label_names: tuple[str, ...]
    patient_id: NDArray[np.str_]
    group_id: NDArray[np.str_]
    split: NDArray[np.str_]
    source: NDArray[np.str_] | None = None
    subtype: NDArray[np.str_] | None = None
    sex: NDArray[np.str_] | None = None
    view: NDArray[np.str_] | None = None


def fetch_pneumoniamnist(target: Path, *, timeout_seconds: float = 20.0, client: httpx.Client | None = None) -> Path:
    """Download PneumoniaMNIST from its publisher, check its digest, and only then put it in place.

    Args:
        target: the file to write; a file already there that has the publisher's digest is left alone.
        timeout_seconds: for the whole download.
        client: how to reach the publisher; by default over the network (proxies as the environment says).

    Returns:
        `target`.

    Raises:
        ConfigurationError: another file stands at `target`, or its folder cannot be written.
        ExchangeError: the publisher cannot be reached in time, refuses, or leads away from https.
        VerificationError: more bytes than the file can have, or another digest than the published one.
    """
    if target.exists():
        if (
            target.is_file()
            and hashlib.md5(target.read_bytes(), usedforsecurity=False).hexdigest() == PNEUMONIAMNIST_MD5
        ):
            return target
        raise ConfigurationError(f"asked to write {target}; another file stands there; remove it or name another file")
    try:
        if client is not None:
            content = _download(client, PNEUMONIAMNIST_URL, timeout_seconds)
        else:
            with httpx.Client(timeout=timeout_seconds) as own:
                content = _download(own, PNEUMONIAMNIST_URL, timeout_seconds)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ExchangeError(
            f"asked zenodo.org for PneumoniaMNIST; it cannot be reached ({type(error).__name__}); {_WAY_OUT}"
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != PNEUMONIAMNIST_MD5:
        raise VerificationError(
            f"asked for PneumoniaMNIST with MD5 {PNEUMONIAMNIST_MD5}; found {found} in {len(content)} bytes; "
            f"nothing was written; try again, or {_WAY_OUT}"
        )
    _write_atomically(target, content)
    return target


def load_pneumoniamnist(path: Path) -> PneumoniaMnist:
    """Read PneumoniaMNIST's 28 px file; the order inside a part may differ from the publisher's.

    Raises:
        ConfigurationError: no such file.
        VerificationError: not this data set: a field is missing, or has another shape, type or count.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    with _open_npz(path) as file:
        for part, count in _COUNTS.items():
            arrays[f"{part}_images"] = _uint8(path, file, f"{part}_images", (count, 28, 28))
            labels = _uint8(path, file, f"{part}_labels", (count, 1))
            arrays[f"{part}_labels"] = _labels(path, f"{part}_labels", labels[:, 0], 2)
    return PneumoniaMnist(**arrays)


def load_cxr64(path: Path) -> Cxr64:
    """Read a 64 px data set with patients (cxr64.npz, adult64.npz).

    Raises:
        ConfigurationError: no such file.
        VerificationError: a field is missing, or has another shape or type.
    """
    with _open_npz(path) as file:
        names = _strings(path, file, "label_names", None)
        images = _uint8(path, file, "images", (None, 64, 64))
        count = len(images)
        return Cxr64(
            images=images,
            labels=_labels(path, "labels", _uint8(path, file, "labels", (count,)), len(names)),
            label_names=tuple(str(name) for name in names),
            patient_id=_strings(path, file, "patient_id", count),
            group_id=_strings(path, file, "group_id", count),
            split=_strings(path, file, "split", count),
            **{
                name: _strings(path, file, name, count)
                for name in ("source", "subtype", "sex", "view")
                if name in file.files
            },
        )


def _download(client: httpx.Client, url: str, timeout_seconds: float) -> bytes:
    # The client's own time-out is per read: a server that drips would hold the command for ever.
    deadline = time.monotonic() + timeout_seconds
    for _ in range(_MAX_REDIRECTS + 1):
        if not url.startswith("https://"):
            raise ExchangeError(f"asked zenodo.org for PneumoniaMNIST over https; it led to another scheme; {_WAY_OUT}")
        with client.stream("GET", url, follow_redirects=False, timeout=timeout_seconds) as response:
            if response.is_redirect and response.next_request is not None:
                url = str(response.next_request.url)
                continue
            if response.status_code != 200:
                raise ExchangeError(
                    f"asked zenodo.org for PneumoniaMNIST; it answered {response.status_code}; try later, or {_WAY_OUT}"
                )
            return b"".join(_capped(response.iter_bytes(), deadline, timeout_seconds))
    raise ExchangeError(f"asked zenodo.org for PneumoniaMNIST; more than {_MAX_REDIRECTS} redirects; {_WAY_OUT}")


def _capped(chunks: Iterator[bytes], deadline: float, timeout_seconds: float) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > _MAX_DOWNLOAD_BYTES:
            raise VerificationError(
                f"asked for PneumoniaMNIST; found more than {_MAX_DOWNLOAD_BYTES >> 20} MiB; nothing was written; "
                f"{_WAY_OUT}"
            )
        if time.monotonic() > deadline:
            raise ExchangeError(
                f"asked zenodo.org for PneumoniaMNIST within {timeout_seconds} seconds; found {total} bytes so far; "
                f"give it longer with --timeout, or {_WAY_OUT}"
            )
        yield chunk


def _write_atomically(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".fetch-", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigurationError(
            f"asked to write {target}; its folder cannot be written ({error.strerror}); name another file with --out"
        ) from error


def _open_npz(path: Path) -> np.lib.npyio.NpzFile:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MAX_UNPACKED_BYTES:
            raise _not_this(path, f"at most {_MAX_UNPACKED_BYTES >> 20} MiB unpacked", f"{unpacked >> 20} MiB")
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise ConfigurationError(f"asked to read {path}; there is no such file; name one with --data file") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _not_this(path, "an npz archive", "something else") from error
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise _not_this(path, "an npz archive", "a single array")
    return loaded


def _field(path: Path, file: np.lib.npyio.NpzFile, name: str) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = file[name]
    except KeyError as error:
        raise _not_this(path, f"a field {name}", "none") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        # ValueError: an array of Python objects, which would be unpickled, that is executed.
        raise _not_this(path, f"a plain array {name}", "something that cannot be read without executing it") from error
    return array


def _uint8(path: Path, file: np.lib.npyio.NpzFile, name: str, shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    array = _field(path, file, name)
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != np.uint8 or not array.size:
        wanted = " x ".join("N" if want is None else str(want) for want in shape)
        raise _not_this(path, f"{name} of {wanted} uint8", f"{' x '.join(map(str, array.shape))} {array.dtype}")
    return array.astype(np.uint8, copy=False)


def _labels(path: Path, name: str, labels: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    if int(labels.max()) >= classes:
        raise _not_this(path, f"{name} of 0 to {classes - 1}", f"{int(labels.max())}")
    return labels


def _strings(path: Path, file: np.lib.npyio.NpzFile, name: str, count: int | None) -> NDArray[np.str_]:
    array = _field(path, file, name)
    if array.ndim != 1 or array.dtype.kind != "U" or count not in (None, len(array)) or not array.size:
        raise _not_this(
            path, f"{name} of {count or 'some'} texts", f"{' x '.join(map(str, array.shape))} {array.dtype}"
        )
    return array.astype(np.str_, copy=False)


def _not_this(path: Path, expected: str, found: str) -> VerificationError:
    return VerificationError(
        f"{path}: expected {expected}; found {found}; fetch the data set again or name another file"
    )
