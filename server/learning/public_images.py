"""Public X-rays from where a data scientist has them: an array file, or a folder of radiographs."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from ldp_client.errors import ConfigurationError, ParameterError, QuarantinedError
from ldp_client.flow.encoder import Encoder
from ldp_client.flow.preprocess import prepare
from ldp_client.imaging.dicom import is_dicom, read_dicom
from ldp_client.imaging.raster import is_raster, read_raster
from ldp_client.imaging.xray import MIN_SECRET_BYTES, Radiograph

USUAL_KEYS = ("train_images", "images")
_BATCH = 256

# TypeError: one bare array (.npy). EOFError, BadZipFile, zlib.error: cut off or damaged.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile, zlib.error)


def read_images(path: Path, *, key: str, split: str, side: int) -> NDArray[np.uint8]:
    """Read public images (N, H, W) uint8.

    Args:
        path: an .npz, or a folder, whose DICOM, PNG and JPEG files are prepared as at a hospital (window, photometric
            inversion, middle square, area average to `side` pixels); subfolders count, other files do not.
        key: the array of the .npz; empty takes `train_images` or `images`.
        split: only rows of the .npz whose field `split` says so; empty takes all.

    Raises:
        ConfigurationError: no images there, a `split` that does not say one thing of each, or a radiograph that cannot
            be read.
    """
    images = _from_folder(path, side) if path.is_dir() else _from_arrays(path, key, split)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ConfigurationError(f"{path.name!r} holds {images.shape} {images.dtype}; give (N, H, W) of uint8")
    if not images.size:
        of = f" of the split {split!r}" if split else ""
        raise ConfigurationError(f"{path.name!r} holds no image{of}; name a file or a split that does")
    return images


def encoded(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All coordinates that an encoder gives public images (N, H, W) uint8: (N, D)."""
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([encoder.encode(torch.stack([encoder.prepare(one) for one in part])) for part in parts])


def require_different(images: NDArray[np.uint8], purpose: str) -> None:
    """Return if there is something to learn from public images (N, H, W): at least two, and not all alike.

    Raises:
        ParameterError: there is not.
    """
    if len(images) < 2:
        raise ParameterError(f"asked to {purpose} on {len(images)} public X-ray; give at least 2 X-rays that differ")
    if (images == images[0]).all():
        raise ParameterError(
            f"asked to {purpose} on {len(images)} public X-rays, which are all alike; give X-rays that differ"
        )


def _from_arrays(path: Path, key: str, split: str) -> NDArray[np.uint8]:
    try:
        # Opened here: np.load would leave a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            name = key or next((usual for usual in USUAL_KEYS if usual in arrays), USUAL_KEYS[0])
            images: NDArray[np.uint8] = arrays[name]
            if not split or images.ndim != 3:
                return images
            parts = arrays["split"]
            if parts.shape != (len(images),):
                raise ConfigurationError(
                    f"asked for the split {split!r} of {path.name!r}, whose field `split` has the shape {parts.shape}; "
                    f"give one word for each of its {len(images)} images, or ask for no split"
                )
            chosen: NDArray[np.uint8] = images[parts == split]
            return chosen
    except _UNREADABLE as error:
        raise ConfigurationError(
            f"asked for public images in {path.name!r}; give an .npz with an array "
            f"{key or ' or '.join(USUAL_KEYS)!r} (N, H, W) of uint8 (and `split`, if asked for), or a folder of DICOM, "
            "PNG and JPEG files"
        ) from error


def _from_folder(folder: Path, side: int) -> NDArray[np.uint8]:
    # Whose X-rays these are is of no interest here: a secret that is forgotten makes keys that lead nowhere.
    secret, images = os.urandom(MIN_SECRET_BYTES), []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        try:
            radiograph = _radiograph(file.read_bytes(), secret)
            if radiograph is not None:
                images.append(_small(radiograph, side))
        except (QuarantinedError, OSError) as error:
            raise ConfigurationError(
                f"{file.relative_to(folder)} of {folder.name!r} cannot be used: {error}; take it out of the folder"
            ) from error
    if not images:
        raise ConfigurationError(f"folder {folder.name!r} holds no DICOM, PNG or JPEG file; name one that does")
    return np.stack(images)


def _radiograph(data: bytes, secret: bytes) -> Radiograph | None:
    if is_dicom(data):
        return read_dicom(data, secret)
    return read_raster(data) if is_raster(data) else None


def _small(radiograph: Radiograph, side: int) -> NDArray[np.uint8]:
    tensor = prepare(
        radiograph.pixels,
        inverted=radiograph.inverted,
        window=radiograph.window,
        bits=radiograph.bits,
        content=side,
        size=side,
    )
    grey: NDArray[np.uint8] = (tensor[0].numpy() * 256).astype(np.uint8)
    return grey
