"""What is asked of which X-rays: public, validation, hospital and test parts of a data file, and the findings in it.

PneumoniaMNIST: public are the train images that the encoder was trained on (first by SHA-256 of their pixels), hospital
the other train images, validation and test the official ones. A file with the fields of cxr64: its column `split`;
validation is a fifth of the public groups, chosen by a hash of the group. A file without a public split (adult64) takes
the public part of another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError
from server.datasets import Cxr64, load_cxr64, load_pneumoniamnist
from server.learning.public_subset import public_indices

PUBLIC_IMAGES = 2000
"""Of PneumoniaMNIST's train images: those of the shipped encoder."""
_VALIDATION_SHARE = 5
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Archive:
    """One data file as arrays in one order: every X-ray once.

    Attributes:
        name: the data set's name, as rows have it.
        family: which photographs the hospital and test parts are; None where the file does not say.
        division: the file with the public part, and the option of `ldp-server encoder train` that chooses it.
        digest: SHA-256 of the file (of both, where the public part comes from another).
        images: (N, H, W) uint8.
        groups: (N,) the unit of privacy, a patient's group or the image itself.
        patients: (N,) whose X-ray it is, as far as the file says; None where it does not.
        part: (N,) public, validation, hospital or test.
        pool: (N,) the public X-rays that encoder and bottleneck may be fitted on, without labels.
    """

    name: str
    family: str | None
    division: tuple[str, str]
    digest: str
    unit: str
    images: NDArray[np.uint8]
    groups: NDArray[np.str_]
    part: NDArray[np.str_]
    pool: Bools
    tasks: tuple[Task, ...]
    patients: NDArray[np.str_] | None = None

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            ConfigurationError: this file has no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.tasks)
        raise ConfigurationError(f"asked for the task {name!r}; {self.name} has {known}")

    def labels_in(self, part: str, task: Task) -> int:
        """How many of a task's labels have X-rays in a part."""
        return len(np.unique(task.labels[(self.part == part) & (task.labels >= 0)]))

    def has_public_labels(self, task: Task) -> bool:
        """Whether public and validation X-rays show every label of a task, so that tracks V and L have a meaning."""
        return all(self.labels_in(part, task) == task.classes for part in ("public", "validation"))


@dataclass(frozen=True, eq=False)
class Task:
    """A finding: which X-rays it concerns and what is true of them.

    Attributes:
        labels: (N,) int64, -1 for X-rays that the task does not concern. Public X-rays of the task count for all tracks
            as images; their labels are read by the tracks that say so.
        subgroups: named parts of the test set, (N,) each; every one has both labels.
    """

    name: str
    label_names: tuple[str, ...]
    labels: NDArray[np.int64]
    subgroups: dict[str, Bools] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """K, the number of labels."""
        return len(self.label_names)


def read_archive(path: Path, public: Path | None = None) -> Archive:
    """Read PneumoniaMNIST's npz, or one with the fields of cxr64.

    Raises:
        ConfigurationError: no such file; a public file beside one that has a public part, or none beside one that has
            not; a part without X-rays, or without one of the labels; a patient's group in two parts, or an X-ray in
            both files.
        VerificationError: neither of the two data sets.
    """
    if _has_field(path, "train_images"):
        if public is not None:
            raise ConfigurationError(f"{path.name} has public images of its own; leave --public out")
        archive = _pneumoniamnist(path)
    else:
        archive = _with_patients(path, public)
    for task in archive.tasks:
        for part in ("hospital", "test"):
            found = archive.labels_in(part, task)
            if found != task.classes:
                raise ConfigurationError(
                    f"{archive.name}: the {part} part needs X-rays of all {task.classes} labels of {task.name}; "
                    f"found {found}"
                )
    return archive


def _pneumoniamnist(path: Path) -> Archive:
    data = load_pneumoniamnist(path)
    part = np.full(len(data.train_images), "hospital", dtype="U10")
    part[public_indices(data.train_images, PUBLIC_IMAGES)] = "public"
    parts = [part, np.full(len(data.val_images), "validation"), np.full(len(data.test_images), "test")]
    images = np.concatenate([data.train_images, data.val_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.val_labels, data.test_labels]).astype(np.int64)
    return Archive(
        name="pneumoniamnist",
        family="kermany",
        division=("pneumoniamnist.npz", f"--public {PUBLIC_IMAGES}"),
        digest=_digest(path),
        unit="image",
        images=images,
        groups=np.array([str(index) for index in range(len(images))]),
        part=np.concatenate(parts),
        pool=np.concatenate(parts) == "public",
        tasks=(Task("pneumonia", ("normal", "pneumonia"), labels),),
    )


def _with_patients(path: Path, public: Path | None) -> Archive:
    own = load_cxr64(path)
    _require_apart(path, own.split, own.group_id)
    has_public = bool((own.split == "public").any())
    if has_public == (public is not None):
        raise ConfigurationError(
            f"{path.name} has public images of its own; leave --public out"
            if has_public
            else f"{path.name} has no public images; name a file that has some with --public"
        )
    files = [own]
    if public is not None:
        files.append(_public_part(public))
        _require_strangers(path, own, public, files[1])
    part = np.concatenate([data.split for data in files])
    groups = np.concatenate([data.group_id for data in files])
    part = np.where((part == "public") & _chosen_for_validation(groups), "validation", part)
    labels = np.concatenate([data.labels for data in files]).astype(np.int64)
    names = tuple(name.replace("_", " ") for name in own.label_names)
    tasks = [Task("pneumonia", names, labels, _subgroups(files, labels, part))]
    if own.subtype is not None:
        tasks += _subtypes(np.concatenate([_subtype_of(data) for data in files]))
    return Archive(
        name=path.stem,
        family=None if own.source is None or len(set(own.source.tolist())) > 1 else str(own.source[0]),
        division=((public or path).name, "--split public"),
        digest=_digest(*([path] if public is None else [path, public])),
        unit="patient",
        images=np.concatenate([data.images for data in files]),
        groups=groups,
        part=part,
        pool=np.isin(part, ["public", "validation"]),
        tasks=tuple(tasks),
        patients=np.concatenate([data.patient_id for data in files]),
    )


def _require_apart(path: Path, part: NDArray[np.str_], groups: NDArray[np.str_]) -> None:
    """Return if no patients' group is in two parts: a classifier would be scored on people whom it learnt from."""
    both = len(np.unique(np.stack([part, groups]), axis=1)[0]) - len(np.unique(groups))
    if both:
        raise ConfigurationError(
            f"{path.name}: {both} of {len(np.unique(groups))} values of group_id have X-rays in more than one part of "
            "public, hospital and test; give all X-rays of a patient to one part"
        )


def _require_strangers(path: Path, own: Cxr64, public: Path, theirs: Cxr64) -> None:
    """Return if the public X-rays of another file are none of this one's, and of other people as far as either says."""
    here = {hashlib.sha256(image.tobytes()).digest() for image in own.images}
    same = sum(hashlib.sha256(image.tobytes()).digest() in here for image in theirs.images)
    if same:
        raise ConfigurationError(
            f"{same} of {len(theirs.images)} public X-rays in {public.name} are in {path.name} too, where they are "
            "tested on or released; take them out of one of the two files"
        )
    if own.source is not None and theirs.source is not None and not np.isin(theirs.source, own.source).any():
        return  # names of two collections have nothing to do with each other
    both = np.intersect1d(own.group_id, theirs.group_id)
    if len(both):
        raise ConfigurationError(
            f"{len(both)} values of group_id in {path.name} are among the public X-rays of {public.name} too: take "
            "these patients out of one of the two files, or, if they are other people, say so by a field `source`, "
            "the collection's name for each X-ray, in both"
        )


def _subtype_of(data: Cxr64) -> NDArray[np.str_]:
    return np.full(len(data.labels), "") if data.subtype is None else data.subtype


def _public_part(path: Path) -> Cxr64:
    data = load_cxr64(path)
    rows = data.split == "public"
    if not rows.any():
        raise ConfigurationError(f"{path.name} has no public images; name a file that has some with --public")
    return Cxr64(
        data.images[rows],
        data.labels[rows],
        data.label_names,
        data.patient_id[rows],
        data.group_id[rows],
        data.split[rows],
        source=None if data.source is None else data.source[rows],
        subtype=None if data.subtype is None else data.subtype[rows],
    )


def _subtypes(subtype: NDArray[np.str_]) -> list[Task]:
    order = ("normal", "bacteria", "virus")
    three = np.select([subtype == name for name in order], [0, 1, 2], -1).astype(np.int64)
    two = np.where(three > 0, three - 1, -1)
    return [Task("subtype", ("bacteria", "virus"), two), Task("subtype of three", order, three)]


def _subgroups(files: list[Cxr64], labels: NDArray[np.int64], part: NDArray[np.str_]) -> dict[str, Bools]:
    """Parts of the test set that a single figure may hide: kinds of pneumonia beside all normals, sexes, views."""
    own, found = files[0], {}
    rest = sum(len(data.labels) for data in files[1:])
    test = part == "test"

    def wide(rows: Bools) -> Bools:
        padded: Bools = np.concatenate([rows, np.zeros(rest, dtype=bool)]) & test
        return padded

    if own.subtype is not None:
        for kind in ("bacteria", "virus"):
            found[kind] = wide(np.isin(own.subtype, [kind, "normal"]))
    for column in (own.sex, own.view):
        if column is not None:
            found.update({str(value): wide(column == value) for value in np.unique(column)})
    return {name: rows for name, rows in found.items() if len(np.unique(labels[rows])) == 2}


def _chosen_for_validation(groups: NDArray[np.str_]) -> Bools:
    first = [hashlib.sha256(b"validation/" + group.encode()).digest()[0] for group in groups.tolist()]
    return np.array([byte % _VALIDATION_SHARE == 0 for byte in first])


def _has_field(path: Path, name: str) -> bool:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return name in getattr(arrays, "files", ())
    except FileNotFoundError as error:
        raise ConfigurationError(f"asked to read {path}; there is no such file; name one with --data FILE") from error
    except (OSError, ValueError, BadZipFile, TypeError, AttributeError):
        return False


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
