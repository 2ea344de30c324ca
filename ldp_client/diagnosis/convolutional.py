"""The convolutional kind of classifier: learnt from released pictures, run on clean X-rays.

It sees pixels alone: of the encoder it uses the size that X-rays are prepared to, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, StringConstraints
from torch import Tensor, nn

from ldp_client.errors import ClassifierError
from ldp_client.flow.encoder import BATCH, Encoder
from ldp_client.privacy.image_spec import MAX_SIDE
from ldp_client.privacy.spec import MAX_CLASSES
from ldp_client.wire.canonical import Wire

_SMALLEST = 3  # cells a side that are left for the mean over the plane

PositiveNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}\.[0-9]{1,12}$")]


class PictureNet(nn.Module):
    """Blocks of (3x3 convolution of stride 2, batch normalisation, ReLU), the mean over the plane, one linear layer.

    Pictures (N, 1, side, side) with values in (0, 1) to one number for each label, (N, K). Channels double from block
    to block up to `width`; there are as many blocks as leave 3 cells a side or more. So a network for larger pictures
    has more blocks and hardly more weights, and still fits the document that carries an evaluation.
    """

    def __init__(self, side: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        blocks = max(1, int(math.log2(side / _SMALLEST)))
        channels = [1, *(max(1, width >> (blocks - 1 - index)) for index in range(blocks))]
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)
        self.labels = nn.Linear(channels[-1], classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 1, side, side) to (N, K)."""
        features = self.blocks((pictures - 0.5) / 0.25)  # (N, C, >= 3, >= 3)
        numbers: Tensor = self.labels(features.mean((2, 3)))
        return numbers


def stored(network: PictureNet) -> dict[str, Tensor]:
    """The network's arrays as a bundle holds them: in 16 bits, so that an evaluation can carry a few networks."""
    return {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}


class ConvolutionalModel(Wire):
    """The document of the kind; its arrays stand in the bundle's weights, those of network i under `i.`.

    Networks of one shape, each learnt from a part of the pictures; their log-probabilities are averaged.
    """

    kind: Literal["convolutional"] = "convolutional"
    classes: int = Field(ge=2, le=MAX_CLASSES)
    side: int = Field(ge=8, le=MAX_SIDE)
    width: int = Field(ge=1, le=1024)
    networks: int = Field(ge=1, le=32)
    scores_spread: PositiveNumber
    """Standard deviation of a difference of two labels' scores on released pictures that were held out."""

    def ready(self, tensors: Mapping[str, Tensor]) -> Convolutional:
        """The classifier.

        Raises:
            ClassifierError: the weights are not those of networks of this shape.
        """
        networks = []
        for index in range(self.networks):
            # Without memory or randomness: laid out on the meta device, then filled.
            with torch.device("meta"):
                network = PictureNet(self.side, self.classes, self.width)
            filled: dict[str, Tensor] = {}
            for name, wanted in stored(network).items():
                found = tensors.get(f"{index}.{name}")
                if found is None or (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
                    raise ClassifierError(
                        f"the classifier's weights lack {index}.{name} or have another shape or type there; "
                        "ask the centre for the bundle again"
                    )
                filled[name] = found.float() if found.is_floating_point() else found
            network.load_state_dict(filled, assign=True)
            networks.append(network.eval().requires_grad_(False))
        if len(tensors) != self.networks * len(networks[0].state_dict()):
            raise ClassifierError(
                f"the weights hold other arrays than those of {self.networks} networks; ask the centre for the bundle "
                "again"
            )
        return Convolutional(self.side, tuple(networks))

    def spread(self) -> float:
        """Standard deviation of a difference of two labels' scores, where an evaluation puts its bins."""
        return float(self.scores_spread)


@dataclass(frozen=True, eq=False)
class Convolutional:
    """Networks that score pictures: the mean of their log-probabilities of each label, mirrored pictures as well."""

    side: int
    networks: tuple[PictureNet, ...]

    def scores(self, encoder: Encoder, images: Tensor) -> NDArray[np.float64]:
        """Scores of prepared X-rays (N, 1, size, size), one column for each label. Shape (N, K).

        Raises:
            ClassifierError: the encoder prepares X-rays of another size than the pictures had.
        """
        if encoder.content != self.side:
            raise ClassifierError(
                f"the classifier takes pictures of {self.side} x {self.side} pixels; the encoder prepares them of "
                f"{encoder.content} x {encoder.content}. Install the encoder that the classifier names"
            )
        before = (encoder.size - encoder.content) // 2
        inside = slice(before, before + self.side)
        return self.of_pictures(images[:, :, inside, inside])

    def of_pictures(self, pictures: Tensor) -> NDArray[np.float64]:
        """The same of pictures (N, 1, side, side) with values in (0, 1)."""
        parts = [np.empty((0, self.networks[0].labels.out_features))]
        with torch.inference_mode():
            for part in torch.split(pictures.float(), BATCH):
                seen = torch.cat((part, part.flip(3)))
                sums = sum(network(seen).log_softmax(1) for network in self.networks)
                left, right = (sums / len(self.networks)).chunk(2)
                parts.append((0.5 * (left + right)).double().numpy())
        return np.concatenate(parts)
