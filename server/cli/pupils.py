"""The options by which a classifier gets a student: public X-rays, and the encoder that looks at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError
from ldp_client.flow.installed import open_bundle
from ldp_client.wire.campaign import Campaign
from server.learning.public_images import read_images
from server.learning.public_subset import public_indices

StudentOption = Annotated[
    Path | None,
    typer.Option(help="Public X-rays without labels, an .npz or a folder, that a student learns from besides."),
]
EncoderOption = Annotated[
    str | None, typer.Option(help='The campaign\'s encoder, a bundle or "shipped:NAME"; --student needs it.')
]
KeyOption = Annotated[str, typer.Option(help="The array of the student's .npz; empty takes train_images or images.")]
SplitOption = Annotated[str, typer.Option(help="Only rows of the student's .npz whose field `split` says so.")]
PublicOption = Annotated[
    int, typer.Option(help="Take this many of the student's X-rays, chosen by their pixels' SHA-256; 0 takes all.")
]


def public_coordinates(
    campaign: Campaign, student: Path, bundle: str | None, *, key: str, split: str, count: int
) -> NDArray[np.float64]:
    """What the campaign's encoder makes of the public X-rays: all its coordinates, (N, D).

    Raises:
        ConfigurationError: no encoder was named, or another than the campaign's.
    """
    if bundle is None:
        raise ConfigurationError("--student needs --encoder: the bundle that the campaign names, or shipped:NAME")
    encoder = open_bundle(bundle, Path())
    if encoder.digest != campaign.encoder:
        raise ConfigurationError(
            f"campaign {campaign.name} names the encoder {campaign.encoder[:12]}; {bundle} is {encoder.digest[:12]}. "
            "Give the encoder that the records were made with"
        )
    images = read_images(student, key=key, split=split, side=encoder.content)
    images = images[public_indices(images, count or len(images))]
    return encoder.encode(torch.stack([encoder.prepare(image) for image in images]))
