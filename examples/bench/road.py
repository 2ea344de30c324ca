"""The whole road's figure: what privacy and ledger add to reading and encoding an X-ray."""

from __future__ import annotations

import statistics
import tempfile
from datetime import date
from pathlib import Path

import torch

from examples.bench.one_site import approved_site
from examples.bench.rows import ROUNDS, Row, row, seconds
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.installed import open_bundle
from ldp_client.privacy.noise import SystemSource
from ldp_client.release import release
from ldp_client.site import data_set

XRAYS = 512


def file_to_record() -> Row:
    """X-ray files to sealed records, against the same files decoded and encoded without privacy or ledger."""
    encoder = open_bundle("shipped:kermany28", Path())
    pairs = [_road_and_bare(encoder) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return row("file to sealed record", XRAYS, "images/s", XRAYS / ours, XRAYS / theirs, 0.8)


def _road_and_bare(encoder: Encoder) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, approved_site(Path(folder), XRAYS) as (site, campaign):
        held, source = data_set(site, campaign), SystemSource()

        def bare() -> None:
            for start in range(0, XRAYS, 100):
                xrays = [held.read(item) for item in held.items[start : start + 100]]
                encoder.encode(
                    torch.stack(
                        [encoder.prepare(x.pixels, inverted=x.inverted, window=x.window, bits=x.bits) for x in xrays]
                    )
                )

        bare()
        without = seconds(bare)
        road = seconds(
            lambda: release(campaign, held, ledger=site.ledger, encoder=encoder, source=source, today=date.today)
        )
        return road, without


def rows() -> list[Row]:
    """Every figure of this suite."""
    return [file_to_record()]
