"""Synthetic chest phantoms: drawings with the parts of a frontal chest film, for tests and for a demo without data.

Each is made of soft shapes (trunk, lungs, heart, spine, ribs, clavicles, diaphragm, vessels) whose places and
strengths are drawn at random; pneumonia adds a veil and patchy opacities inside the lungs. Grey statistics lie near
PneumoniaMNIST's. They are no model of disease: a result on phantoms says that the software runs, nothing more.

Coordinates: x to the right and y down, the frame is [-1, 1] x [-1, 1]; the patient's right lung is on the left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldp_client.errors import ParameterError

# Drawn in float32, three times faster: numbers that meet a plane are Python floats, since numpy scalars would widen it.
_Plane = NDArray[np.floating[Any]]
_RENDER_SIDE = 84  # drawn at least this large, then averaged down, so that ribs stay lines at 28 px


def phantoms(
    count: int, size: int, seed: int, *, pneumonia_share: float = 0.5
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw synthetic chest phantoms. The same arguments give the same images under one version of numpy.

    Args:
        count: how many, at least 1.
        size: side in pixels, 28 to 256.
        seed: of numpy's generator; phantoms are no release, so a seed is right here.
        pneumonia_share: share of label 1, in 0 to 1, rounded to whole images.

    Returns:
        images (count, size, size) uint8 and labels (count,) uint8, 1 for pneumonia, in random order.

    Raises:
        ParameterError: an argument outside its range.
    """
    if count < 1 or not 28 <= size <= 256 or not 0 <= pneumonia_share <= 1:
        raise ParameterError(
            f"asked for {count} phantoms of {size} px with a pneumonia share of {pneumonia_share}; "
            "give at least 1, 28 to 256 px and a share in 0 to 1"
        )
    generator = np.random.default_rng(seed)
    labels = np.zeros(count, dtype=np.uint8)
    labels[: round(count * pneumonia_share)] = 1
    generator.shuffle(labels)
    images = np.stack([_phantom(size, bool(label), generator) for label in labels])
    return images, labels


def _phantom(size: int, ill: bool, generator: np.random.Generator) -> NDArray[np.uint8]:
    factor = -(-_RENDER_SIDE // size)
    x, y = _frame(size * factor, ill, generator)
    severity = float(generator.beta(1.6, 1.5)) if ill else float(generator.beta(1.0, 14.0))
    lungs, heart, cage = _chest(x, y, generator)
    bones = _bones(x, y, cage, generator)
    veil, patches = _opacities(x, y, severity, generator)

    air = lungs * (1 - 0.80 * np.clip(veil + patches, 0, 1))
    vessels = _vessels(x, y, generator) * (1 + 0.5 * severity)
    trunk = _trunk(x, y, generator)
    flesh = 0.60 + 0.035 * _wave(x, y, 1.5, generator) + 0.015 * _wave(x, y, 5.0, generator)
    flesh = flesh - 0.16 * np.clip(np.abs(x) - 0.45, 0, None) * _soft(0.3 - y, 0.3)
    grey = flesh + 0.08 * heart + 0.13 * _below(x, y, generator)
    grey = grey - max(0.25, generator.normal(0.37, 0.05)) * air + 0.13 * vessels * air
    grey = grey + bones * (1 - 0.45 * np.clip(veil + patches, 0, 1) * lungs)
    grey = grey * trunk
    film = _expose(grey, severity, generator)
    small = film.reshape(size, factor, size, factor).mean(axis=(1, 3))
    noisy = small + generator.normal(0, 2.0, small.shape)
    image: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return image


def _frame(side: int, ill: bool, generator: np.random.Generator) -> tuple[_Plane, _Plane]:
    """Coordinates of the pixels, turned, moved and zoomed a little: no two patients stand alike."""
    line = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    x, y = np.meshgrid(line, line)
    turn = generator.normal(0, 0.045)
    # Sick children are filmed lying and closer.
    zoom = generator.normal(0.90 if ill else 0.97, 0.07)
    x, y = x + generator.normal(0, 0.05), y + generator.normal(-0.02, 0.05)
    cos, sin = math.cos(turn) * zoom, math.sin(turn) * zoom
    return cos * x + sin * y, cos * y - sin * x


def _chest(x: _Plane, y: _Plane, generator: np.random.Generator) -> tuple[_Plane, _Plane, _Plane]:
    """Lungs and heart as soft masks, and the cage as a distance (1 on its wall)."""
    width, apex = generator.normal(0.84, 0.045), generator.normal(-0.86, 0.04)
    floor = generator.normal(0.58, 0.07)
    # The cage narrows towards the apex: half width w(y), an arch closed at the top.
    height = np.clip((y - apex) / (floor - apex), 0, None)
    half = width * np.clip(height, 1e-6, 1.3) ** 0.38
    cage = np.abs(x - 0.01) / (half + 1e-3)
    spread = generator.normal(0.17, 0.025)
    middle = spread + 0.10 * np.clip(y + 0.1, 0, None) + 0.10 * np.clip(-0.55 - y, 0, None)
    place = generator.normal((0.13, 0.20), 0.03).tolist()
    tilt = generator.normal(0.95, 0.10)
    radii = np.abs(generator.normal((0.52, 0.30), 0.035)).tolist()
    heart = _ellipse(x - place[0], y - place[1], radii[0], radii[1], tilt, 0.13)
    left, right = generator.normal(floor - 0.07, 0.04), generator.normal(floor, 0.04)
    dome = np.where(x < 0, left, right) + 0.45 * (np.abs(np.abs(x) - 0.42)) ** 1.6
    lungs = _soft(1 - cage, 0.035) * _soft(np.abs(x - 0.02) - middle, 0.045) * _soft(dome - y, 0.035)
    lungs = lungs * (1 - heart) * _soft(y - apex, 0.03)
    return lungs, np.maximum(heart, 0.8 * _soft(middle - np.abs(x - 0.02), 0.07)), cage


def _bones(x: _Plane, y: _Plane, cage: _Plane, generator: np.random.Generator) -> _Plane:
    """Ribs behind and in front, the cage's wall, clavicles and spine, as added brightness."""
    out = np.abs(x)
    gap, strength = generator.normal(0.165, 0.012), max(0.03, generator.normal(0.095, 0.025))
    inside = _soft(1.03 - cage, 0.03)
    # Posterior ribs leave the spine, rise a little and fall towards the side; anterior ones fall towards the middle.
    behind = y - 0.55 * out**2 + 0.10 * out
    before = y + 0.55 * out**2 - 0.95 * out
    phase = generator.uniform(0, gap, 2).tolist()
    ribs = _stripes(behind - phase[0], gap, 0.30) + 0.35 * _stripes(before - phase[1], gap * 1.15, 0.25)
    ribs = ribs * inside * (0.25 + 0.75 * _soft(0.55 - y, 0.12)) * _soft(out - 0.10, 0.04)
    wall = np.exp(-(((cage - 1.0) / 0.05) ** 2)) * _soft(0.6 - y, 0.1) * _soft(y + 0.75, 0.05)
    rise = generator.normal(0.22, 0.05)
    clavicle = (
        np.exp(-(((y + 0.66 + rise * (out - 0.1)) / 0.032) ** 2)) * _soft(out - 0.10, 0.03) * _soft(0.8 - out, 0.06)
    )
    discs = 0.72 + 0.28 * np.cos(2 * np.pi * (y + phase[0]) / (gap * 0.95))
    spine = np.exp(-((x / 0.115) ** 4)) * discs
    bones: _Plane = strength * (ribs + 0.9 * wall + 1.1 * clavicle) + generator.normal(0.10, 0.02) * spine
    return bones


def _below(x: _Plane, y: _Plane, generator: np.random.Generator) -> _Plane:
    """The abdomen: bright, with a bubble of stomach gas below the left diaphragm in some."""
    belly = _soft(y - 0.55, 0.12)
    if generator.random() < 0.35:
        place = generator.normal((0.42, 0.80), 0.06).tolist()
        radii = np.abs(generator.normal((0.20, 0.10), 0.03)).tolist()
        belly = belly - 1.3 * _ellipse(x - place[0], y - place[1], radii[0], radii[1], 0.2, 0.4)
    return belly


def _trunk(x: _Plane, y: _Plane, generator: np.random.Generator) -> _Plane:
    """Soft tissue against the dark around it: neck, shoulders, flanks."""
    flank = generator.normal(1.08, 0.09)
    shoulder = generator.normal(-1.06, 0.09)
    # Below the shoulders the trunk runs a little in; the arms fill the frame beside it in most.
    body = _soft(flank - np.abs(x) - 0.05 * y, 0.03)
    body = body * _soft(y - shoulder - 0.30 * np.clip(np.abs(x) - 0.30, 0, None) ** 1.3, 0.05)
    neck = _soft(0.36 - np.abs(x), 0.06) * _soft(0.2 - y, 0.05)
    return np.clip(0.06 + np.maximum(body, neck), 0, 1)


def _vessels(x: _Plane, y: _Plane, generator: np.random.Generator) -> _Plane:
    """Branching shadows, strongest at the two hila."""
    texture = np.abs(_wave(x, y, 7.0, generator)) + 0.6 * np.abs(_wave(x, y, 13.0, generator))
    hila = np.exp(-(((np.abs(x) - 0.24) / 0.18) ** 2) - ((y + 0.02) / 0.34) ** 2)
    return texture * (0.30 + 0.9 * hila) + 0.35 * hila


def _opacities(x: _Plane, y: _Plane, severity: float, generator: np.random.Generator) -> tuple[float, _Plane]:
    """A veil over both lungs and one to three patches with ragged edges, both growing with severity."""
    veil = severity * float(generator.uniform(0.10, 0.65))
    patches = np.zeros_like(x)
    for _ in range(int(generator.integers(1, 4))):
        side = float(generator.choice((-1.0, 1.0)))
        place = side * generator.uniform(0.25, 0.60), generator.uniform(-0.45, 0.45)
        radii = generator.uniform(0.14, 0.26 + 0.34 * severity, 2).tolist()
        ragged = 1 + 0.35 * _wave(x, y, 5.0, generator)
        blob = _ellipse(x - place[0], y - place[1], radii[0], radii[1], generator.uniform(0, np.pi), 0.5)
        patches = patches + blob * ragged * (severity * generator.uniform(0.5, 1.1))
    return veil, np.clip(patches, 0, 1)


def _expose(grey: _Plane, severity: float, generator: np.random.Generator) -> _Plane:
    """Film: tone curve and exposure; sick children's films are flatter and vary more."""
    contrast = generator.normal(250 - 40 * severity, 18)
    level = generator.normal(141, 12 + 10 * severity)
    film = level + contrast * (grey - 0.57)
    # Shoulder and toe of the tone curve, so that bone and air do not end in flat white and black.
    return np.asarray(127.5 + 127.5 * np.tanh((film - 127.5) / 120))


def _soft(distance: _Plane, edge: float) -> _Plane:
    """1 where distance is positive, 0 where negative, with a soft edge."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / edge))


def _ellipse(x: _Plane, y: _Plane, a: float, b: float, tilt: float, edge: float) -> _Plane:
    u, v = math.cos(tilt) * x + math.sin(tilt) * y, math.cos(tilt) * y - math.sin(tilt) * x
    return _soft(1 - np.sqrt((u / a) ** 2 + (v / b) ** 2), edge)


def _stripes(distance: _Plane, gap: float, share: float) -> _Plane:
    """Bands of one `gap` between centres, bright over about `share` of it."""
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * distance / gap)
    return np.asarray(wave ** (1 / share - 1))


def _wave(x: _Plane, y: _Plane, frequency: float, generator: np.random.Generator) -> _Plane:
    """Smooth noise of about unit strength: eight plane waves of random direction and phase."""
    total = np.zeros_like(x)
    for _ in range(8):
        angle, phase = generator.uniform(0, 2 * np.pi, 2).tolist()
        pace = frequency * generator.uniform(0.6, 1.4)
        total += np.cos(pace * (math.cos(angle) * x + math.sin(angle) * y) + phase)
    return total / 2
