"""What leaves a site depends on its X-rays through the mechanism's output, and through nothing else.

Two arguments, each with twins that must fail:

1. Everything but the mechanism's output. The mechanism is given the zero vector whatever was clipped; the two hiding
   commitments (of a unit, of a plan) are a function of their salts alone; clock, os.urandom and sealing are scripted.
   Then two hospitals whose X-rays have nothing in common but their number say the same bytes at every step: outbox,
   ledger, logs, exit codes.
2. The order. It is invisible while every record is noise around zero, so here the real mechanism and the real
   commitments run. The shuffle draws one key for each X-ray. For every script of keys there is an equally likely one,
   the same keys dealt to the same X-rays in another folder order, under which the site says the same bytes. So what
   it says has the same distribution whatever the order of the files was. Without the shuffle, or with a shuffle of
   each chunk alone, the same scripts lead to other bytes, and the labels come out as they lay in the folder.

An evaluation goes further than the first: there not even the number of X-rays is said. A hospital without any says the
same bytes, once the histogram is drawn around nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ldp_client.cli.main as cli
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.imaging.png import png_bytes
from ldp_client.privacy.clipping import Clipped
from ldp_client.privacy.codebook import Codebook, NoisedIndices
from ldp_client.privacy.histogram import CappedCounts, Histogram, NoisedHistogram, count
from ldp_client.privacy.image_spec import image
from ldp_client.privacy.laplace import DiscreteLaplace, Noised
from ldp_client.privacy.noise import ByteSource, SystemSource, shuffled
from ldp_client.privacy.release_design import joint_codebook
from ldp_client.privacy.spec import CodebookSpec, DiscreteLaplaceSpec, HistogramSpec
from ldp_client.release import release
from ldp_client.site import data_set
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.evaluation import Evaluation
from ldp_client.wire.record import unpack
from tests.client.evaluations import RULE, make_evaluation
from tests.client.world import (
    LABELS,
    OFFICER,
    TODAY,
    MakeWorld,
    MeanEncoder,
    Stream,
    World,
    configure,
    dicom_bytes,
    make_campaign,
    make_site,
    pictures,
    write_xrays,
)

FIRST = make_campaign(unit="patient", cap=1)
SECOND = make_campaign(name="second", unit="patient", cap=1)
REFUSED = make_campaign(name="refused", unit="image")
CODEWORDS = joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, codewords=64)
CODEBOOK = make_campaign(
    unit="patient", cap=1, release=CODEWORDS, micro_epsilon_per_record=CODEWORDS.loss.micro_epsilon
)
XRAYS, CHUNK = 24, 5


# --- 1. everything but the mechanism's output


def one_hospital(folder: Path) -> None:
    """PNG, patients in the labels file; half of the patients have two X-rays; sorted by label; nothing set aside."""
    images, _ = pictures(XRAYS, seed=11)
    patients = [f"P{index % 16}" for index in range(XRAYS)]
    names = [f"{LABELS[index // 12]}/{index:03}.png" for index in range(XRAYS)]
    write_xrays(folder, images, [index // 12 for index in range(XRAYS)], names, patients)


def another_hospital(folder: Path) -> None:
    """DICOM full of text, patients in its tags; one patient has nine X-rays; nearly all ill; much set aside."""
    images, _ = pictures(XRAYS, seed=12)
    rows = ["file,label"]
    folder.mkdir()
    for index in range(XRAYS):
        name = f"zz-{(7 * index) % XRAYS}-Erika-Mustermann.dcm"
        patient = "77" if index < 9 else f"A-{index}"
        text = {"PatientName": f"Mustermann^{index}", "StudyDescription": "suspected tuberculosis"}
        (folder / name).write_bytes(dicom_bytes(255 - images[index], patient, **text))
        rows.append(f"{name},{LABELS[index > 1]}")
    (folder / "notes.txt").write_text("call the ward about bed 7")
    (folder / "twin.dcm").write_bytes(dicom_bytes(255 - images[0], "77"))
    (folder / "unlabelled.png").write_bytes(png_bytes(images[3]))
    rows += ["notes.txt,normal", "twin.dcm,normal", "missing.png,pneumonia"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def small_hospital(folder: Path) -> None:
    """Seven X-rays of seven patients, all ill."""
    images, _ = pictures(7, seed=13)
    write_xrays(folder, images, [1] * 7, [f"{index}.png" for index in range(7)], [f"S{index}" for index in range(7)])


def deserted_hospital(folder: Path) -> None:
    """Not one X-ray that could be counted."""
    images, _ = pictures(1, seed=14)
    write_xrays(folder, images, [0], ["one.png"], ["nobody"])
    (folder / "one.png").write_bytes(b"damaged")


class ConstantMechanism:
    """The real noise around zero, whatever was clipped."""

    def __init__(self, spec: DiscreteLaplaceSpec) -> None:
        self._real = DiscreteLaplace(spec)

    def __call__(self, value: Clipped, source: ByteSource) -> Noised:
        return self._real(Clipped(np.zeros_like(value.steps), value.clip), source)


class EmptyHistogram:
    """The real noise, around no X-ray at all."""

    def __init__(self, spec: HistogramSpec) -> None:
        self._real = Histogram(spec)

    def __call__(self, value: CappedCounts, source: ByteSource) -> NoisedHistogram:
        nothing = np.empty(0, dtype=np.int64)
        return self._real(count(self._real.spec, [], nothing, nothing), source)


class ConstantCodebook:
    """The real draw of an index, around one direction whatever was clipped."""

    def __init__(self, spec: CodebookSpec) -> None:
        self._real = Codebook(spec)

    def __call__(self, value: Clipped, seeds: Sequence[bytes], source: ByteSource) -> NoisedIndices:
        still = np.zeros_like(value.steps)
        still[:, 0] = self._real.spec.clip.radius_steps
        return self._real(Clipped(still, value.clip), seeds, source)


def of_the_salt(salt: bytes) -> str:
    """Stands for a hiding commitment."""
    return hashlib.sha256(salt).hexdigest()


@dataclass
class Seen:
    """All that somebody outside the agent can see, step by step."""

    steps: list[object] = field(default_factory=list)

    def command(self, *arguments: str) -> None:
        """Run a command of the officer and note how it ends; what it prints is for the officer."""
        sys.argv = ["ldp-client", *arguments, "--state", "site"]
        with pytest.raises(SystemExit) as ended:
            cli.main()
        # Whether files are set aside (8) is for the officer too, like the plan that says so.
        code = 0 if ended.value.code == 8 else ended.value.code
        self.steps.append((arguments[:2], code))

    def look(self, world: World) -> None:
        """Everything in the outbox, and the chain."""
        outbox = sorted(path for path in world.site.outbox.folder.rglob("*") if path.is_file())
        self.steps.append([(path.parent.name, path.name, path.read_bytes()) for path in outbox])
        self.steps.append([(row.kind, row.body, row.head) for row in world.site.ledger.rows()])


class Rounds(threading.Event):
    """Ends the agent's loop after some rounds; each wait is an exchange with the centre."""

    def __init__(self, world: World, seen: Seen, count: int) -> None:
        super().__init__()
        self._world, self._seen, self._left = world, seen, count

    def wait(self, timeout: float | None = None) -> bool:
        self._seen.look(self._world)
        self._world.round()
        self._left -= 1
        if self._left == 0:
            self.set()
        return self.is_set()


@dataclass
class Stage:
    """Runs one hospital after another at the same place, with the same clock, keys and randomness."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    caplog: pytest.LogCaptureFixture
    first: Campaign = FIRST
    encoder: object = field(default_factory=MeanEncoder)
    policy: dict[str, object] = field(default_factory=dict)
    evaluation: Evaluation | None = None

    def run(self, hospital: Callable[[Path], None]) -> list[object]:
        """The whole exchange of one hospital, from its first key to its last receipt."""
        self.caplog.clear()
        place = self.folder / hospital.__name__
        place.mkdir()
        hospital(place / "xrays")
        self.monkeypatch.chdir(place)
        self.monkeypatch.setattr(os, "urandom", Stream("os.urandom"))
        (place / "officer.key").write_bytes(OFFICER.secret)
        (place / "officer.key").chmod(0o600)
        world = World(Path("site"), make_site(Path("site")), [self.first, SECOND, REFUSED])
        (place / "xrays").rename(place / "site" / "xrays")
        if self.evaluation is None:
            world.set_policy(**self.policy)
        else:
            world.evaluations.append(self.evaluation)
            world.set_policy(units=("patient",), evaluations=RULE)
        configure(world, chunk=CHUNK, records_per_batch=7)
        seen = Seen()
        try:
            self._exchange(world, seen)
        finally:
            world.site.close()
        return [*seen.steps, self.lines]

    @property
    def lines(self) -> list[str]:
        """What was logged."""
        return [f"{record.levelname} {record.name} {record.getMessage()}" for record in self.caplog.records]

    def _exchange(self, world: World, seen: Seen) -> None:
        seen.command("campaign", "list")
        world.offer()
        self._agent(world, seen, 2)
        for name in ("pneumonia", "second") if self.evaluation is None else (self.evaluation.name,):
            seen.command("campaign", "show", name)
            seen.command("campaign", "plan", name)
            seen.command("campaign", "approve", name, "--officer-key", "officer.key")
        seen.command("campaign", "refuse", "refused")
        seen.command("campaign", "approve", "unknown", "--officer-key", "officer.key")
        self._agent(world, seen, 1)
        world.reopen()  # the nonce is gone; a new one is asked for
        self._agent(world, seen, 6)
        seen.command("budget", "show")
        seen.command("ledger", "verify")

    def _agent(self, world: World, seen: Seen, rounds: int) -> None:
        sealer: Callable[[bytes, bytes], bytes] = lambda inner, key: b"sealed" + inner  # noqa: E731
        agent = world.agent(source=SystemSource(), sealer=sealer, encoder=self.encoder)
        agent.run(Rounds(world, seen, rounds))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Stage:
    # The level of `agent run`, for every library.
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr("ldp_client.privacy.drawing.DiscreteLaplace", ConstantMechanism)
    monkeypatch.setattr("ldp_client.ledger.store.subject_commitment", lambda unit, salt: of_the_salt(salt))
    monkeypatch.setattr("ldp_client.plan.plan_commitment", lambda plan, salt: of_the_salt(salt))
    return Stage(tmp_path, monkeypatch, caplog)


def test_two_hospitals_without_a_common_xray_say_the_same(stage: Stage) -> None:
    one, another = stage.run(one_hospital), stage.run(another_hospital)
    assert len(one) == len(another)
    for number, (here, there) in enumerate(zip(one, another, strict=True)):
        assert here == there, f"step {number} tells the hospitals apart"
    kinds = [kind for kind, _, _ in one[-4]]  # type: ignore[attr-defined]
    assert kinds.count("seal") == 2 * 16
    assert any("site is needs_witness" in line for line in stage.lines)


def test_twin_with_the_real_mechanism_tells_them_apart(stage: Stage) -> None:
    stage.monkeypatch.setattr("ldp_client.privacy.drawing.DiscreteLaplace", DiscreteLaplace)
    assert stage.run(one_hospital) != stage.run(another_hospital)


def test_with_a_codebook_two_hospitals_say_the_same_too(stage: Stage) -> None:
    stage.first = CODEBOOK
    stage.monkeypatch.setattr("ldp_client.privacy.drawing.Codebook", ConstantCodebook)
    one, another = stage.run(one_hospital), stage.run(another_hospital)
    assert one == another
    assert [kind for kind, _, _ in one[-4]].count("seal") == 2 * 16  # type: ignore[attr-defined]


def test_twin_with_the_real_codebook_tells_them_apart(stage: Stage) -> None:
    stage.first = CODEBOOK
    assert stage.run(one_hospital) != stage.run(another_hospital)


def for_pictures(stage: Stage) -> None:
    """Ask for pictures, by a real flow, in the first campaign."""
    encoder = Encoder.load(shipped())
    release = image(CODEWORDS, side=encoder.content, candidates=16)
    loss = release.loss.micro_epsilon
    stage.first = make_campaign(
        unit="patient", cap=1, release=release, micro_epsilon_per_record=loss, encoder=encoder.digest
    )
    stage.encoder = encoder
    stage.policy = {"mechanisms": ("joint_codebook", "image"), "encoders": (encoder.digest,)}


def test_with_pictures_two_hospitals_say_the_same_too(stage: Stage) -> None:
    for_pictures(stage)
    stage.monkeypatch.setattr("ldp_client.privacy.drawing.Codebook", ConstantCodebook)
    one, another = stage.run(one_hospital), stage.run(another_hospital)
    assert one == another
    assert [kind for kind, _, _ in one[-4]].count("seal") == 16  # type: ignore[attr-defined]


def test_twin_with_the_real_codebook_behind_pictures_tells_them_apart(stage: Stage) -> None:
    for_pictures(stage)
    assert stage.run(one_hospital) != stage.run(another_hospital)


def test_twin_that_finds_full_caps_only_when_it_charges_tells_them_apart(stage: Stage) -> None:
    """Chunks with gaps count the X-rays of patients; so whose cap is full is left out before chunks are cut."""
    stage.monkeypatch.setattr("ldp_client.ledger.store.SiteLedger.room", lambda *_: 1000)
    assert stage.run(one_hospital) != stage.run(another_hospital)


@pytest.fixture
def asked(stage: Stage) -> Stage:
    """The same with an evaluation in the place of the campaigns."""
    stage.evaluation = make_evaluation()
    stage.monkeypatch.setattr("ldp_client.evaluation.Histogram", EmptyHistogram)
    stage.monkeypatch.setattr("ldp_client.ledger.queries.subjects_commitment", lambda units, salt: of_the_salt(salt))
    return stage


def test_an_evaluation_says_nothing_but_its_histogram_not_even_how_large_the_set_is(asked: Stage) -> None:
    said = [asked.run(one) for one in (one_hospital, another_hospital, small_hospital, deserted_hospital)]
    for other in said[1:]:
        assert other == said[0]
    kinds = [kind for kind, _, _ in said[0][-4]]  # type: ignore[attr-defined]
    assert kinds == ["genesis", "policy", "approval", "query", "seal"]
    assert any("evaluation held-out is answered" in line for line in asked.lines)


def test_twin_with_the_real_histogram_tells_them_apart(asked: Stage) -> None:
    asked.monkeypatch.setattr("ldp_client.evaluation.Histogram", Histogram)
    assert asked.run(one_hospital) != asked.run(deserted_hospital)


def test_twin_with_a_bare_digest_of_the_set_tells_them_apart(asked: Stage) -> None:
    """Whoever knew the patients' keys could try sets out; so the query commits to its set with a salt."""
    asked.monkeypatch.setattr(
        "ldp_client.ledger.queries.subjects_commitment", lambda units, salt: of_the_salt(b"".join(units))
    )
    assert asked.run(one_hospital) != asked.run(deserted_hospital)


def test_twin_with_a_bare_plan_digest_tells_them_apart(stage: Stage) -> None:
    """A digest of a plan's counts can be tried out; so the approval cites a salted commitment."""
    stage.monkeypatch.setattr("ldp_client.plan.plan_commitment", lambda plan, salt: of_the_salt(canonical_bytes(plan)))
    assert stage.run(one_hospital) != stage.run(another_hospital)


# --- 2. the order


class Scripted:
    """Gives `keys` to the first draw, which is the shuffle's, and the same stream to all others."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._keys: bytes | None = keys.tobytes()
        self._rest = Stream("rest")

    def __call__(self, count: int) -> bytes:
        if self._keys is None:
            return self._rest(count)
        keys, self._keys = self._keys, None
        if len(keys) != count:
            raise ValueError("the first draw is not the shuffle's")
        return keys


def unshuffled(count: int, source: ByteSource) -> NDArray[np.int64]:
    """The twin: draws keys and does not use them."""
    shuffled(count, source)
    return np.arange(count)


def shuffled_by_chunk(count: int, source: ByteSource) -> NDArray[np.int64]:
    """The subtler twin: every chunk is shuffled, the work list is not."""
    keys = np.frombuffer(source(8 * count), dtype="<u8")
    chunks = np.split(np.arange(count), range(CHUNK, count, CHUNK))
    return np.concatenate([chunk[np.argsort(keys[chunk])] for chunk in chunks])


# Sorted by label and patient, as an archive is; and every way in which it could have been dealt into the folder.
ORDERS = {
    "reversed": np.arange(XRAYS)[::-1],
    "interleaved": np.arange(XRAYS).reshape(2, -1).T.ravel(),
    "rotated": np.roll(np.arange(XRAYS), 7),
    "two neighbours swapped": np.array([*range(10), 11, 10, *range(12, XRAYS)]),
    "dealt at random": np.random.default_rng(5).permutation(XRAYS),
}


@dataclass
class Archive:
    """One hospital's X-rays, released in a folder order and with keys of our choice."""

    new_world: MakeWorld
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    runs: int = 0

    def released(
        self, order: Sequence[int] | NDArray[np.int64], source: ByteSource, encoder: object = None
    ) -> tuple[list[bytes], list[NDArray[np.int64]]]:
        """The entries and the records after the release of X-rays that lie in the folder in this order."""
        images, _ = pictures(XRAYS, seed=13)
        self.runs += 1
        place = self.folder / str(self.runs)
        self.monkeypatch.setattr(os, "urandom", Stream("os.urandom"))
        world = self.new_world(FIRST, folder=place, count=1)
        names = [f"{position:03}.png" for position in range(XRAYS)]
        labels, patients = [index // 12 for index in order], [f"P{index}" for index in order]
        write_xrays(place / "archive", images[order], labels, names, patients)
        file = place / "agent.toml"
        file.write_text(file.read_text().replace("xrays", "archive"))
        world.reopen()
        world.approve()
        release(
            FIRST,
            data_set(world.site, FIRST),
            ledger=world.site.ledger,
            encoder=encoder or MeanEncoder(),  # type: ignore[arg-type]
            source=source,
            today=lambda: TODAY,
            chunk=CHUNK,
        )
        records = [unpack(payload, FIRST.release) for _, payload in world.site.ledger.payloads(1, 999)]
        return [row.body for row in world.site.ledger.rows()], records


@pytest.fixture
def archive(new_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    return Archive(new_world, tmp_path, monkeypatch)


def keys_and_their_deal(order: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys for the archive's own order, and the same key for the same X-ray in another order."""
    keys = np.frombuffer(Stream("keys")(8 * XRAYS), dtype="<u8")
    return keys, keys[order]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_folder_order_has_no_influence(archive: Archive, order: NDArray[np.int64]) -> None:
    keys, dealt = keys_and_their_deal(order)
    sorted_entries, sorted_records = archive.released(range(XRAYS), Scripted(keys))
    entries, records = archive.released(order, Scripted(dealt))
    assert entries == sorted_entries
    assert np.array_equal(records, sorted_records)


SHOWS = [(unshuffled, name) for name in ORDERS] + [
    # A swap inside one chunk is what a shuffle of chunks does hide.
    (shuffled_by_chunk, name)
    for name in ORDERS
    if name != "two neighbours swapped"
]


@pytest.mark.parametrize(("twin", "name"), SHOWS)
def test_twin_without_the_whole_shuffle_shows_the_folder_order(archive: Archive, twin: object, name: str) -> None:
    order = ORDERS[name]
    archive.monkeypatch.setattr("ldp_client.release.shuffled", twin)
    keys, dealt = keys_and_their_deal(order)
    entries, _ = archive.released(range(XRAYS), Scripted(keys))
    assert archive.released(order, Scripted(dealt))[0] != entries


class EchoingMechanism:
    """No noise at all: what the order of records says when each of them is read perfectly."""

    def __init__(self, spec: DiscreteLaplaceSpec) -> None:
        self._real = DiscreteLaplace(spec)

    def __call__(self, value: Clipped, source: ByteSource) -> Noised:
        noised = self._real(value, source)
        object.__setattr__(noised, "steps", value.steps)
        return noised


class OneEncoder(MeanEncoder):
    """The same for every X-ray, so that the sign of a record is its label."""

    def encode(self, images: Any) -> NDArray[np.float64]:
        return np.full((len(images), 2), 0.25)


def labels_in_order(archive: Archive) -> str:
    """Labels as somebody reads them off the records, in the order of the seals."""
    archive.monkeypatch.setattr("ldp_client.privacy.drawing.DiscreteLaplace", EchoingMechanism)
    _, records = archive.released(range(XRAYS), Stream("shuffle"), OneEncoder())
    return "".join("-+"[int(record[0] > 0)] for record in records)


def test_labels_do_not_come_out_as_they_lay_in_the_folder(archive: Archive) -> None:
    read = labels_in_order(archive)
    assert sorted(read) == ["+"] * 12 + ["-"] * 12
    # 12 of 24 come in the first half by lot; P(more than 10 of one label) < 1e-4, and the stream is fixed.
    assert 2 <= read[:12].count("-") <= 10


@pytest.mark.parametrize("twin", [unshuffled, shuffled_by_chunk])
def test_twin_without_the_whole_shuffle_reads_the_labels_off(archive: Archive, twin: object) -> None:
    archive.monkeypatch.setattr("ldp_client.release.shuffled", twin)
    assert labels_in_order(archive)[:10] == "-" * 10
