"""The card and weights of a classifier that was learnt from pictures."""

from __future__ import annotations

from safetensors.torch import save

from ldp_client.diagnosis.bundle import ClassifierCard
from ldp_client.wire.campaign import Campaign
from server.learning.classifier_bundle import decimal_text, learnt_from
from server.learning.image_training import TrainedOnPictures


def image_card(name: str, campaign: Campaign, trained: TrainedOnPictures, command: str) -> tuple[ClassifierCard, bytes]:
    """What `write_classifier` takes of networks that `train_on_pictures` made: the card, and a safetensors file."""
    card = ClassifierCard(
        name=name,
        purpose=campaign.purpose,
        encoder=campaign.encoder,
        label_names=campaign.label_names,
        learnt_from=(learnt_from(campaign, trained.records),),
        spread=decimal_text(trained.model.spread()),
        model=trained.model,
        command=command,
    )
    return card, save({name: tensor.contiguous() for name, tensor in trained.tensors.items()})
