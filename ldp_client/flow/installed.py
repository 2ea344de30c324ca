"""The encoder bundle that a configuration names."""

from __future__ import annotations

from pathlib import Path

from ldp_client.errors import EncoderError
from ldp_client.flow.encoder import Encoder, read_card, shipped, shipped_names

SHIPPED = "shipped:"


def bundle_folder(name: str, folder: Path) -> Path:
    """Where "shipped:NAME", which came with the package, or a bundle's folder, relative to `folder`, lies.

    Raises:
        EncoderError: nothing of that name came with the package.
    """
    return shipped(name.removeprefix(SHIPPED)) if name.startswith(SHIPPED) else folder / name


def open_bundle(name: str, folder: Path) -> Encoder:
    """Load "shipped:NAME" or a bundle's folder, relative to `folder`.

    Raises:
        EncoderError: no such bundle, or one that is not a usable encoder.
    """
    return Encoder.load(bundle_folder(name, folder))


def open_shipped(digest: str) -> Encoder:
    """The encoder of this digest among those that came with the package.

    Raises:
        EncoderError: there is none.
    """
    for name in shipped_names():
        if read_card(shipped(name)).digest == digest:
            return Encoder.load(shipped(name))
    raise EncoderError(
        f"the encoder {digest[:12]} did not come with this package, which has {', '.join(shipped_names()) or 'none'}; "
        "ask the centre for its bundle and name the folder"
    )
