"""From released pictures to a classifier: post-processing, which costs no epsilon.

Where X-ray and label were noised together, a picture's label was drawn by lot and the picture says whether it agrees
with the X-ray's own (`image_spec.ImageSpec`). With p(v) the density of what the mechanism draws, the odds of label 1
are p(v) : p(-v) at a picture that stands for v: a network that tells the two labels apart learns exactly the direction
in which X-rays of one label lie from those of the other, and a clean X-ray further that way scores higher.

One picture says little, so several small networks are averaged, each sees pictures moved, mirrored and of other
contrast, and all stop early, after a fixed number of epochs. Each holds a fifth of the pictures out, and says how well
it predicts those: releases judge releases, and no clean X-ray has a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ldp_client.diagnosis.convolutional import Convolutional, ConvolutionalModel, PictureNet, stored
from ldp_client.errors import FormatError, ParameterError, WaitingError
from ldp_client.privacy.image_spec import ImageSpec
from ldp_client.wire.campaign import Campaign
from ldp_client.wire.record import unpack

Progress = Callable[[int, int], None]
"""Network and epoch that are done."""


@dataclass(frozen=True, eq=False)
class PictureSet:
    """The pictures (N, side, side) and labels (N,) of one campaign's records."""

    campaign: Campaign
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def spec(self) -> ImageSpec:
        """The release that made them."""
        return _image_spec(self.campaign)

    @classmethod
    def from_payloads(cls, campaign: Campaign, payloads: Iterable[bytes]) -> PictureSet:
        """Unpack stored records.

        Raises:
            ParameterError: the campaign's records are no pictures.
            WaitingError: there are none yet.
            FormatError: a stored record is not of this campaign: the database was altered.
        """
        spec = _image_spec(campaign)
        try:
            found = [unpack(payload, spec) for payload in payloads]
        except FormatError as error:
            raise FormatError(f"a stored record does not fit campaign {campaign.name}: {error}") from error
        if not found:
            raise WaitingError(f"campaign {campaign.name} has no records yet; gather first")
        return cls(campaign, np.stack([one.pixels for one in found]), np.array([one.label for one in found]))


def _image_spec(campaign: Campaign) -> ImageSpec:
    if not isinstance(campaign.release, ImageSpec):
        raise ParameterError(
            f"the records of campaign {campaign.name} are numbers, no pictures; publish one with "
            'record = "image" for those'
        )
    return campaign.release


@dataclass(frozen=True)
class ImageRecipe:
    """How the networks are trained; defaults were chosen on hospital X-rays of PneumoniaMNIST (docs/decisions/0046)."""

    networks: int = 5
    """Each holds another fifth of the pictures out."""
    width: int = 96
    epochs: int = 12
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-2
    seed: int = 0
    """Of the training, never of a release."""


@dataclass(frozen=True, eq=False)
class TrainedOnPictures:
    """A classifier with its document and arrays, and how well it predicts pictures that it did not learn from.

    `cross_entropy` in nats for each network; log K is chance, and what the privacy noise leaves above 0 stays.
    """

    model: ConvolutionalModel
    tensors: dict[str, Tensor]
    classifier: Convolutional
    records: int
    cross_entropy: tuple[float, ...]


FOLDS = 5
_SHIFT = 2  # pixels of 28


def train_on_pictures(
    pictures: PictureSet, recipe: ImageRecipe | None = None, progress: Progress = lambda network, epoch: None
) -> TrainedOnPictures:
    """Train networks on released pictures and their labels.

    Raises:
        WaitingError: fewer than 10 pictures: none could be held out.
        ParameterError: more networks than fifths.
    """
    recipe = recipe or ImageRecipe()
    count, spec = len(pictures.labels), pictures.spec
    if count < 2 * FOLDS:
        raise WaitingError(
            f"campaign {pictures.campaign.name} has {count} pictures; {2 * FOLDS} are needed to learn from some and "
            "hold others out: gather more first"
        )
    if not 1 <= recipe.networks <= FOLDS:
        raise ParameterError(f"asked for {recipe.networks} networks; each holds out another fifth, so give 1 to 5")
    images = (torch.tensor(pictures.pixels).float()[:, None] + 0.5) / 256
    labels = torch.tensor(pictures.labels)
    generator = torch.Generator().manual_seed(recipe.seed)
    fold = torch.randperm(count, generator=generator) % FOLDS
    tensors: dict[str, Tensor] = {}
    for index in range(recipe.networks):
        network = _initialised(PictureNet(spec.side, spec.classes, recipe.width), generator)
        learnt = torch.nonzero(fold != index)[:, 0]
        _train(network, images, labels, learnt, recipe, generator, partial(progress, index))
        tensors |= {f"{index}.{name}": tensor for name, tensor in stored(network).items()}
    shape = ConvolutionalModel(
        classes=spec.classes, side=spec.side, width=recipe.width, networks=recipe.networks, scores_spread="1.0"
    )
    # Judged as they are stored, and each by the pictures that it did not learn from.
    classifier, losses, margins = shape.ready(tensors), [], []
    for index, network in enumerate(classifier.networks):
        scores = Convolutional(spec.side, (network,)).of_pictures(images[fold == index])
        losses.append(float(functional.nll_loss(torch.from_numpy(scores).log_softmax(1), labels[fold == index])))
        margins.append(scores[:, 1:] - scores[:, :1])
    spread = max(1e-9, float(np.concatenate(margins).std()))
    model = shape.model_copy(update={"scores_spread": f"{spread:.9f}"})
    return TrainedOnPictures(model, tensors, classifier, count, tuple(losses))


def _train(
    network: PictureNet,
    images: Tensor,
    labels: Tensor,
    learnt: Tensor,
    recipe: ImageRecipe,
    generator: torch.Generator,
    progress: Callable[[int], None],
) -> None:
    """Train on the rows that are to be learnt from, in an order drawn anew for each epoch."""
    batch = min(recipe.batch, len(learnt))
    steps = len(learnt) // batch
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.epochs * steps)
    network.train()
    for epoch in range(recipe.epochs):
        order = learnt[torch.randperm(len(learnt), generator=generator)]
        for step in range(steps):
            some = order[step * batch : (step + 1) * batch]
            loss = functional.cross_entropy(network(_varied(images[some], generator)), labels[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        progress(epoch)
    network.eval().requires_grad_(False)


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures mirrored by a coin, a batch moved by up to a fourteenth of its side, contrast and brightness changed."""
    count, most = len(images), max(1, round(_SHIFT * images.shape[-1] / 28))
    mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    down, right = (int(n) for n in torch.randint(-most, most + 1, (2,), generator=generator))
    images = torch.roll(images, (down, right), (2, 3))
    contrast = 1 + 0.1 * torch.randn(count, 1, 1, 1, generator=generator)
    return images * contrast + 0.05 * torch.randn(count, 1, 1, 1, generator=generator)


def _initialised(network: PictureNet, generator: torch.Generator) -> PictureNet:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return network
