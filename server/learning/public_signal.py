"""How well public labelled X-rays can be told apart by what an encoder says of them: the AUC without noise.

It is the one number that a forecast cannot do without, and public X-rays are the only ones on which it may be measured.
The classifier is the one that records teach: the difference of class means. It is fitted on four fifths and scores the
fifth that it has not seen, five times. What the figure is not: hospitals' X-rays may be harder. Copies of one X-ray, or
several X-rays of one patient, in different fifths make it too good.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ldp_client.errors import ConfigurationError
from ldp_client.flow.encoder import Encoder
from ldp_client.privacy.labels import simplex
from server.learning.public_images import USUAL_KEYS, encoded, read_images

LABEL_KEYS = ("train_labels", "labels")
FIFTHS = 5
LEAST_OF_A_LABEL = 20


@dataclass(frozen=True, eq=False)
class PublicSignal:
    """Encoder outputs (n, k) of public X-rays and, where these have labels, how well and how often which label."""

    outputs: NDArray[np.float64]
    auc: float | None
    prevalence: tuple[float, ...] | None

    def sentence(self) -> str:
        """What was looked at."""
        if self.auc is None or self.prevalence is None:
            return f"{len(self.outputs):,} public X-rays without labels: what clips leave is measured on them"
        shares = ", ".join(f"{share:.2g}" for share in self.prevalence)
        return (
            f"{len(self.outputs):,} public X-rays, labels as frequent as {shares}: a classifier without noise reaches "
            f"AUC {self.auc:.3f} on those of them that it has not seen"
        )


def measure(encoder: Encoder, path: Path, dimension: int, *, split: str = "") -> PublicSignal:
    """Encode public X-rays and, where labels stand beside them, measure the AUC without noise.

    Args:
        encoder: the encoder that the campaign would name.
        path: an .npz with `train_images` or `images` (N, H, W) uint8 and, if it has labels, `train_labels` or `labels`
            (N,) or (N, 1) from 0 to K-1, all of them in use; or a folder of radiographs, which has no labels.
        dimension: how many of the encoder's coordinates are looked at, the first ones.
        split: only rows whose field `split` says so.

    Raises:
        ConfigurationError: no such images; labels that are not one whole number for each of them, or that leave a label
            with fewer than 20 X-rays.
    """
    images = read_images(path, key="", split=split, side=encoder.content)
    if not len(images):
        raise ConfigurationError(f"{path.name!r} has no X-ray of the split {split!r}; name another --public-split")
    labels = None if path.is_dir() else _labels(path, split, len(images))
    outputs = encoded(encoder, images)[:, :dimension]
    if labels is None:
        return PublicSignal(outputs, None, None)
    counts = np.bincount(labels)
    if len(counts) < 2 or int(counts.min()) < LEAST_OF_A_LABEL:
        raise ConfigurationError(
            f"{path.name!r}: every label from 0 on needs at least {LEAST_OF_A_LABEL} public X-rays, of at least 2 "
            f"labels; found {', '.join(map(str, counts.tolist()))}"
        )
    return PublicSignal(outputs, held_out_auc(outputs, labels), tuple((counts / len(labels)).tolist()))


def held_out_auc(outputs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The mean AUC over pairs of labels and over fifths, each scored by the class means of the other four."""
    fifth = np.empty(len(labels), dtype=np.int64)
    # Each label's X-rays are dealt out by chance, and by the same chance every time: these are public.
    order = np.random.default_rng(0).permutation(len(labels))
    for label in np.unique(labels):
        of_label = order[labels[order] == label]
        fifth[of_label] = np.arange(len(of_label)) % FIFTHS
    codes, areas = simplex(int(labels.max()) + 1), []
    for held in range(FIFTHS):
        known = fifth != held
        means = np.stack([outputs[known & (labels == label)].mean(axis=0) for label in range(len(codes))])
        scores = outputs[~known] @ (codes.T @ means).T @ codes.T  # (n, K)
        for a, b in combinations(range(len(codes)), 2):
            either = np.isin(labels[~known], (a, b))
            areas.append(roc_auc_score(labels[~known][either] == a, (scores[:, a] - scores[:, b])[either]))
    return float(np.mean(areas))


def _labels(path: Path, split: str, count: int) -> NDArray[np.int64] | None:
    with np.load(path, allow_pickle=False) as arrays:
        # The labels that belong to the images which `read_images` takes.
        name = LABEL_KEYS[next(place for place, usual in enumerate(USUAL_KEYS) if usual in arrays)]
        if name not in arrays:
            return None
        labels: NDArray[np.generic] = arrays[name]
        labels = labels[arrays["split"] == split] if split else labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer) or int(labels.min()) < 0:
        raise ConfigurationError(
            f"{path.name!r}: {name} must be one whole number from 0 on for each of {count} X-rays; found "
            f"{' x '.join(map(str, labels.shape))} {labels.dtype}"
        )
    return labels.astype(np.int64)
