"""The report's pictures as PNG: what left beside what it came from, budgets, and how well the classifier reads X-rays.

Figures are made without pyplot, so nothing global is opened or changed, and no window system is needed.
"""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from examples.demo.result import DemoResult, Example

INK, MUTED, RULE = "#1b2733", "#5b6875", "#d5dbe1"
TEAL, TEAL_PALE, AMBER = "#0b6e75", "#cfe6e7", "#b4540a"
# Also told apart without colour: the noiseless curve is dashed.
DPI = 160
MAX_INTEGERS = 6


def xrays_png(result: DemoResult) -> bytes:
    """A row for each example: the X-ray, the integers that left, the best reconstruction, the label guess."""
    rows = len(result.examples)
    figure = Figure(figsize=(10, 0.9 + 1.7 * max(rows, 1)), dpi=DPI, facecolor="white")
    top = 0.9 / float(figure.get_figheight())
    grid = figure.add_gridspec(
        max(rows, 1), 5, width_ratios=(1, 1.05, 1, 1, 1.3), left=0.01, right=0.985, top=1 - top, bottom=0.015
    )
    grid.update(wspace=0.2, hspace=0.07)
    panels = [[figure.add_subplot(grid[row, column]) for column in range(5)] for row in range(rows)]
    for panel, example in zip(panels, result.examples, strict=True):
        _film(panel[0], example.xray)
        _integers(panel[1], example.released)
        _film(panel[2], example.reconstruction)
        _film(panel[3], result.public_average)
        _guess(panel[4], example, result.label_names)
    heads = (
        ("The X-ray", "stays in the hospital"),
        ("What left", f"{result.release.laplace.dimension} whole numbers"),
        ("Best reconstruction", "from these numbers"),
        ("For comparison", "drawn from no record"),
        ("Best guess of the label", "from these numbers"),
    )
    for column, (head, line) in enumerate(heads):
        place = grid[0, column].get_position(figure)
        middle = (place.x0 + place.x1) / 2
        color = (INK, AMBER, TEAL, MUTED, TEAL)[column]
        figure.text(middle, 1 - 0.36 * top, head, ha="center", va="center", size=11.8, weight="bold", color=color)
        figure.text(middle, 1 - 0.70 * top, line, ha="center", va="center", size=10.5, color=MUTED)
    return _png(figure)


def budget_png(result: DemoResult) -> bytes:
    """A bar for each site: the most that one unit may have spent, and what remains of the budget."""
    rows = len(result.sites)
    figure = Figure(figsize=(9, 1.15 + 0.62 * max(rows, 1)), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(rows)
    spent = [float(site.unit_bound) for site in result.sites]
    budget = [float(site.budget) for site in result.sites]
    axes.barh(places, budget, height=0.5, color=TEAL_PALE, edgecolor=TEAL, linewidth=0.8, label="remaining")
    axes.barh(places, spent, height=0.5, color=TEAL, edgecolor=TEAL, linewidth=0.8, label=f"spent, per {result.unit}")
    for place, site in zip(places, result.sites, strict=True):
        # On white, so that no grid line runs through the words.
        words = f"{site.unit_bound} spent, {site.remaining} of {site.budget} left"
        axes.annotate(
            words,
            (float(site.budget), place),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            size=10.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    axes.set_yticks(places, [site.name for site in result.sites], size=11, color=INK, parse_math=False)
    axes.invert_yaxis()
    longest = max(budget, default=1.0)
    axes.set_xlim(0, 1.45 * longest)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= longest])
    axes.set_xlabel(f"epsilon, at most, per {result.unit} over all campaigns", color=MUTED, size=10.5)
    axes.tick_params(colors=MUTED, length=0)
    for tick in axes.get_yticklabels():
        tick.set_color(INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.xaxis.grid(True, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=10.5, reverse=True)
    return _png(figure)


def roc_png(result: DemoResult) -> bytes:
    """The ROC with and without noise on clean test X-rays, with the test set's own 95 % band."""
    noisy, clean = result.curve, result.curve_no_noise
    figure = Figure(figsize=(6.4, 5.6), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color=RULE, linewidth=1.2)
    axes.text(0.56, 0.52, "guessing", color=MUTED, size=9.5, rotation=45, ha="center", va="center")
    axes.fill_between(
        noisy.false_alarms,
        noisy.found_low,
        noisy.found_high,
        color=TEAL_PALE,
        linewidth=0,
        label="95 % band of the test set (bootstrap)",
    )
    # A curve starts at the corner, though it may rise before the first false alarm.
    axes.plot(
        (0, *clean.false_alarms), (0, *clean.found), "--", color=AMBER, label=f"without noise: AUC {clean.auc:.3f}"
    )
    axes.plot(
        (0, *noisy.false_alarms),
        (0, *noisy.found),
        color=TEAL,
        linewidth=2.2,
        label=f"from the records (epsilon {result.epsilon}): AUC {noisy.auc:.3f} ({noisy.low:.3f} to {noisy.high:.3f})",
    )
    positive = result.label_names[1]
    axes.set_xlabel(f"false alarms: share of the others called {positive}", color=INK, size=10.5, parse_math=False)
    axes.set_ylabel(f"found: share of {positive} called {positive}", color=INK, size=10.5, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    axes.set_aspect("equal")
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(RULE)
    axes.grid(True, color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=9.5, frameon=True, edgecolor=RULE, framealpha=1, reverse=True)
    return _png(figure)


def integers_in_words(released: tuple[int, ...]) -> list[str]:
    """The record's integers as people read them; the first few, when there are many."""
    shown = [f"{value:+,d}".replace("-", "\N{MINUS SIGN}") for value in released[:MAX_INTEGERS]]
    more = len(released) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


def _film(axes: Axes, image: NDArray[np.generic]) -> None:
    axes.imshow(np.asarray(image, dtype=np.float64), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _bare(axes)


def _integers(axes: Axes, released: tuple[int, ...]) -> None:
    words = integers_in_words(released)
    size, spacing = (17.0, 1.5) if len(words) <= 3 else (9.5, 1.25)
    axes.text(
        0.5,
        0.5,
        "\n".join(words),
        ha="center",
        va="center",
        size=size,
        family="monospace",
        color=AMBER,
        linespacing=spacing,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _bare(axes)


def _guess(axes: Axes, example: Example, names: tuple[str, ...]) -> None:
    """A bar for each label's probability; in words, which label it was."""
    places = np.arange(len(names))
    axes.barh(places, np.ones(len(names)), height=0.30, color="#eef1f4")
    guess = int(np.argmax(example.label_posterior))
    colors = [TEAL if place == guess else "#8fb9bc" for place in places]
    axes.barh(places, example.label_posterior, height=0.30, color=colors)
    axes.plot((0.5, 0.5), (-0.3, len(names) - 0.7), color="white", linewidth=1)
    for place, (name, probability) in enumerate(zip(names, example.label_posterior, strict=True)):
        axes.text(
            0, place - 0.22, f"{name} {100 * probability:.0f} %", va="bottom", size=11, color=INK, parse_math=False
        )
    axes.text(
        0,
        len(names) - 0.6,
        f"in truth: {names[example.label]}",
        va="top",
        size=10.5,
        style="italic",
        color=MUTED,
        parse_math=False,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(names) - 0.1, -0.75)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
