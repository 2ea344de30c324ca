"""A teacher on public X-rays: its views, its loss, its training that a kill does not change, its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.imaging.phantoms import phantoms
from server.learning import self_supervised
from server.learning.self_supervised import TeacherProgress, train_teacher, vicreg
from server.learning.teacher import TEACHER_FILE, Teacher, TeacherRecipe, load_teacher, teacher_features
from server.learning.views import random_view

RECIPE = TeacherRecipe(epochs=3, batch=16, widths=(4, 6, 8, 10), projection=8, threads=1)


def pictures(count: int = 40, side: int = 28) -> NDArray[np.uint8]:
    """Phantom chests (N, S, S) uint8."""
    return phantoms(count, side, seed=3, pneumonia_share=0.5)[0]


def same(first: Teacher, second: Teacher) -> bool:
    """Whether two teachers have the same weights, bit for bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one.cpu(), other.cpu()) for one, other in pairs)


class TestViews:
    def test_a_view_keeps_the_shape_and_differs_from_its_image_and_from_the_next_view(self) -> None:
        images = torch.from_numpy(pictures(8))[:, None].float() / 255
        generator = torch.Generator().manual_seed(0)
        first, second = random_view(images, generator), random_view(images, generator)
        assert first.shape == images.shape
        assert torch.isfinite(first).all()
        assert (first - second).abs().mean((1, 2, 3)).min() > 0.01
        assert (first - images).abs().mean((1, 2, 3)).min() > 0.01

    def test_the_same_generator_draws_the_same_views(self) -> None:
        images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        views = [random_view(images, torch.Generator().manual_seed(7)) for _ in range(2)]
        assert torch.equal(*views)

    def test_an_even_image_stays_about_even_and_grey_values_stay_in_reach(self) -> None:
        view = random_view(torch.full((64, 1, 16, 16), 0.5), torch.Generator().manual_seed(2))
        assert view.std((1, 2, 3)).max() < 0.25
        assert view.min() > -0.5
        assert view.max() < 1.5


class TestLoss:
    def test_it_is_the_published_formula(self) -> None:
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(9, 4, generator=generator), torch.randn(9, 4, generator=generator)
        expected = 25 * ((a - b) ** 2).mean()
        for z in (a, b):
            covariance = torch.cov(z.T)
            spread = torch.sqrt(torch.var(z, dim=0) + 1e-4)
            expected += 25 * torch.clamp(1 - spread, min=0).mean()
            expected += sum(covariance[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
        assert float(vicreg(a, b)) == pytest.approx(float(expected), rel=1e-5)

    def test_one_answer_for_every_xray_costs_more_than_agreement_saves(self) -> None:
        constant, spread = torch.zeros(32, 4), torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
        assert vicreg(constant, constant) > vicreg(spread, spread) + 20


class TestTraining:
    def test_it_learns_to_tell_xrays_apart(self, tmp_path: Path) -> None:
        losses: list[float] = []
        recipe = TeacherRecipe(epochs=12, batch=16, learning_rate=0.02, widths=(4, 6, 8, 10), projection=8, threads=1)
        train_teacher(pictures(), recipe, tmp_path, lambda state: losses.append(state.loss))
        assert losses[-1] < 0.9 * losses[0]

    def test_a_training_that_was_killed_ends_with_the_same_teacher(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = train_teacher(pictures(), RECIPE, tmp_path / "whole")
        monkeypatch.setattr(self_supervised, "SAVE_SECONDS", 0.0)

        def killed(state: TeacherProgress) -> None:
            if state.epoch == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_teacher(pictures(), RECIPE, tmp_path / "killed", killed)
        with pytest.raises(ConfigurationError, match="has done 2 of 3 epochs; repeat the command"):
            load_teacher(tmp_path / "killed")
        resumed: list[int] = []
        teacher = train_teacher(pictures(), RECIPE, tmp_path / "killed", lambda state: resumed.append(state.epoch))
        assert resumed == [3]
        assert same(whole, teacher)

    def test_a_finished_teacher_is_read_and_not_trained_again(self, tmp_path: Path) -> None:
        teacher = train_teacher(pictures(), RECIPE, tmp_path, command="how it was made")

        def never(state: TeacherProgress) -> None:
            raise AssertionError

        assert same(teacher, train_teacher(pictures(), RECIPE, tmp_path, never))
        read = load_teacher(tmp_path)
        assert same(teacher, read)
        assert (read.command, read.side, read.recipe) == ("how it was made", 28, RECIPE)

    def test_features_are_those_of_the_image_averaged_with_its_mirror_image(self, tmp_path: Path) -> None:
        teacher, images = train_teacher(pictures(), RECIPE, tmp_path), pictures(5)
        features = teacher_features(teacher, images)
        assert features.shape == (5, 10)
        assert features == pytest.approx(teacher_features(teacher, images[:, :, ::-1].copy()), abs=1e-5)
        assert np.abs(features[0] - features[1]).max() > 1e-4

    def test_the_global_generator_is_left_alone(self, tmp_path: Path) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        train_teacher(pictures(16), TeacherRecipe(1, 16, widths=(2, 2, 2, 2), projection=2, threads=1), tmp_path)
        assert torch.equal(torch.rand(3), expected)


class TestRefusals:
    def test_fewer_xrays_than_a_batch(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="on 10 X-rays in batches of 16; give more X-rays, or smaller batches"):
            train_teacher(pictures(10), RECIPE, tmp_path)

    def test_a_recipe_of_nothing(self) -> None:
        with pytest.raises(ParameterError, match="for 0 epochs in batches of 256 with 2 threads; give at least 1"):
            TeacherRecipe(epochs=0)

    def test_another_trainings_folder(self, tmp_path: Path) -> None:
        train_teacher(pictures(), RECIPE, tmp_path)
        with pytest.raises(ConfigurationError, match="trained on other images or by another recipe"):
            train_teacher(pictures(41), RECIPE, tmp_path)

    def test_a_folder_without_a_teacher(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"holds no teacher\.safetensors; name a folder"):
            load_teacher(tmp_path)

    def test_a_file_that_is_no_teacher(self, tmp_path: Path) -> None:
        (tmp_path / TEACHER_FILE).write_bytes(b"nothing")
        with pytest.raises(ConfigurationError, match=r"teacher\.safetensors is no teacher; remove"):
            load_teacher(tmp_path)

    def test_weights_that_are_not_finite_or_of_another_recipe(self, tmp_path: Path) -> None:
        train_teacher(pictures(), RECIPE, tmp_path)
        path = tmp_path / TEACHER_FILE
        weights = load_file(path)
        name = next(iter(weights))
        with safe_open(path, framework="pt") as file:
            told = file.metadata()
        save_file({**weights, name: weights[name] * torch.nan}, path, told)
        with pytest.raises(ConfigurationError, match="are not those of its recipe, or not finite"):
            load_teacher(tmp_path)
        save_file({key: value for key, value in weights.items() if key != name}, path, told)
        with pytest.raises(ConfigurationError, match="are not those of its recipe, or not finite"):
            load_teacher(tmp_path)

    def test_a_diverged_training(self, tmp_path: Path) -> None:
        recipe = TeacherRecipe(4, 16, 1.0, weight_decay=1e30, widths=(2, 2, 2, 2), projection=2, threads=1)
        with pytest.raises(ConfigurationError, match="diverged in epoch"):
            train_teacher(pictures(16), recipe, tmp_path)
