"""Pretraining: repeatable, all or nothing, on public images only."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.bottleneck import ONE_LEVEL, SELF_SUPERVISED
from ldp_client.flow.encoder import CARD_FILE, WEIGHTS_FILE, Encoder, EncoderCard, shipped
from ldp_client.flow.glow import Shape
from ldp_client.imaging.phantoms import phantoms
from server.cli.encoder import app
from server.learning.bundle import refit_bottleneck, write_bundle
from server.learning.pictures import CURVE_FILE, SAMPLES_FILE
from server.learning.pretrain import pretrain, workshop
from server.learning.public_images import read_images
from server.learning.public_subset import public_indices
from server.learning.recipe import Origin, Progress, Recipe
from server.learning.self_supervised import train_teacher
from server.learning.teacher import TEACHER_FILE, TeacherRecipe, load_teacher

RECIPE = Recipe(
    Shape(size=8, levels=2, steps=1, width=8),
    content=6,
    training_steps=60,
    batch=16,
    warmup_steps=10,
    validate_every=20,
    threads=1,
)
ORIGIN = Origin("small", "blobs", "a generator", "ldp-server encoder train")


def blobs(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images (count, 6, 6) of one bright spot each: easy to compress."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(1, 5, (count, 2, 1, 1))
    rows, columns = np.mgrid[:6, :6]
    distance = (rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2
    images: NDArray[np.uint8] = (230 * np.exp(-distance / 6) + rng.integers(0, 8, (count, 6, 6))).astype(np.uint8)
    return images


def ignore(_: Progress) -> None:
    """Nobody watches."""


def never(*_: object, **__: object) -> None:
    """What comes too late for a refusal."""
    raise AssertionError


def train(folder: Path, recipe: Recipe = RECIPE) -> EncoderCard:
    return pretrain(blobs(64), blobs(16, seed=1), recipe, ORIGIN, folder, ignore)


def test_training_lowers_the_held_out_bits_and_keeps_the_best(tmp_path: Path) -> None:
    seen: list[Progress] = []
    card = pretrain(blobs(64), blobs(16, seed=1), RECIPE, ORIGIN, tmp_path / "e", seen.append)
    measured = [state.bits_per_dim for state in seen if state.bits_per_dim is not None]
    assert [state.step for state in seen] == list(range(1, 61))
    assert len(measured) == 3
    assert measured[-1] < measured[0]
    assert card.bits_per_dim == f"{min(measured):.4f}"


def test_the_bundle_loads_and_its_card_says_where_it_comes_from(tmp_path: Path) -> None:
    card = train(tmp_path / "e")
    encoder = Encoder.load(tmp_path / "e")
    assert encoder.card == card
    assert (card.name, card.data_family, card.source, card.command) == tuple(vars(ORIGIN).values())
    assert (card.training_images, card.held_out_images, card.content, card.size) == (64, 16, 6, 8)


def test_the_bottleneck_is_white_over_all_public_images(tmp_path: Path) -> None:
    train(tmp_path / "e")
    encoder = Encoder.load(tmp_path / "e")
    public = np.concatenate((blobs(64), blobs(16, seed=1)))
    coordinates = encoder.encode(torch.stack([encoder.prepare(image) for image in public]))
    np.testing.assert_allclose(coordinates.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(coordinates, rowvar=False, bias=True), np.eye(2), atol=1e-2)


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert first.digest == second.digest
    assert (tmp_path / "a" / WEIGHTS_FILE).read_bytes() == (tmp_path / "b" / WEIGHTS_FILE).read_bytes()
    assert train(tmp_path / "c", replace(RECIPE, seed=1)).digest != first.digest
    assert torch.equal(torch.get_rng_state(), state)


def test_training_leaves_torch_as_it_was(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    train(tmp_path / "e", replace(RECIPE, threads=threads + 1, training_steps=1))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"asked to write an encoder to '.*', which exists; name a new folder"):
        train(tmp_path)
    train(tmp_path / "e", replace(RECIPE, training_steps=1))
    (tmp_path / "copy").mkdir()
    with pytest.raises(ConfigurationError, match=r"asked to write an encoder to 'copy', which exists"):
        refit_bottleneck(tmp_path / "e", blobs(20), 2, "again", tmp_path / "copy")


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Encoder, "load", fail)
    with pytest.raises(ConfigurationError, match=r"an encoder to .*, which cannot be made \(the disk is full\)"):
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["e.training"]  # the training can still be taken up


@pytest.mark.parametrize(("images", "held_out"), [(15, 4), (16, 0)])
def test_too_few_images_are_refused(tmp_path: Path, images: int, held_out: int) -> None:
    with pytest.raises(ParameterError, match=rf"train on {images} images in batches of 16, with {held_out} held out"):
        pretrain(blobs(images), blobs(held_out), RECIPE, ORIGIN, tmp_path / "e", ignore)


def test_a_name_that_no_card_may_have_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no encoder's card can say this: name .* a name has lower-case letters"
    ):
        pretrain(blobs(64), blobs(16), RECIPE, replace(ORIGIN, name="My Bundle"), tmp_path / "e", ignore)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": Shape(8, 2, 8, 1024)}, r"an encoder of \d+ MiB, no encoder above 64 MiB loads; give fewer --steps"),
        ({"dimension": 33}, r"asked for 33 coordinates of maps of 32 numbers over 80 images; give 1 to 32"),
    ],
)
def test_what_would_fail_after_training_is_refused_before_it(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pretrain(blobs(64), blobs(16), replace(RECIPE, **change), ORIGIN, tmp_path / "e", ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"an encoder to .*/file/e, which cannot be made \(file is a file\)"):
        train(tmp_path / "file" / "e")
    (tmp_path / "e.training").touch()
    with pytest.raises(
        ConfigurationError, match=r"'e.training', where the checkpoint stands, cannot be made \(File exists\)"
    ):
        train(tmp_path / "e")


@pytest.mark.parametrize("place", ["file/e", "file/deep/e", "/proc/e", "/proc/deep/e", "n" * 300])
def test_a_bundle_that_cannot_be_made_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(Encoder, "load", never)
    with pytest.raises(ConfigurationError, match=r"asked to write an encoder to .*, which cannot be made \(.*\); name"):
        refit_bottleneck(shipped(), blobs(8), 2, "again", tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_is_taken_away_while_computing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(shipped())
    (tmp_path / "file").touch()
    monkeypatch.setattr("server.learning.new_folder.require_new", lambda folder, what: None)
    with pytest.raises(ConfigurationError, match=r"an encoder to .*/file/e, which cannot be made \(.+\); name a new"):
        write_bundle(encoder.card, encoder.flow, encoder.bottleneck, tmp_path / "file" / "e")


def test_a_dangling_link_is_no_new_folder(tmp_path: Path) -> None:
    (tmp_path / "e").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"asked to write an encoder to 'e', which exists; name a new folder"):
        refit_bottleneck(shipped(), blobs(8), 2, "again", tmp_path / "e")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (blobs(1), "fit a bottleneck on 1 public X-ray; give at least 2 X-rays that differ"),
        (blobs(1).repeat(9, 0), "fit a bottleneck on 9 public X-rays, which are all alike; give X-rays that differ"),
    ],
)
def test_a_bottleneck_needs_xrays_that_differ(tmp_path: Path, images: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ParameterError, match=f"^asked to {message}$"):
        refit_bottleneck(shipped(), images, 1, "again", tmp_path / "e")


@pytest.mark.parametrize("place", ["file", "file/t", "/proc", "/proc/t"])
def test_a_teacher_that_cannot_be_kept_is_refused_before_training(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"to keep a teacher in .*, which cannot be written to \(.+\); name a"):
        train_teacher(blobs(8), TeacherRecipe(1, 8, threads=1), tmp_path / place)


def test_a_teacher_needs_xrays_that_differ(tmp_path: Path) -> None:
    with pytest.raises(
        ParameterError, match="train a teacher on 8 public X-rays, which are all alike; give X-rays that"
    ):
        train_teacher(blobs(1).repeat(8, 0), TeacherRecipe(1, 8, threads=1), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0, 0.0, 1.5])
def test_a_teachers_impossible_learning_rate_is_refused(rate: float) -> None:
    with pytest.raises(
        ParameterError, match=rf"a teacher with a learning rate of {rate}; give one above 0 and up to 1"
    ):
        TeacherRecipe(learning_rate=rate)


def test_a_training_without_a_finite_validation_writes_no_bundle(tmp_path: Path) -> None:
    wild = replace(RECIPE, training_steps=1, warmup_steps=1, validate_every=1, learning_rate=1.0)
    with pytest.raises(
        ConfigurationError, match=r"the training diverged: no validation had a finite figure; lower the"
    ):
        pretrain(blobs(64), blobs(16), wild, ORIGIN, tmp_path / "e", ignore)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("change", [{"training_steps": 0}, {"warmup_steps": 0}, {"learning_rate": 0.0}])
def test_an_impossible_recipe_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"asked to train with .* give at least 1 of each, and a rate above 0"):
        replace(RECIPE, **change)


def test_another_bottleneck_keeps_the_flow(tmp_path: Path) -> None:
    before = train(tmp_path / "e", replace(RECIPE, training_steps=5))
    after = refit_bottleneck(tmp_path / "e", blobs(40), 5, "fit-bottleneck", tmp_path / "five")
    assert after.digest != before.digest
    old, new = Encoder.load(tmp_path / "e"), Encoder.load(tmp_path / "five")
    images = torch.stack([old.prepare(image) for image in blobs(3)])
    np.testing.assert_array_equal(old.log_scale_map(images), new.log_scale_map(images))
    assert new.encode(images).shape == (3, 5)


class TestPublicSubset:
    """Which images are public."""

    def test_it_does_not_depend_on_the_order_of_the_file(self) -> None:
        images = blobs(50)
        order = np.random.default_rng(3).permutation(50)
        first = {images[i].tobytes() for i in public_indices(images, 20)}
        again = {images[order][i].tobytes() for i in public_indices(images[order], 20)}
        assert first == again
        assert len(first) == 20

    def test_it_does_not_depend_on_the_memory_layout(self) -> None:
        images = blobs(30)
        fortran = np.asfortranarray(images)
        assert public_indices(images, 10).tolist() == public_indices(fortran, 10).tolist()

    def test_copies_of_an_image_keep_their_order_and_stay_on_one_side(self) -> None:
        images = blobs(10)
        last = public_indices(images, 4)[-1]
        doubled = np.concatenate((images, images[last : last + 1]))
        chosen = public_indices(doubled, 4).tolist()
        assert chosen[-2:] == [last, 10]
        assert len(chosen) == 5

    @pytest.mark.parametrize("count", [0, 11])
    def test_an_impossible_count_is_refused(self, count: int) -> None:
        with pytest.raises(ParameterError, match=rf"asked for {count} public images of an array \(10, 6, 6\) uint8"):
            public_indices(blobs(10), count)

    def test_other_arrays_are_refused(self) -> None:
        with pytest.raises(ParameterError, match=r"float64; give \(N, H, W\) of uint8"):
            public_indices(blobs(10).astype(float), 2)


class TestCommands:
    """`ldp-server encoder`, without a terminal."""

    OPTIONS = (
        "--name small --family blobs --source 'a generator' --key images --public 60 --held-out 20 --content 6 "
        "--size 8 --levels 2 --steps 1 --width 8 --training-steps 10 --batch 16 --threads 1"
    )

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "blobs.npz", images=blobs(80))
        return tmp_path / "blobs.npz"

    def test_train_writes_a_bundle_whose_command_repeats_it(self, tmp_path: Path, data: Path) -> None:
        runner = CliRunner()
        words = ["train", "--data", str(data), "--out", str(tmp_path / "e"), *shlex.split(self.OPTIONS)]
        first = runner.invoke(app, [*words, "--format", "json"])
        assert first.exit_code == 0
        card = json.loads(first.stdout)
        assert card["digest"] == Encoder.load(tmp_path / "e").digest
        assert "step 10 of 10" in first.stderr

        program, noun, *again = shlex.split(card["command"])
        assert (program, noun) == ("ldp-server", "encoder")
        assert str(tmp_path) not in card["command"]
        again[again.index("--data") + 1] = str(data)
        (tmp_path / "elsewhere").mkdir()
        again[again.index("--out") + 1] = str(tmp_path / "elsewhere" / "e")
        second = runner.invoke(app, [*again, "--format", "json"])
        assert json.loads(second.stdout) == card

    def test_a_short_command_is_enough(self, tmp_path: Path, data: Path) -> None:
        """Name, family, source, sizes and batch have defaults; the pictures and the report tell how it went."""
        words = f"train --data {data} --size 8 --training-steps 3 --out {tmp_path / 'e'} --format json"
        result = CliRunner().invoke(app, [*words.split(), "--held-out", "10", "--batch", "16", "--levels", "2"])
        assert result.exit_code == 0, result.exception
        card = json.loads(result.stdout)
        assert (card["name"], card["data_family"], card["source"]) == ("e", "blobs", "80 public images of blobs.npz")
        assert (card["content"], card["size"], card["levels"]) == (6, 8, 2)
        assert re.search(r"step 3 of 3: \d+\.\d{4} bits/dim held out, .* images/s, 0:00:00 left", result.stderr)
        with Image.open(workshop(tmp_path / "e") / SAMPLES_FILE) as samples:
            assert samples.size == (8 * 6 * 3, 3 * 6 * 3)  # eight samples of 6 px at three temperatures, enlarged
        with Image.open(workshop(tmp_path / "e") / CURVE_FILE) as curve:
            assert len(np.unique(np.asarray(curve.convert("RGB")).reshape(-1, 3), axis=0)) > 3  # something is drawn

    def test_a_folder_of_pngs_trains_too(self, tmp_path: Path) -> None:
        (tmp_path / "films").mkdir()
        for number, image in enumerate(blobs(40)):
            Image.fromarray(np.kron(image, np.ones((5, 5), np.uint8))).save(tmp_path / "films" / f"{number}.png")
        words = f"train --data {tmp_path / 'films'} --size 8 --levels 2 --training-steps 1 --out {tmp_path / 'e'}"
        result = CliRunner().invoke(app, [*words.split(), "--held-out", "10", "--batch", "16", "--format", "json"])
        assert result.exit_code == 0, result.exception
        assert json.loads(result.stdout)["training_images"] == 30

    def test_card_shows_family_bits_and_digest(self) -> None:
        card = Encoder.load(shipped()).card
        shown = CliRunner().invoke(app, ["card", str(shipped()), "--format", "json"]).stdout
        assert {"data_family": "kermany", "bits_per_dim": card.bits_per_dim, "digest": card.digest}.items() <= (
            json.loads(shown).items()
        )

    def test_a_mode_and_a_precision_are_one_option_each(self, tmp_path: Path, data: Path) -> None:
        digests = set()
        for number, more in enumerate(("", "--mode frugal", "--precision bfloat16 --mode frugal")):
            words = ["train", "--data", str(data), "--out", str(tmp_path / str(number)), *shlex.split(self.OPTIONS)]
            result = CliRunner().invoke(app, [*words, *more.split(), "--format", "json"])
            assert result.exit_code == 0, result.exception
            digests.add(json.loads(result.stdout)["digest"])
            assert more in json.loads(result.stdout)["command"] or not more or "bfloat16" in more
        assert len(digests) == 3

    def test_card_prints_the_whole_digest(self) -> None:
        result = CliRunner().invoke(app, ["card", str(shipped())])
        printed = re.sub(r"[^0-9a-f]", "", result.stdout.split("schema_version")[0].removeprefix(" digest"))
        assert printed == Encoder.load(shipped()).digest

    def test_fit_bottleneck_adds_its_command_to_the_card(self, tmp_path: Path, data: Path) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 3 --out {tmp_path / 'three'}"
        result = CliRunner().invoke(app, [*words.split(), "--format", "json"])
        assert json.loads(result.stdout)["dimension"] == 3
        assert json.loads((tmp_path / "three" / CARD_FILE).read_text())["command"] == (
            "ldp-server encoder train && "
            "ldp-server encoder fit-bottleneck e --data blobs.npz --out three --dimension 3 --key images"
        )

    def test_fit_bottleneck_takes_a_shipped_encoder(self, tmp_path: Path) -> None:
        data = tmp_path / "public.npz"
        np.savez(data, images=phantoms(60, 28, seed=1)[0])
        words = f"fit-bottleneck shipped:kermany28 --data {data} --dimension 3 --out {tmp_path / 'three'}"
        result = CliRunner().invoke(app, [*words.split(), "--format", "json"])
        assert result.exit_code == 0, result.exception
        assert json.loads(result.stdout)["dimension"] == 3
        assert json.loads((tmp_path / "three" / CARD_FILE).read_text())["command"].endswith(
            "ldp-server encoder fit-bottleneck shipped:kermany28 --data public.npz --out three --dimension 3"
        )

    def test_a_teachers_features_come_into_an_encoder(self, tmp_path: Path, data: Path) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        words = f"fit-features {tmp_path / 'e'} --data {data} --key images --epochs 1 --batch 32 --threads 1"
        taught = CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path / "teacher")])
        assert taught.exit_code == 0, taught.exception
        assert "a teacher of 80 public X-rays of 6 px" in taught.stdout
        words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 4 --out {tmp_path / 'four'}"
        result = CliRunner().invoke(app, [*words.split(), "--features", str(tmp_path / "teacher"), "--format", "json"])
        assert result.exit_code == 0, result.exception
        encoder = Encoder.load(tmp_path / "four")
        assert (encoder.card.bottleneck, encoder.dimension) == (SELF_SUPERVISED, 4)
        assert encoder.card.command == (
            "ldp-server encoder train && "
            "ldp-server encoder fit-features e --data blobs.npz --out teacher --key images --epochs 1 --batch 32 "
            "--threads 1 && "
            "ldp-server encoder fit-bottleneck e --data blobs.npz --out four --dimension 4 --key images "
            "--features teacher"
        )
        coordinates = encoder.encode(torch.stack([encoder.prepare(image) for image in np.load(data)["images"]]))
        assert coordinates.mean(0) == pytest.approx(np.zeros(4), abs=1e-4)
        assert coordinates.std(0)[0] == pytest.approx(1, abs=1e-3)

    def test_a_teacher_of_another_size_is_refused(self, tmp_path: Path, data: Path) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        train_teacher(np.kron(blobs(8), np.ones((1, 2, 2), np.uint8)), TeacherRecipe(1, 8, threads=1), tmp_path / "t")
        words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 2 --out {tmp_path / 'two'}"
        result = CliRunner().invoke(app, [*words.split(), "--features", str(tmp_path / "t")])
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception) == (
            "the teacher looks at X-rays of 12 px, encoder 'small' at 6 px; train one for this encoder with "
            "fit-features"
        )

    def test_a_teacher_of_other_xrays_is_refused(self, tmp_path: Path, data: Path) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        train_teacher(blobs(80, seed=5), TeacherRecipe(1, 16, threads=1), tmp_path / "t")
        words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 2 --out {tmp_path / 'two'}"
        result = CliRunner().invoke(app, [*words.split(), "--features", str(tmp_path / "t")])
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception) == (
            "asked to fit a bottleneck on 80 X-rays with a teacher that was trained on others; give the --data, "
            "--key, --split and --public that fit-features had, or train a teacher on these"
        )

    @pytest.mark.parametrize(("out", "fault"), [("there", "which exists"), ("blobs.npz/x", "which cannot be made")])
    def test_fit_bottleneck_looks_at_its_folder_before_any_xray(
        self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, out: str, fault: str
    ) -> None:
        (tmp_path / "there").mkdir()
        monkeypatch.setattr("server.cli.encoder.read_images", never)
        words = f"fit-bottleneck shipped:kermany28 --data {data} --dimension 2 --out {tmp_path / out}"
        result = CliRunner().invoke(app, words.split())
        assert isinstance(result.exception, ConfigurationError)
        assert fault in str(result.exception)

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            ("--out FOLDER/blobs.npz", "asked to keep a teacher in"),
            ("--out /proc/t", "asked to keep a teacher in"),
            ("--out FOLDER/t --learning-rate nan", "asked to train a teacher with a learning rate of nan"),
            ("--out FOLDER/t --learning-rate -1", "asked to train a teacher with a learning rate of -1.0"),
        ],
    )
    def test_fit_features_looks_at_its_options_before_any_xray(
        self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, options: str, fault: str
    ) -> None:
        monkeypatch.setattr("server.cli.encoder.read_images", never)
        words = f"fit-features shipped:kermany28 --data {data} {options.replace('FOLDER', str(tmp_path))}"
        result = CliRunner().invoke(app, words.split())
        assert isinstance(result.exception, ConfigurationError | ParameterError)
        assert str(result.exception).startswith(fault)
        assert [path.name for path in tmp_path.iterdir()] == ["blobs.npz"]

    def test_fit_features_goes_on_in_a_folder_that_is_there(self, tmp_path: Path, data: Path) -> None:
        (tmp_path / "t").mkdir()
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        words = f"fit-features {tmp_path / 'e'} --data {data} --key images --epochs 1 --batch 32 --threads 1"
        for _ in range(2):
            result = CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path / "t")])
            assert result.exit_code == 0, result.exception
        assert [path.name for path in (tmp_path / "t").iterdir()] == [TEACHER_FILE]
        assert load_teacher(tmp_path / "t").side == 6

    def test_one_level_of_the_map_comes_into_an_encoder_and_its_command_repeats_it(
        self, tmp_path: Path, data: Path
    ) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        cards = []
        for folder in ("x/fine", "y/fine"):
            words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 2 --level 1"
            result = CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path / folder), "--format", "json"])
            assert result.exit_code == 0, result.exception
            cards.append((tmp_path / folder / CARD_FILE).read_bytes())
        assert cards[0] == cards[1]
        encoder = Encoder.load(tmp_path / "x" / "fine")
        assert (encoder.card.bottleneck, encoder.dimension) == (ONE_LEVEL, 2)
        assert encoder.card.command.endswith(
            "fit-bottleneck e --data blobs.npz --out fine --dimension 2 --key images --level 1"
        )
        coordinates = encoder.encode(torch.stack([encoder.prepare(image) for image in np.load(data)["images"]]))
        np.testing.assert_allclose(np.cov(coordinates, rowvar=False, bias=True), np.eye(2), atol=1e-3)

    def test_a_level_and_a_teacher_are_refused_together(self, tmp_path: Path, data: Path) -> None:
        train(tmp_path / "e", replace(RECIPE, training_steps=1))
        train_teacher(blobs(8), TeacherRecipe(1, 8, threads=1), tmp_path / "t")
        words = f"fit-bottleneck {tmp_path / 'e'} --data {data} --key images --dimension 2 --out {tmp_path / 'two'}"
        result = CliRunner().invoke(app, [*words.split(), "--features", str(tmp_path / "t"), "--level", "1"])
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception) == (
            "asked for the coordinates of a teacher and for those of level 1; give --features or --level"
        )

    @pytest.mark.parametrize("name", ["blobs.npz", "absent.npz"])
    def test_images_that_are_not_there_are_refused(self, tmp_path: Path, data: Path, name: str) -> None:
        words = ["train", "--data", str(tmp_path / name), "--out", str(tmp_path / "e"), *shlex.split(self.OPTIONS)]
        words[words.index("images")] = "pictures"
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception).startswith(f"asked for public images in '{name}'; give an .npz with an array")

    @pytest.mark.parametrize("fault", ["cut off", "empty", "damaged"])
    def test_files_at_fault_are_refused(self, tmp_path: Path, data: Path, fault: str) -> None:
        np.savez_compressed(data, images=blobs(80), split=np.array(["public"] * 80))
        whole = data.read_bytes()
        middle = len(whole) // 3
        kept = {"cut off": middle, "empty": 0, "damaged": len(whole)}[fault]
        data.write_bytes((whole[:middle] + b"\xff" * 100 + whole[middle + 100 :])[:kept])
        with pytest.raises(ConfigurationError, match=r"asked for public images in 'blobs.npz'; give an .npz with an"):
            read_images(data, key="", split="public", side=6)

    @pytest.mark.parametrize("shape", [(), (7,), (80, 1), (80, 6)])
    def test_a_split_of_another_shape_is_named(self, data: Path, shape: tuple[int, ...]) -> None:
        np.savez(data, images=blobs(80), split=np.full(shape, "public"))
        with pytest.raises(ConfigurationError) as refused:
            read_images(data, key="", split="public", side=6)
        assert str(refused.value) == (
            f"asked for the split 'public' of 'blobs.npz', whose field `split` has the shape {shape}; give one word "
            "for each of its 80 images, or ask for no split"
        )

    def test_a_split_without_images_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "films.npz", images=blobs(2), split=np.array(["test", "test"]))
        with pytest.raises(ConfigurationError, match=r"'films.npz' holds no image of the split 'public'; name a file"):
            read_images(tmp_path / "films.npz", key="", split="public", side=6)

    def test_arrays_that_are_not_images_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "flat.npz", images=np.zeros((4, 4)))
        words = ["train", "--data", str(tmp_path / "flat.npz"), "--out", "e", *shlex.split(self.OPTIONS)]
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception) == "'flat.npz' holds (4, 4) float64; give (N, H, W) of uint8"

    def test_holding_out_everything_is_refused(self, tmp_path: Path, data: Path) -> None:
        words = ["train", "--data", str(data), "--out", str(tmp_path / "e"), *shlex.split(self.OPTIONS)]
        words[words.index("--held-out") + 1] = "60"
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, ConfigurationError)
        assert str(result.exception) == "asked to hold out 60 of 60 images; keep some on both sides"
