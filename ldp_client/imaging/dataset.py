"""A hospital's folder of X-rays with its labels file: what can be released, what is set aside and why.

The folder is read once to check every file and know its identity; pixels are not kept, so memory does not grow with
the number of X-rays. `DataSet.read` reads one again when its turn comes.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError, ParameterError, QuarantinedError
from ldp_client.imaging.files import Unit, read_radiograph
from ldp_client.imaging.label_table import Row, read_label_table
from ldp_client.imaging.png import png_bytes
from ldp_client.imaging.quarantine import Reason, set_aside
from ldp_client.imaging.xray import PatientKey, XRay, XRayKey, image_unit_key, normal_id, patient_key, xray_key


@dataclass(frozen=True)
class Item:
    """One X-ray that can be released, without its pixels.

    Attributes:
        path: the file.
        label: index into the data set's label names.
        patient: key of the privacy unit.
        identity: key of the pixels.
    """

    path: Path = field(repr=False)
    label: int = field(repr=False)
    patient: PatientKey = field(repr=False)
    identity: XRayKey = field(repr=False)


@dataclass(frozen=True)
class Quarantined:
    """One file that is set aside. The name is for the site's own screen: it may be a patient's."""

    file: str = field(repr=False)
    reason: Reason


@dataclass(frozen=True)
class DataSet:
    """The X-rays of one folder.

    Attributes:
        items: what can be released, in the order of the file names; a release shuffles them.
        quarantined: what cannot, in the order of the file names.
        unit: the privacy unit.
        label_names: the labels; `Item.label` is an index into them.
    """

    items: tuple[Item, ...] = field(repr=False)
    quarantined: tuple[Quarantined, ...] = field(repr=False)
    unit: Unit
    label_names: tuple[str, ...]
    secret: bytes = field(repr=False)

    def read(self, item: Item) -> XRay:
        """Read one X-ray's pixels.

        Raises:
            QuarantinedError: the file can no longer be read, or holds other pixels than when the folder was read.
        """
        radiograph = read_radiograph(item.path, self.secret)
        if xray_key(self.secret, radiograph.pixels) != item.identity:
            # What is charged is the X-ray that was planned and approved, not whatever stands there now.
            raise set_aside(Reason.UNREADABLE, "the file has changed since the folder was read")
        return XRay(
            pixels=radiograph.pixels,
            inverted=radiograph.inverted,
            window=radiograph.window,
            bits=radiograph.bits,
            patient=item.patient,
            identity=item.identity,
            label=self.label_names[item.label],
        )

    def counts(self) -> dict[Reason, int]:
        """How many files are set aside for each reason, without their names."""
        return dict(sorted(Counter(entry.reason for entry in self.quarantined).items()))


def read_dataset(folder: Path, labels: Path, *, unit: Unit, secret: bytes, label_names: tuple[str, ...]) -> DataSet:
    """Check every file of a folder.

    Args:
        folder: the X-rays, in subfolders too; names that start with a dot and links are passed over.
        labels: the labels file (`label_table`), inside the folder or elsewhere.
        unit: "patient" takes the id from the labels file's patient column if it has one, else from the DICOM file;
            "image" makes each X-ray a unit of its own.
        secret: the site's patient secret, at least 32 bytes.
        label_names: the campaign's labels.

    Returns:
        The data set. Of files with equal pixels the one with the smallest name stays, whatever patients they name.

    Raises:
        ConfigurationError: the folder or the labels file cannot be used.
        ParameterError: a short secret.
    """
    table = read_label_table(labels)
    found = dict(_files(folder, labels))
    items: list[Item] = []
    quarantined: list[Quarantined] = []
    seen: set[XRayKey] = set()
    # In the order of the names, not of the folder: what is kept of two equal X-rays must not depend on the disk.
    for name in sorted(found.keys() | table.keys()):
        try:
            path, row = _both(found.get(name), table.get(name))
            item = _item(path, row, unit, secret, label_names)
            if item.identity in seen:
                raise set_aside(Reason.DUPLICATE, "pixels equal to another file's")
        except QuarantinedError as error:
            quarantined.append(Quarantined(name, Reason(error.reason)))
        else:
            seen.add(item.identity)
            items.append(item)
    return DataSet(tuple(items), tuple(quarantined), unit, label_names, secret)


def write_dataset(
    folder: Path,
    images: NDArray[np.uint8 | np.uint16],
    labels: Sequence[int] | NDArray[np.integer],
    label_names: tuple[str, ...],
    patients: Sequence[str] | None = None,
) -> Path:
    """Write X-rays as a hospital's folder: PNG files with random names and `labels.csv`, in the order of the names.

    Args:
        folder: made if missing; must not hold a labels file yet.
        images: (N, H, W) uint8 or uint16.
        labels: N indices into `label_names`.
        label_names: names of the labels.
        patients: N patient ids, or None for a file without that column.

    Returns:
        The path of the labels file.

    Raises:
        ParameterError: lengths or labels that do not fit.
        ConfigurationError: the folder holds a labels file already.
    """
    if images.ndim != 3 or len(labels) != len(images) or (patients is not None and len(patients) != len(images)):
        raise ParameterError(
            f"asked to write images {images.shape} with {len(labels)} labels; give (N, H, W), N labels, N patients"
        )
    if any(not 0 <= int(label) < len(label_names) for label in labels):
        raise ParameterError(f"asked to write a label outside 0 to {len(label_names) - 1}; give an index of its name")
    target = folder / "labels.csv"
    if target.exists():
        raise ConfigurationError(
            f"asked to write a data set to {folder}; it holds labels.csv already; name a new folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Random names: a name by number would tell the label wherever the images came sorted.
    names = [f"{secrets.token_hex(8)}.png" for _ in range(len(images))]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label"] if patients is None else ["file", "label", "patient"])
    for name, index in sorted(zip(names, range(len(images)), strict=True)):
        (folder / name).write_bytes(png_bytes(images[index]))
        row = [name, label_names[int(labels[index])]]
        writer.writerow(row if patients is None else [*row, patients[index]])
    target.write_text(text.getvalue(), encoding="utf-8")
    return target


def _files(folder: Path, labels: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise ConfigurationError(f"asked for the X-rays in {folder}; there is no such folder; name one that exists")
    try:
        own = labels.stat()
    except OSError as error:
        raise ConfigurationError(
            f"asked for the labels file {labels}; it is gone ({error.strerror}); put it back and try again"
        ) from error
    for parent, subfolders, names in os.walk(folder, followlinks=False):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(parent) / name
            if not name.startswith(".") and not _is_link_or(own, path):
                yield path.relative_to(folder).as_posix(), path


def _is_link_or(own: os.stat_result, path: Path) -> bool:
    """Whether a name in the folder is a link, or the labels file itself. Looks at the entry and follows nothing."""
    try:
        found = path.lstat()
    except OSError:
        # Gone since the folder was listed; reading it says so, without the name that this error has in its text.
        return False
    return stat.S_ISLNK(found.st_mode) or os.path.samestat(found, own)


def _both(path: Path | None, row: Row | None) -> tuple[Path, Row]:
    if row is None:
        raise set_aside(Reason.MISSING_LABEL, "no row in the labels file")
    if path is None:
        raise set_aside(Reason.UNREADABLE, "a row in the labels file, and no such file")
    return path, row


def _item(path: Path, row: Row, unit: Unit, secret: bytes, label_names: tuple[str, ...]) -> Item:
    if not row.label:
        raise set_aside(Reason.MISSING_LABEL, "an empty label")
    if row.label not in label_names:
        raise set_aside(Reason.UNKNOWN_LABEL, "a label that is not the campaign's")
    radiograph = read_radiograph(path, secret)
    identity = xray_key(secret, radiograph.pixels)
    return Item(
        path, label_names.index(row.label), _unit_key(unit, secret, row, radiograph.patient, identity), identity
    )


def _unit_key(unit: Unit, secret: bytes, row: Row, named: PatientKey | None, identity: XRayKey) -> PatientKey:
    if unit == "image":
        return image_unit_key(secret, identity)
    if row.patient is None and named is not None:
        return named
    # One source of ids for the whole file: a row with an empty cell does not fall back to another spelling.
    if row.patient is None or not normal_id(row.patient):
        raise set_aside(Reason.MISSING_PATIENT, "no patient id")
    return patient_key(secret, "", row.patient)
