"""What the public encoder makes of every X-ray of a file: computed once, kept in the resume folder.

The folder's name has the digests of the file, of the encoder and of the code that encodes, so another one never meets
these numbers.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ldp_client.errors import EncoderError, ParameterError
from ldp_client.flow.bottleneck import Bottleneck, fit_level, fit_whitened_pca
from ldp_client.flow.encoder import Encoder, EncoderCard
from server.benchmarks.local_statistics import local_statistics
from server.benchmarks.provenance import encoding_digest
from server.benchmarks.resume import write_array
from server.benchmarks.tasks import Archive

SHIPPED_FOR = {"pneumoniamnist": "shipped:kermany28"}
OTHERWISE = "shipped:kermany64-groups"
OF_THE_FLOW = ("bottleneck", "map", "level")
"""How the name of a view begins that is made from the flow's output."""
_CHUNK = 512
Floats = NDArray[np.float64]
Step = Callable[[int, int], None]


class Encoded:
    """A file's X-rays as the numbers that releases read. Every array is row-aligned with the file.

    Attributes:
        maps: (N, D), the log-scale map.
        latents: (N, size^2), all latents, the finest level first.
        contrast: (N, D), the log-scale map of the hospitals' X-rays at 0.8 of their contrast; the others as they are.
        bottleneck: the encoder's own.
        levels: of the flow; the map holds one part of equal length for each, the finest first.
        opened: the encoder itself, for what cannot be computed beforehand.
    """

    def __init__(
        self,
        archive: Archive,
        encoder: str,
        bottleneck: Bottleneck,
        *,
        maps: Floats,
        latents: NDArray[np.float32],
        contrast: Floats,
        levels: int = 1,
        opened: Encoder | None = None,
    ) -> None:
        self.archive, self.encoder, self.bottleneck, self.opened = archive, encoder, bottleneck, opened
        self.maps, self.latents, self.contrast, self.levels = maps, latents, contrast, levels
        self._views: dict[str, Floats] = {}

    @cached_property
    def statistics(self) -> Floats:
        """Hand-made local statistics (N, S), made without the flow."""
        return local_statistics(self.archive.images)

    def view(self, name: str) -> Floats:
        """The numbers that a release takes of each X-ray, (N, k).

        `bottleneck K`: the first K coordinates of the encoder's own bottleneck. `map K` and `statistics K`: the first K
        whitened principal components, fitted on the public pool without labels (`flow.bottleneck`). `level2 K`: those
        of the second level of the map alone (`flow.bottleneck.fit_level`). `map` and `statistics`: all numbers, each of
        mean 0 and variance 1 over the pool. `latents` and `pixels`: all of them, pixels from -1 (black) to 1. `dim` and
        one of the flow's: of the X-rays at 0.8 of their contrast.

        Raises:
            ParameterError: there is no such view, or it has fewer coordinates.
        """
        if name not in self._views:
            self._views[name] = self._make(name)
        return self._views[name]

    def _make(self, name: str) -> Floats:
        if name == "latents":
            return self.latents.astype(np.float64)
        if name == "pixels":
            return self.archive.images.reshape(len(self.archive.images), -1) / 127.5 - 1
        if name in ("map", "statistics"):
            whole = self.maps if name == "map" else self.statistics
            pool = whole[self.archive.pool]
            spread = pool.std(0)
            standard: Floats = (whole - pool.mean(0)) / np.where(spread > 0, spread, 1)
            return standard
        kind, _, number = name.removeprefix("dim ").partition(" ")
        level = kind.removeprefix("level") if kind.startswith("level") else ""
        if not (kind in ("bottleneck", "map", "statistics") or level.isdecimal()) or not number.isdecimal():
            raise ParameterError(
                f"there is no view {name!r}; ask for bottleneck, map, level1 or statistics and a number, for map or "
                "statistics alone, latents or pixels"
            )
        if kind == "statistics":
            # Brought to one scale first: a grey level and the log of an energy have no common one.
            whole = self.view("statistics")
            return fit_whitened_pca(whole[self.archive.pool], int(number))(whole)
        maps = self.contrast if name.startswith("dim ") else self.maps
        if kind == "map":
            return fit_whitened_pca(self.maps[self.archive.pool], int(number))(maps)
        if level:
            return fit_level(self.maps[self.archive.pool], self.levels, int(level), int(number))(maps)
        if int(number) > self.bottleneck.dimension:
            raise ParameterError(
                f"asked for {number} coordinates of a bottleneck that has {self.bottleneck.dimension}; use an encoder "
                "with more, or a view of its map"
            )
        return self.bottleneck(maps)[:, : int(number)]


def encode_archive(archive: Archive, encoder: Encoder, folder: Path, step: Step = lambda done, of: None) -> Encoded:
    """Encode every X-ray, or read what an earlier run of the same file, encoder and code left in `folder`.

    Raises:
        EncoderError: the encoder may have seen the hospitals' or the test X-rays (`refuse_crossing`).
    """
    refuse_crossing(archive, encoder.card)
    made_of = f"{archive.digest} {encoder.digest} {encoding_digest()}"
    cache = folder / f"encoded-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    hospital = archive.part == "hospital"
    starts = range(0, len(archive.images), _CHUNK)
    found: dict[str, list[NDArray[np.float32]]] = {"maps": [], "latents": [], "contrast": []}
    for done, start in enumerate(starts):
        rows = slice(start, start + _CHUNK)
        for kind, parts in found.items():
            file = cache / f"{kind}-{done:03}.npy"
            if not file.exists():
                images, theirs = archive.images[rows], hospital[rows]
                if kind == "contrast":  # of the hospitals' X-rays alone; nobody asks for it of others
                    values = found["maps"][-1].copy()
                    values[theirs] = _encode(encoder, kind, _dimmed(images[theirs]))
                else:
                    values = _encode(encoder, kind, images)
                write_array(file, values)
            parts.append(np.load(file, allow_pickle=False))
        step(done + 1, len(starts))
    maps, latents, contrast = (np.concatenate(found[kind]) for kind in found)
    return Encoded(
        archive,
        encoder.digest,
        encoder.bottleneck,
        maps=maps.astype(np.float64),
        latents=latents,
        contrast=contrast.astype(np.float64),
        levels=encoder.card.levels,
        opened=encoder,
    )


def refuse_crossing(archive: Archive, card: EncoderCard) -> None:
    """Return if the encoder was trained on this file's public X-rays, or on other photographs altogether.

    One photograph stands in several data sets of a family, divided otherwise: an encoder of the same family that was
    trained on another division may have seen the X-rays that it is tested on here. A card carries the command that made
    its encoder, and with it file and division.

    Raises:
        EncoderError: the same family (or a file that does not say its own), and not this division.
    """
    if archive.family not in (None, card.data_family):
        return
    name, division = archive.division
    for command in card.command.split("&&"):
        words = shlex.split(command)
        data = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--data"]
        if data != [name] or division not in " ".join(words):
            raise EncoderError(
                f"encoder {card.name!r} of the family {card.data_family!r} was trained on "
                f"{', '.join(data) or 'unnamed'} data; {archive.name} shows photographs of the same family in another "
                f"division ({name}, {division}), and it may have seen those that it would be tested on: use an encoder "
                "made from this file's public part"
            )


def _encode(encoder: Encoder, kind: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    if not len(images):
        return np.empty((0, encoder.card.shape.map_dimension), dtype=np.float32)
    prepared = torch.stack([encoder.prepare(image) for image in images])
    values = encoder.output("latents", prepared) if kind == "latents" else encoder.log_scale_map(prepared)
    return values.astype(np.float32)


def _dimmed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0.8 of the contrast around the middle grey, as a hospital with another apparatus may have it."""
    return np.rint((images.astype(np.float64) - 127.5) * 0.8 + 127.5).astype(np.uint8)
