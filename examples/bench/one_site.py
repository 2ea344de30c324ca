"""A site of phantoms whose officer has approved a campaign: what the benchmarks run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ldp_client.flow.encoder import read_card, shipped
from ldp_client.imaging.dataset import write_dataset
from ldp_client.imaging.phantoms import phantoms
from ldp_client.officer import approve, put_into_force
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.site import Site, create_site
from ldp_client.wire.campaign import Campaign, Policy
from ldp_client.wire.signing import SigningKey

LABELS = ("normal", "pneumonia")


@contextmanager
def approved_site(
    folder: Path, count: int, *, name: str = "bench", coordinates: int | None = None
) -> Iterator[tuple[Site, Campaign]]:
    """A new site with `count` phantoms, ready to release; by default all coordinates of the encoder."""
    officer, card = SigningKey(os.urandom(32)), read_card(shipped())
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=coordinates or card.dimension, radius=1)
    campaign = Campaign(
        name="bench",
        purpose="measure",
        encoder=card.digest,
        release=release,
        label_names=LABELS,
        unit="image",
        cap=1,
        micro_epsilon_per_record=release.loss.micro_epsilon,
        ends="2099-12-31",
    )
    site = create_site(folder / "site", name, "Bench", (officer.public_key,))
    try:
        images, labels = phantoms(count, 28, seed=3, pneumonia_share=0.5)
        write_dataset(site.folder / "xrays", images, labels, LABELS)
        policy = Policy(
            site=name, serial=1, encoders=(card.digest,), units=("image",), lifetime_micro_epsilon=8_000_000
        )
        put_into_force(site, policy, officer)
        approve(site, campaign, officer)
        yield site, campaign
    finally:
        site.close()
