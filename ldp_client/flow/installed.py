"""The encoder bundle that a configuration names."""

from __future__ import annotations

from pathlib import Path

from ldp_client.flow.encoder import Encoder, shipped

SHIPPED = "shipped:"


def open_bundle(name: str, folder: Path) -> Encoder:
    """Load "shipped:NAME", which came with the package, or a bundle's folder, relative to `folder`.

    Raises:
        EncoderError: no such bundle, or one that is not a usable encoder.
    """
    if name.startswith(SHIPPED):
        return Encoder.load(shipped(name.removeprefix(SHIPPED)))
    return Encoder.load(folder / name)
