"""Public X-rays come from arrays or from folders of what hospitals have; what is neither is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ldp_client.errors import ConfigurationError
from server.learning.public_images import read_images


def read(path: Path, key: str = "", split: str = "", side: int = 10) -> NDArray[np.uint8]:
    return read_images(path, key=key, split=split, side=side)


def test_a_folder_of_dicom_png_and_jpeg_becomes_squares_of_one_size(
    tmp_path: Path, make_dicom: Callable[..., bytes], pixels: NDArray[np.uint8]
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.dcm").write_bytes(make_dicom())
    (tmp_path / "b.dcm").write_bytes(make_dicom(PhotometricInterpretation="MONOCHROME1"))
    Image.fromarray(pixels).save(tmp_path / "c.png")
    Image.fromarray(np.full((40, 30), 200, np.uint8)).save(tmp_path / "deep" / "d.jpeg")
    (tmp_path / "labels.csv").write_text("not an image")
    images = read(tmp_path)
    assert images.shape == (4, 10, 10)
    assert images.dtype == np.uint8
    middle = pixels[:, 5:45].reshape(10, 4, 10, 4).mean((1, 3))
    np.testing.assert_array_equal(images[0], np.floor(middle + 0.5))
    assert np.abs(images[0].astype(int) + images[1] - 255).max() <= 1  # the negative, up to rounding
    np.testing.assert_array_equal(images[0], images[2])
    assert (images[3] == 200).all()


def test_arrays_are_found_by_their_usual_names_and_by_split(tmp_path: Path) -> None:
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "x.npz", images=images, split=np.array(["public", "test", "public"]))
    np.savez(tmp_path / "y.npz", train_images=images[:1], images=images)
    np.testing.assert_array_equal(read(tmp_path / "x.npz"), images)
    np.testing.assert_array_equal(read(tmp_path / "x.npz", split="public"), images[[0, 2]])
    np.testing.assert_array_equal(read(tmp_path / "y.npz"), images[:1])
    np.testing.assert_array_equal(read(tmp_path / "y.npz", key="images"), images)


def test_a_folder_without_radiographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"folder '.*' holds no DICOM, PNG or JPEG file; name one that does"):
        read(tmp_path)


def test_a_radiograph_that_cannot_be_read_is_named(tmp_path: Path, make_dicom: Callable[..., bytes]) -> None:
    (tmp_path / "broken.dcm").write_bytes(make_dicom()[:600])
    with pytest.raises(ConfigurationError, match=r"broken.dcm of '.*' cannot be used: .*; take it out of the folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["absent.npz", "bare.npy", "text.npz"])
def test_files_without_an_array_of_images_are_refused(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "bare.npy", np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ConfigurationError, match=rf"asked for public images in '{name}'; give an .npz with an array"):
        read(tmp_path / name)


def test_arrays_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", images=np.zeros((4, 4)))
    with pytest.raises(ConfigurationError, match=r"'flat.npz' holds \(4, 4\) float64; give \(N, H, W\) of uint8"):
        read(tmp_path / "flat.npz")
