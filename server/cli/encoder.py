"""`ldp-server encoder`: pretrain the public encoder, read its card, fit another bottleneck."""

from __future__ import annotations

import json
import shlex
import time
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import click
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ldp_client.cli.console import say
from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import EncoderCard, read_card
from ldp_client.flow.glow import Shape
from ldp_client.flow.installed import bundle_folder
from ldp_client.flow.training import Mode
from server.learning.allocator import keep_freed_pages
from server.learning.bundle import AN_ENCODER, contents, refit_bottleneck
from server.learning.new_folder import require_new
from server.learning.pretrain import pretrain
from server.learning.public_images import read_images
from server.learning.public_subset import public_indices
from server.learning.recipe import Origin, Progress, Recipe
from server.learning.self_supervised import TeacherProgress, require_writable, train_teacher
from server.learning.teacher import TeacherRecipe, load_teacher
from server.learning.workers import Workers, joined

app = typer.Typer(no_args_is_help=True, help="Pretrain the public encoder, read its card, fit another bottleneck.")


class Precision(StrEnum):
    """What the couplings' networks compute in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Device(StrEnum):
    """Where a training runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Format(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


DataOption = Annotated[
    Path, typer.Option(help="Public X-rays: an .npz of (N, H, W) uint8, or a folder of DICOM, PNG and JPEG files.")
]
KeyOption = Annotated[
    str, typer.Option(help="The array of the .npz that holds the images; empty takes the only one, or train_images.")
]
PublicOption = Annotated[int, typer.Option(help="Take this many images, chosen by their pixels' SHA-256; 0 takes all.")]
SplitOption = Annotated[str, typer.Option(help="Only rows of the .npz whose field `split` says so.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the new bundle; it must not exist.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the card.")]


@app.command()
def train(
    context: typer.Context,
    data: DataOption,
    out: OutOption,
    name: Annotated[str, typer.Option(help="The encoder's name; empty takes the bundle folder's.")] = "",
    family: Annotated[str, typer.Option(help="The data family, which photographs these are; empty: the data's.")] = "",
    source: Annotated[str, typer.Option(help="Where the images come from, for the card; empty counts them.")] = "",
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    held_out: Annotated[int, typer.Option(help="Images kept out of training, for choosing weights.")] = 200,
    size: Annotated[int, typer.Option(help="Side in pixels with padding, a multiple of 2**levels.")] = 32,
    content: Annotated[int, typer.Option(help="Side of the image inside; 0: the images' own where it fits.")] = 0,
    levels: Annotated[int, typer.Option(help="Levels of the flow; 0: 3 up to 32 px, 4 up to 64, else 5.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps per level.")] = 8,
    width: Annotated[int, typer.Option(help="Channels inside the couplings.")] = 64,
    training_steps: Annotated[
        int, typer.Option(help="Optimiser steps; a number, not a time, so it can be repeated.")
    ] = 4000,
    batch: Annotated[int, typer.Option(help="Images per step; 0: 64 at 32 px, fewer above, at least 8.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="The highest rate, after warm-up.")] = 2e-3,
    patience: Annotated[int, typer.Option(help="Stop after this many validations that find nothing better.")] = 8,
    mode: Annotated[Mode, typer.Option(help="fast, or frugal with memory: inverts the flow instead of storing it.")] = (
        Mode.FAST
    ),
    precision: Annotated[
        Precision, typer.Option(help="Type inside the couplings; auto is bfloat16 on a GPU and float32 elsewhere.")
    ] = Precision.AUTO,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.AUTO,
    dimension: Annotated[int, typer.Option(help="Coordinates of the bottleneck.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and dequantisation.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads; another number gives other last digits.")] = 2,
    format: FormatOption = Format.TABLE,
) -> None:
    """Pretrain an encoder on public X-rays and write its bundle.

    Beside it, in OUT.training, stand a loss curve, samples and a checkpoint: the same command goes on from there after
    an interruption. Under torchrun each process takes its share of every batch.
    """
    images = _public(read_images(data, key=key, split=split, side=content or size), public)
    if not 0 < held_out < len(images):
        raise ConfigurationError(f"asked to hold out {held_out} of {len(images)} images; keep some on both sides")
    keep_freed_pages()
    with joined(device) as workers:
        recipe = Recipe(
            Shape(size, levels or (3 if size <= 32 else 4 if size <= 64 else 5), steps, width),
            content or min(*images.shape[1:], size),
            dimension=dimension,
            training_steps=training_steps,
            batch=batch or max(8, 64 * 32**2 // size**2),
            learning_rate=learning_rate,
            warmup_steps=min(Recipe.warmup_steps, training_steps),
            patience=patience,
            mode=mode,
            precision=_precision(precision, workers),
            seed=seed,
            threads=threads,
        )
        origin = Origin(
            name or out.name,
            family or data.stem,
            source or f"{len(images)} public images of {data.name}",
            _command(context),
        )
        with _progress_bar(workers.first) as bar:
            card = pretrain(images[held_out:], images[:held_out], recipe, origin, out, _Shown(bar), workers)
    if card is not None:
        _print_card(card, format)


@app.command()
def card(
    encoder: Annotated[str, typer.Argument(help='An encoder\'s folder, or "shipped:NAME".')],
    format: FormatOption = Format.TABLE,
) -> None:
    """Show what an encoder is and its digest."""
    _print_card(read_card(bundle_folder(encoder, Path())), format)


@app.command("fit-features")
def fit_features(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help='The encoder that the features are meant for, or "shipped:NAME".')],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder of the teacher; an interrupted training in it goes on.")],
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the public X-rays.")] = TeacherRecipe.epochs,
    batch: Annotated[int, typer.Option(help="X-rays per step.")] = TeacherRecipe.batch,
    learning_rate: Annotated[
        float, typer.Option(help="The highest rate, after warm-up.")
    ] = TeacherRecipe.learning_rate,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.AUTO,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and views.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads.")] = 2,
) -> None:
    """Train a teacher on public X-rays, without labels: what it learns, `fit-bottleneck` brings into an encoder."""
    require_writable(out)
    recipe = TeacherRecipe(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed, threads=threads)
    card = read_card(bundle_folder(str(folder), Path()))
    images = contents(card, _public(read_images(data, key=key, split=split, side=card.content), public))
    keep_freed_pages()
    with joined(device) as workers, _progress_bar(workers.first) as bar:
        if workers.count > 1:
            raise ConfigurationError("a teacher is trained by one process; start it without torchrun")
        task = bar.add_task("teacher", total=epochs, rate="", bits="")

        def shown(state: TeacherProgress) -> None:
            bar.update(task, completed=state.epoch, rate=f"loss {state.loss:.3f}")
            if not bar.console.is_terminal and (state.epoch % 10 == 0 or state.epoch == state.epochs):
                bar.console.print(f"epoch {state.epoch} of {state.epochs}: loss {state.loss:.4f}", soft_wrap=True)

        train_teacher(images, recipe, out, shown, workers, _command(context))
    say(f"a teacher of {len(images)} public X-rays of {card.content} px in {out}; fit-bottleneck takes it from there")


@app.command("fit-bottleneck")
def fit_bottleneck(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help='The encoder whose flow is kept, or "shipped:NAME".')],
    data: DataOption,
    out: OutOption,
    dimension: Annotated[int, typer.Option(help="Coordinates of the new bottleneck; a campaign takes the first few.")],
    key: KeyOption = "",
    split: SplitOption = "",
    public: PublicOption = 0,
    features: Annotated[
        Path | None, typer.Option(help="A teacher that fit-features trained on the same X-rays; none: whitened PCA.")
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(help="Only this level of the flow, 1 the finest: for a population unlike the public one."),
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Fit another bottleneck behind an encoder's flow, on public X-rays, and write a new bundle."""
    require_new(out, AN_ENCODER)
    bundle = bundle_folder(str(folder), Path())
    card = read_card(bundle)
    teacher = None if features is None else load_teacher(features)
    images = _public(read_images(data, key=key, split=split, side=card.content), public)
    command = " && ".join([card.command, *([teacher.command] if teacher else []), _command(context)])
    _print_card(refit_bottleneck(bundle, images, dimension, command, out, teacher, level), format)


def _command(context: typer.Context) -> str:
    """The command line that repeats this one, defaults left out.

    Without the folders of this machine, so that the digest of a card does not depend on where it was made.
    """
    words = ["ldp-server encoder", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value is None or value == parameter.default or parameter.name == "format":
            continue
        named = Path(value).name if isinstance(parameter.type, click.Path) else value
        text = shlex.quote(str(named))
        words.append(text if parameter.param_type_name == "argument" else f"{parameter.opts[0]} {text}")
    return " ".join(words)


def _public(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return images[public_indices(images, count or len(images))]


def _precision(asked: Precision, workers: Workers) -> Literal["float32", "bfloat16"]:
    if asked is Precision.AUTO:
        return "bfloat16" if workers.device.type == "cuda" else "float32"
    return asked.value  # type: ignore[return-value]  # what is left of the enumeration


class _Shown:
    """Reports of a training as a bar on a terminal, as a line for each validation elsewhere."""

    def __init__(self, bar: Bar) -> None:
        self.bar, self.task = bar, bar.add_task("training", total=None, rate="", bits="")
        self.started, self.first, self.bits = time.monotonic(), 0, ""

    def __call__(self, state: Progress) -> None:
        # The first report is the first step after a start or a resumption, whose time nobody took.
        self.first = self.first or state.step
        seconds = time.monotonic() - self.started if state.step > self.first else 0.0
        if state.step == self.first:
            self.started = time.monotonic()
        rate = (state.step - self.first) * state.images / seconds if seconds else 0.0
        self.bits = self.bits if state.bits_per_dim is None else f"{state.bits_per_dim:.3f} bits/dim"
        self.bar.update(
            self.task, completed=state.step, total=state.steps, rate=f"{rate:,.0f} images/s", bits=self.bits
        )
        if state.bits_per_dim is None:
            return
        if not self.bar.console.is_terminal:
            left = (state.steps - state.step) * state.images / rate if rate else 0.0
            self.bar.console.print(
                f"step {state.step} of {state.steps}: {state.bits_per_dim:.4f} bits/dim held out, "
                f"{state.loss:.4f} in the batch, {rate:,.0f} images/s, {timedelta(seconds=round(left))} left",
                soft_wrap=True,
            )


def _progress_bar(shown: bool) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[bits]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


def _print_card(card: EncoderCard, format: Format) -> None:
    values = {"digest": card.digest, **card.model_dump()}
    if format is Format.JSON:
        typer.echo(json.dumps(values))
        return
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(overflow="fold")  # a digest that is cut off is of no use
    for field, value in values.items():
        table.add_row(field, str(value))
    Console().print(table)
