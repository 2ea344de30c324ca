"""The readers on real X-rays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ldp_client.imaging.dataset import read_dataset
from ldp_client.imaging.phantoms import phantoms
from ldp_client.imaging.xray import patient_key
from server.datasets import load_cxr64, load_pneumoniamnist

pytestmark = pytest.mark.real


def labels_file(path: Path, names: list[str]) -> Path:
    rows = (f"{name},{'pneumonia' if 'pneumonia' in name or 'person' in name else 'normal'}\n" for name in names)
    path.write_text("file,label\n" + "".join(rows), encoding="utf-8")
    return path


def test_all_ten_dicom_radiographs_are_read_with_their_patients(data_dir: Path, tmp_path: Path, secret: bytes) -> None:
    folder = data_dir / "dicom"
    names = sorted(path.name for path in folder.iterdir())
    labels = labels_file(tmp_path / "labels.csv", names)
    data = read_dataset(folder, labels, unit="patient", secret=secret, label_names=("normal", "pneumonia"))
    assert len(data.items) == 10
    assert not data.quarantined
    of_one = [item for item in data.items if item.patient == patient_key(secret, "", "NIH00001684")]
    assert [item.path.name for item in of_one] == ["00001684_021_nofinding.dcm", "00001684_028_nofinding.dcm"]
    for item in data.items:
        xray = data.read(item)
        assert (xray.pixels.shape, xray.pixels.dtype, xray.bits) == ((1024, 1024), np.uint8, 8)
        assert not xray.inverted
        assert xray.pixels.std() > 20


def test_all_sixteen_jpeg_radiographs_are_read(data_dir: Path, tmp_path: Path, secret: bytes) -> None:
    folder = data_dir / "jpeg"
    labels = labels_file(tmp_path / "labels.csv", sorted(path.name for path in folder.iterdir()))
    data = read_dataset(folder, labels, unit="image", secret=secret, label_names=("normal", "pneumonia"))
    assert len({item.patient for item in data.items}) == 16
    assert sum(item.label for item in data.items) == 8
    assert not data.quarantined
    assert all(min(data.read(item).pixels.shape) > 500 for item in data.items)


def test_the_public_data_sets_load(data_dir: Path) -> None:
    small = load_pneumoniamnist(data_dir / "pneumoniamnist.npz")
    assert int(small.test_labels.sum()) == 390
    large = load_cxr64(data_dir / "cxr64.npz")
    assert large.label_names == ("normal", "pneumonia")
    assert {name: int((large.split == name).sum()) for name in ("public", "hospital", "test")} == {
        "public": 2903,
        "hospital": 2033,
        "test": 447,
    }
    load_cxr64(data_dir / "adult64.npz")


def test_phantoms_have_the_grey_of_real_films(data_dir: Path) -> None:
    real = load_pneumoniamnist(data_dir / "pneumoniamnist.npz")
    images, labels = phantoms(400, 28, 5)
    for label in (0, 1):
        film, phantom = real.train_images[real.train_labels == label], images[labels == label]
        assert abs(film.mean() - phantom.mean()) < 6
        assert abs(film.std(axis=(1, 2)).mean() - phantom.std(axis=(1, 2)).mean()) < 6
