"""The figure of `bench attacks`: success over epsilon, a panel for each attack, under its ceiling."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from server.benchmarks.figure import INK, MUTED, RULE

Row = dict[str, Any]
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0b6e75", "marker": "o"},
    {"color": "#2a9d8f", "marker": "s"},
    {"color": "#5b8def", "marker": "^"},
    {"color": "#b4540a", "marker": "v", "ls": "--"},
    {"color": "#8a6fb0", "marker": "D", "ls": "--"},
    {"color": "#777777", "marker": ".", "ls": ":"},
)


def attacks_png(rows: list[Row]) -> bytes:
    """A panel for each attack, one legend for all."""
    noised = [row for row in rows if row["epsilon"] is not None]
    names = list(dict.fromkeys(row["attack"] for row in noised))
    releases = list(dict.fromkeys(_release(row) for row in noised))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(5.2 * columns, 4.4 * lines + 0.9), dpi=130, facecolor="white", layout="constrained")
    for at, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, at + 1)
        _panel(axes, [row for row in noised if row["attack"] == name], releases, name)
    handles, words = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Axes, rows: list[Row], releases: list[str], name: str) -> None:
    for release, style in zip(releases, _STYLES * len(releases), strict=False):
        found = sorted((row for row in rows if _release(row) == release), key=lambda row: float(row["epsilon"]))
        if found:
            epsilons = [row["epsilon"] for row in found]
            axes.plot(epsilons, [row["success"] for row in found], label=release, markersize=4, lw=1.3, **style)
            noiseless = [row["noiseless"] for row in found]
            axes.plot(epsilons, noiseless, color=style["color"], lw=0.6, ls=(0, (1, 4)))
    ceilings = sorted({(row["epsilon"], row["ceiling"]) for row in rows})
    if any(ceiling < 1 for _, ceiling in ceilings):
        axes.plot(*zip(*ceilings, strict=True), color="#c0392b", lw=1.6, label="ceiling: no attacker passes it")
    axes.plot([], [], color=MUTED, lw=0.6, ls=(0, (1, 4)), label="the same attack without noise")
    axes.axhline(rows[0]["chance"], color=MUTED, lw=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("epsilon per record", color=INK)
    axes.set_ylabel("variance of pixels explained" if name.startswith("picture") else "right answers", color=INK)
    held = rows[0]["candidates"]
    axes.set_title(name if name.startswith("label") else f"{name} (of {held})", color=INK, loc="left", fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.set_ylim(top=1.03)
    axes.grid(True, color=RULE, linewidth=0.5)
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _release(row: Row) -> str:
    if row["chosen"]:
        return "chosen for each epsilon"
    return f"{row['release']}, {row['mechanism']}, {row['glow']}"
