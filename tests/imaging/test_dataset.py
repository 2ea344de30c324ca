"""A folder of X-rays and its labels file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError, ParameterError, QuarantinedError
from ldp_client.imaging.dataset import DataSet, read_dataset, write_dataset
from ldp_client.imaging.files import Unit, read_radiograph, read_xray
from ldp_client.imaging.limits import MAX_FILE_BYTES
from ldp_client.imaging.png import png_bytes
from ldp_client.imaging.quarantine import Reason
from ldp_client.imaging.xray import image_unit_key, patient_key, xray_key

MakeDicom = Callable[..., bytes]
NAMES = ("normal", "pneumonia")


def image(shade: int) -> NDArray[np.uint8]:
    return np.full((30, 30), shade, dtype=np.uint8)


def folder_of(folder: Path, files: dict[str, bytes], labels: str) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "labels.csv").write_text(labels, encoding="utf-8")
    return folder


def read(folder: Path, secret: bytes, unit: Unit = "image") -> DataSet:
    return read_dataset(folder, folder / "labels.csv", unit=unit, secret=secret, label_names=NAMES)


def set_aside(data: DataSet) -> dict[str, str]:
    return {entry.file: entry.reason.value for entry in data.quarantined}


def test_every_file_is_an_item_or_set_aside_with_its_reason(
    tmp_path: Path, secret: bytes, make_dicom: MakeDicom
) -> None:
    files = {
        "a.png": png_bytes(image(1)),
        "again.png": png_bytes(image(1)),
        "colour.png": png_bytes(np.dstack([image(1), image(2), image(3)])),
        "film.dcm": make_dicom(),
        "knee.dcm": make_dicom(BodyPartExamined="KNEE"),
        "notes.txt": b"Mustermann",
        "sub/b.png": png_bytes(image(2)),
        "unlabelled.png": png_bytes(image(4)),
        "unnamed.png": png_bytes(image(5)),
        "strange.png": png_bytes(image(6)),
        ".DS_Store": b"",
        ".hidden/c.png": png_bytes(image(7)),
    }
    rows = ["a.png,normal", "again.png,normal", "colour.png,normal", "film.dcm,pneumonia", "knee.dcm,normal"]
    rows += ["notes.txt,normal", "sub/b.png,pneumonia", "unnamed.png,", "strange.png,fracture", "gone.png,normal"]
    data = read(folder_of(tmp_path, files, "file,label\n" + "\n".join(rows) + "\n"), secret)
    assert [(item.path.relative_to(tmp_path).as_posix(), item.label) for item in data.items] == [
        ("a.png", 0),
        ("film.dcm", 1),
        ("sub/b.png", 1),
    ]
    assert set_aside(data) == {
        "again.png": "duplicate",
        "colour.png": "not_radiograph",
        "gone.png": "unreadable",
        "knee.dcm": "not_chest",
        "notes.txt": "unreadable",
        "strange.png": "unknown_label",
        "unlabelled.png": "missing_label",
        "unnamed.png": "missing_label",
    }
    assert data.counts()[Reason.MISSING_LABEL] == 2


def test_pixels_are_read_when_their_turn_comes(tmp_path: Path, secret: bytes) -> None:
    data = read(folder_of(tmp_path, {"a.png": png_bytes(image(9))}, "file,label\na.png,pneumonia\n"), secret)
    xray = data.read(data.items[0])
    assert np.array_equal(xray.pixels, image(9))
    assert (xray.label, xray.bits, xray.window, xray.inverted) == ("pneumonia", 8, None, False)
    assert xray.identity == xray_key(secret, image(9))
    assert xray.patient == image_unit_key(secret, xray.identity)


def test_a_file_that_changed_since_is_not_released(tmp_path: Path, secret: bytes) -> None:
    data = read(folder_of(tmp_path, {"a.png": png_bytes(image(9))}, "file,label\na.png,normal\n"), secret)
    (tmp_path / "a.png").write_bytes(png_bytes(image(8)))
    with pytest.raises(QuarantinedError, match="the file has changed since the folder was read"):
        data.read(data.items[0])


def test_the_patient_column_gives_the_patient(tmp_path: Path, secret: bytes, make_dicom: MakeDicom) -> None:
    files = {"a.png": png_bytes(image(1)), "b.dcm": make_dicom(), "c.dcm": make_dicom(image(2))}
    labels = "file,label,patient\na.png,normal, P-9\nb.dcm,normal,P-9\nc.dcm,normal,\n"
    data = read(folder_of(tmp_path, files, labels), secret, "patient")
    assert {item.patient for item in data.items} == {patient_key(secret, "", "P-9")}
    assert set_aside(data) == {"c.dcm": "missing_patient"}  # its PatientID could be another spelling of P-9


def test_without_that_column_the_file_names_the_patient(tmp_path: Path, secret: bytes, make_dicom: MakeDicom) -> None:
    files = {"a.png": png_bytes(image(1)), "b.dcm": make_dicom(), "c.dcm": make_dicom(image(2), PatientID=None)}
    data = read(folder_of(tmp_path, files, "file,label\na.png,normal\nb.dcm,normal\nc.dcm,normal\n"), secret, "patient")
    assert [item.patient for item in data.items] == [patient_key(secret, "", "P-1")]
    assert set_aside(data) == {"a.png": "missing_patient", "c.dcm": "missing_patient"}


@pytest.mark.parametrize("seed", range(3))
def test_which_of_two_equal_files_stays_depends_on_the_names_alone(tmp_path: Path, secret: bytes, seed: int) -> None:
    names = ["b.png", "a.png", "c.png"]
    random.Random(seed).shuffle(names)  # noqa: S311
    for name in names:
        folder_of(tmp_path, {name: png_bytes(image(3))}, "file,label,patient\n")
    rows = "".join(f"{name},normal,{name}\n" for name in names)
    (tmp_path / "labels.csv").write_text("file,label,patient\n" + rows, encoding="utf-8")
    data = read(tmp_path, secret, "patient")
    assert [item.path.name for item in data.items] == ["a.png"]
    assert set_aside(data) == {"b.png": "duplicate", "c.png": "duplicate"}


def test_equal_pixels_in_dicom_and_png_are_duplicates(tmp_path: Path, secret: bytes, make_dicom: MakeDicom) -> None:
    files = {"a.dcm": make_dicom(image(3)), "b.png": png_bytes(image(3))}
    data = read(folder_of(tmp_path, files, "file,label\na.dcm,normal\nb.png,pneumonia\n"), secret)
    assert set_aside(data) == {"b.png": "duplicate"}


def test_links_and_pipes_are_not_followed(tmp_path: Path, secret: bytes) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(png_bytes(image(1)))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.png").symlink_to(outside)
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    labels = "file,label\nlink.png,normal\npipe.png,normal\nlinked/outside.png,normal\n"
    data = read(folder_of(folder, {}, labels), secret)
    assert set_aside(data) == {"link.png": "unreadable", "linked/outside.png": "unreadable", "pipe.png": "unreadable"}


def test_links_are_neither_resolved_nor_listed(tmp_path: Path, secret: bytes) -> None:
    """A loop's resolution fails with the file's name in the text; a link without a row is nobody's X-ray."""
    (tmp_path / "Mustermann.png").symlink_to("Mustermann.png")
    (tmp_path / "there.png").symlink_to("back.png")
    (tmp_path / "back.png").symlink_to("there.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "around").symlink_to(tmp_path)
    folder_of(tmp_path, {"a.png": png_bytes(image(1))}, "file,label\na.png,normal\nthere.png,normal\n")
    data = read(tmp_path, secret)
    assert [item.path.name for item in data.items] == ["a.png"]
    assert set_aside(data) == {"there.png": "unreadable"}


def test_the_labels_file_is_no_xray_whatever_way_it_is_named(tmp_path: Path, secret: bytes) -> None:
    folder = folder_of(tmp_path / "xrays", {"a.png": png_bytes(image(1))}, "file,label\na.png,normal\n")
    (tmp_path / "labels.csv").symlink_to(folder / "labels.csv")
    for labels in (folder / "labels.csv", folder / ".." / "xrays" / "labels.csv", tmp_path / "labels.csv"):
        data = read_dataset(folder, labels, unit="image", secret=secret, label_names=NAMES)
        assert (len(data.items), data.quarantined) == (1, ())


def test_a_file_that_goes_while_the_folder_is_read_is_set_aside(
    tmp_path: Path, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, {"a.png": png_bytes(image(1))}, "file,label\na.png,normal\nMustermann.png,normal\n")
    listed = [(str(tmp_path), [], ["a.png", "Mustermann.png", "labels.csv"])]
    monkeypatch.setattr("ldp_client.imaging.dataset.os.walk", lambda folder, followlinks: listed)
    assert set_aside(read(tmp_path, secret)) == {"Mustermann.png": "unreadable"}


def test_a_huge_file_is_not_read(tmp_path: Path, secret: bytes) -> None:
    with (tmp_path / "huge.dcm").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(QuarantinedError, match=r"set aside \(too_large\): a file of more than 128 MiB"):
        read_radiograph(tmp_path / "huge.dcm", secret)


def test_a_refusal_never_names_the_file(tmp_path: Path, secret: bytes) -> None:
    with pytest.raises(QuarantinedError, match="no regular file that this user may read") as caught:
        read_radiograph(tmp_path / "Mustermann.dcm", secret)
    assert caught.value.__context__ is None
    (tmp_path / "Mustermann.dcm").write_bytes(b"x")
    with pytest.raises(QuarantinedError, match="neither DICOM"):
        read_radiograph(tmp_path / "Mustermann.dcm", secret)


def test_the_repr_of_a_data_set_shows_no_file_and_no_key(tmp_path: Path, secret: bytes) -> None:
    data = read(folder_of(tmp_path, {"a.png": png_bytes(image(9))}, "file,label\na.png,normal\nb.png,normal\n"), secret)
    shown = f"{data}{data.items[0]}{data.quarantined[0]}"
    assert ".png" not in shown
    assert "b'" not in shown


def test_a_labels_file_that_goes_while_the_folder_is_read_is_named(
    tmp_path: Path, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldp_client.imaging.dataset.read_label_table", lambda path: {})
    with pytest.raises(ConfigurationError, match=r"it is gone \(No such file or directory\); put it back"):
        read(tmp_path, secret)


def test_a_missing_folder_is_named(tmp_path: Path, secret: bytes) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="there is no such folder; name one that exists"):
        read_dataset(tmp_path / "x", tmp_path / "labels.csv", unit="image", secret=secret, label_names=NAMES)


def test_one_file_alone_is_read_like_one_of_many(tmp_path: Path, secret: bytes, make_dicom: MakeDicom) -> None:
    (tmp_path / "a.dcm").write_bytes(make_dicom())
    by_patient = read_xray(tmp_path / "a.dcm", label="normal", unit="patient", secret=secret)
    by_image = read_xray(tmp_path / "a.dcm", label="normal", unit="image", secret=secret)
    assert by_patient.patient == patient_key(secret, "", "P-1")
    assert by_image.patient == image_unit_key(secret, by_image.identity)
    assert by_image.label == "normal"


def test_a_written_data_set_comes_back(tmp_path: Path, secret: bytes) -> None:
    images = np.stack([image(shade) for shade in range(6)])
    labels = write_dataset(tmp_path / "site", images, [0, 1, 1, 0, 1, 0], NAMES, patients=list("aabbcc"))
    data = read_dataset(tmp_path / "site", labels, unit="patient", secret=secret, label_names=NAMES)
    found = {int(data.read(item).pixels[0, 0]): (item.label, item.patient) for item in data.items}
    keys = [patient_key(secret, "", name) for name in "aabbcc"]
    assert found == dict(enumerate(zip([0, 1, 1, 0, 1, 0], keys, strict=True)))
    assert not data.quarantined


def test_written_names_follow_neither_label_nor_order(tmp_path: Path) -> None:
    images = np.stack([image(shade) for shade in range(40)])
    labels = write_dataset(tmp_path, images, [0] * 20 + [1] * 20, NAMES)
    rows = labels.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "file,label"
    assert rows[1:] == sorted(rows[1:])
    written = [row.split(",")[1] for row in rows[1:]]
    assert written != sorted(written)  # chance of a false alarm: 2 in 40 choose 20, about 1e-11


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"images \(1, 30, 30\) with 2 labels; give \(N, H, W\), N labels"):
        write_dataset(tmp_path, image(1)[None], [0, 1], NAMES)
    with pytest.raises(ParameterError, match="a label outside 0 to 1; give an index of its name"):
        write_dataset(tmp_path, image(1)[None], [2], NAMES)
    write_dataset(tmp_path, image(1)[None], [1], NAMES)
    with pytest.raises(ConfigurationError, match=r"it holds labels\.csv already; name a new folder"):
        write_dataset(tmp_path, image(1)[None], [1], NAMES)
