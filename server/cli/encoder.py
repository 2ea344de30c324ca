"""`ldp-server encoder`: pretrain the public encoder, read its card, fit another bottleneck."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import click
import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import EncoderCard, read_card
from ldp_client.flow.glow import Shape
from server.learning.pretrain import Origin, Progress, Recipe, pretrain, refit_bottleneck
from server.learning.public_subset import public_indices

app = typer.Typer(no_args_is_help=True, help="Pretrain the public encoder, read its card, fit another bottleneck.")


class Format(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"


DataOption = Annotated[Path, typer.Option(help="An .npz of images (N, H, W) uint8, or a folder of equal-sized PNGs.")]
KeyOption = Annotated[str, typer.Option(help="The array of the .npz that holds the images.")]
PublicOption = Annotated[int, typer.Option(help="Take this many images, chosen by their pixels' SHA-256; 0 takes all.")]
SplitOption = Annotated[str, typer.Option(help="Only rows of the .npz whose field `split` says so.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the new bundle; it must not exist.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the card.")]


@app.command()
def train(
    context: typer.Context,
    data: DataOption,
    out: OutOption,
    name: Annotated[str, typer.Option(help="The encoder's name.")],
    family: Annotated[str, typer.Option(help="The data family: which photographs these are.")],
    source: Annotated[str, typer.Option(help="Where the images come from, for the card.")],
    key: KeyOption = "train_images",
    split: SplitOption = "",
    public: PublicOption = 0,
    held_out: Annotated[int, typer.Option(help="Images kept out of training, for choosing weights.")] = 200,
    content: Annotated[int, typer.Option(help="Side of the image in pixels.")] = 28,
    size: Annotated[int, typer.Option(help="Side with padding, a multiple of 2**levels.")] = 32,
    levels: Annotated[int, typer.Option(help="Levels of the flow.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps per level.")] = 8,
    width: Annotated[int, typer.Option(help="Channels inside the couplings.")] = 64,
    training_steps: Annotated[
        int, typer.Option(help="Optimiser steps; a number, not a time, so it can be repeated.")
    ] = 4000,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    dimension: Annotated[int, typer.Option(help="Coordinates of the bottleneck.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and dequantisation.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads; another number gives other last digits.")] = 2,
    format: FormatOption = Format.TABLE,
) -> None:
    """Pretrain an encoder on public X-rays and write its bundle."""
    images = _public(_read_images(data, key, split), public)
    if not 0 < held_out < len(images):
        raise ConfigurationError(f"asked to hold out {held_out} of {len(images)} images; keep some on both sides")
    recipe = Recipe(
        Shape(size, levels, steps, width),
        content,
        dimension=dimension,
        training_steps=training_steps,
        batch=batch,
        warmup_steps=min(Recipe.warmup_steps, training_steps),
        seed=seed,
        threads=threads,
    )
    origin = Origin(name, family, source, _command(context))
    with _progress_bar() as bar:
        task = bar.add_task("training", total=training_steps, bits="")

        def show(state: Progress) -> None:
            if state.bits_per_dim is None:
                bar.update(task, completed=state.step)
                return
            bar.update(task, completed=state.step, bits=f"{state.bits_per_dim:.3f} bits/dim")
            if not bar.console.is_terminal:
                bar.console.print(f"step {state.step} of {state.steps}: {state.bits_per_dim:.4f} bits/dim held out")

        card = pretrain(images[held_out:], images[:held_out], recipe, origin, out, show)
    _print_card(card, format)


@app.command()
def card(
    folder: Annotated[Path, typer.Argument(help="An encoder's folder.")], format: FormatOption = Format.TABLE
) -> None:
    """Show what an encoder is and its digest."""
    _print_card(read_card(folder), format)


@app.command("fit-bottleneck")
def fit_bottleneck(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The encoder whose flow is kept.")],
    data: DataOption,
    out: OutOption,
    dimension: Annotated[int, typer.Option(help="Coordinates of the new bottleneck.")],
    key: KeyOption = "train_images",
    split: SplitOption = "",
    public: PublicOption = 0,
    format: FormatOption = Format.TABLE,
) -> None:
    """Fit another bottleneck behind an encoder's flow, on public X-rays, and write a new bundle."""
    command = f"{read_card(folder).command} && {_command(context)}"
    _print_card(
        refit_bottleneck(folder, _public(_read_images(data, key, split), public), dimension, command, out), format
    )


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


def _read_images(path: Path, key: str, split: str = "") -> NDArray[np.uint8]:
    """Read public images (N, H, W) uint8. Raises ConfigurationError when the file does not hold them."""
    try:
        if path.is_dir():
            files = sorted(path.glob("*.png"))
            images = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
        else:
            with np.load(path, allow_pickle=False) as arrays:
                images = arrays[key]
                images = images[arrays["split"] == split] if split else images
    except (OSError, KeyError, ValueError, UnidentifiedImageError) as error:
        raise ConfigurationError(
            f"asked for public images in {path.name!r}; give an .npz with an array {key!r} (N, H, W) of uint8 "
            "(and `split`, if asked for), "
            "or a folder of PNGs of one size"
        ) from error
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ConfigurationError(f"{path.name!r} holds {images.shape} {images.dtype}; give (N, H, W) of uint8")
    return images


def _progress_bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[bits]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
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
