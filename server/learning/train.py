"""From joint releases to a classifier: post-processing, which costs no epsilon.

A record is s_y (x) z plus noise of mean 0, so the mean of N records estimates

    E[s_y (x) z]  =  2 pi_0 pi_1 (mu_1 - mu_0) + (pi_1 - pi_0) E[z]        (two classes, s = -1 / +1)

with a standard error of sqrt((signal variance + noise variance) / N) per coordinate. The bottleneck is whitened and
centred on public images, so with E[z] near 0 this is the direction of Fisher's discriminant up to scale.

Adding records or sites needs no retraining from nothing: the mean is a sum that goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldp_client.diagnosis.classifier import LinearClassifier
from ldp_client.errors import FormatError, WaitingError
from ldp_client.privacy.laplace import decode, noise_variance
from ldp_client.wire.campaign import Campaign, campaign_id
from ldp_client.wire.record import unpack


@dataclass(frozen=True)
class TrainingSet:
    """Decoded records of one campaign. `vectors` has shape (N, (K-1) k), in encoder units."""

    campaign: Campaign
    vectors: NDArray[np.float64]

    @classmethod
    def from_payloads(cls, campaign: Campaign, payloads: Iterable[bytes]) -> TrainingSet:
        """Unpack and decode stored records.

        Raises:
            WaitingError: there are none yet.
            FormatError: a stored record is not of this campaign: the database was altered.
        """
        spec = campaign.release
        try:
            steps = [unpack(payload, spec) for payload in payloads]
        except FormatError as error:
            raise FormatError(f"a stored record does not fit campaign {campaign.name}: {error}") from error
        if not steps:
            raise WaitingError(f"campaign {campaign.name} has no records yet; gather first")
        return cls(campaign, decode(np.stack(steps), spec.laplace))


@dataclass(frozen=True)
class Trained:
    """A classifier and how far the noise alone may have moved each coordinate of its mean (one standard deviation)."""

    classifier: LinearClassifier
    noise_error: float


def train(training_set: TrainingSet) -> Trained:
    """The mean of the releases as a linear classifier."""
    campaign, spec = training_set.campaign, training_set.campaign.release
    count = len(training_set.vectors)
    mean = training_set.vectors.mean(axis=0).reshape(spec.classes - 1, spec.bottleneck_dimension)
    classifier = LinearClassifier(
        encoder=campaign.encoder,
        campaign=campaign_id(campaign),
        label_names=campaign.label_names,
        records=count,
        mean=tuple(tuple(repr(float(value)) for value in row) for row in mean),
    )
    return Trained(classifier, math.sqrt(noise_variance(spec.laplace) / count))
