"""The curves of `bench utility`: area over epsilon, a panel for each task and cap.

Made without pyplot, so nothing global is opened or changed, and no window system is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = dict[str, Any]
INK, MUTED, RULE = "#1b2733", "#5b6875", "#d5dbe1"
# Told apart without colour too: by mark and dash.
_CURVES: tuple[tuple[str, dict[str, object], dict[str, Any]], ...] = (
    ("chosen", {"chosen_by": "chosen.toml", "student": False}, {"color": "#0b6e75", "lw": 2.6, "marker": "o"}),
    (
        "chosen, then a student",
        {"chosen_by": "chosen.toml", "student": True},
        {"color": "#12343b", "lw": 2.2, "marker": "*", "ms": 9},
    ),
    (
        "joint codebook, k = 8",
        {"mechanism": "codebook", "label_code": "simplex", "glow": "map 8", "chosen_by": "fixed beforehand"},
        {"color": "#2a9d8f", "marker": "s"},
    ),
    (
        "joint Laplace, k = 2",
        {"release": "joint", "mechanism": "laplace radius 1", "label_code": "simplex", "glow": "map 2"},
        {"color": "#5b8def", "marker": "^"},
    ),
    ("latent, k = 2", {"release": "latent", "glow": "map 2"}, {"color": "#9db8f2", "marker": "v", "ls": "--"}),
    ("networks that saw pictures alone", {"release": "image"}, {"color": "#7a8b1f", "marker": "h", "ls": "-"}),
    (
        "local statistics, no GLOW, k = 8",
        {"mechanism": "codebook", "label_code": "simplex", "glow": "none: statistics 8"},
        {"color": "#8a6fb0", "marker": "D", "ls": "--"},
    ),
    (
        "central DP-SGD, encoder's features",
        {"release": "classifier", "glow": "map"},
        {"color": "#b4540a", "marker": "P", "ls": "-."},
    ),
    (
        "central DP-SGD, raw images",
        {"release": "classifier", "glow": "none: raw images"},
        {"color": "#d98d4a", "marker": "X", "ls": "-."},
    ),
    ("DP-GLOW, all latents", {"release": "dp_glow"}, {"color": "#777777", "marker": ".", "ls": ":"}),
    ("Laplace on pixels", {"release": "pixels"}, {"color": "#aaaaaa", "marker": ".", "ls": ":"}),
)
_LEVELS: tuple[tuple[str, dict[str, object], dict[str, Any]], ...] = (
    ("no noise, all of the map", {"release": "no noise", "glow": "map"}, {"color": "#1b2733", "ls": "-"}),
    ("no noise, raw images", {"release": "no noise", "glow": "none: raw images"}, {"color": "#1b2733", "ls": ":"}),
    ("public only, track U", {"release": "public only", "track": "U"}, {"color": "#c0392b", "ls": "--"}),
)


def curves_png(rows: Iterable[Row]) -> bytes:
    """A panel for each task and cap of the rows that are measured as things are."""
    # Of who chose, the name of the file is enough here.
    usual = [{**row, "chosen_by": row["chosen_by"].partition(",")[0]} for row in rows if "," not in row["task"]]
    places = list(dict.fromkeys((row["task"], row["cap"]) for row in usual))
    columns = min(2, len(places))
    lines = -(-len(places) // columns)
    figure = Figure(figsize=(7.2 * columns, 4.6 * lines + 1.4), dpi=130, facecolor="white", layout="constrained")
    named: dict[str, Any] = {}
    for at, (task, cap) in enumerate(places):
        panel = [row for row in usual if row["task"] == task and row["cap"] in (cap, 1)]
        axes = figure.add_subplot(lines, columns, at + 1)
        _panel(axes, panel, task, cap)
        handles, words = axes.get_legend_handles_labels()
        named |= dict(zip(words, handles, strict=True))
    figure.legend(
        list(named.values()), list(named), loc="outside lower center", ncols=2 * columns, fontsize=8, frameon=False
    )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Axes, rows: list[Row], task: str, cap: int) -> None:
    unit = "patient" if any(row["unit"] == "patient" for row in rows) else "image"
    for name, wanted, style in _CURVES:
        found = [row for row in rows if row["epsilon"] is not None and _fits(row, wanted)]
        found = [row for row in found if row["cap"] == cap] or found
        found.sort(key=_per_unit)
        if found:
            epsilons, means = [_per_unit(row) for row in found], [row["auc_mean"] for row in found]
            axes.errorbar(epsilons, means, [row["auc_std"] for row in found], label=name, capsize=2, **style)
    for name, wanted, style in _LEVELS:
        levels = [row["auc_mean"] for row in rows if row["epsilon"] is None and _fits(row, wanted)]
        if levels:
            axes.axhline(max(levels), label=name, linewidth=1.2, **style)
    axes.set_xscale("log", base=2)
    axes.set_xlabel(f"epsilon per {unit}" + (f", at most {cap} records each" if unit == "patient" else ""), color=INK)
    axes.set_ylabel("AUC on the test set", color=INK)
    axes.set_title(f"{rows[0]['data']}: {task}", color=INK, loc="left", parse_math=False)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.grid(True, color=RULE, linewidth=0.5)
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _per_unit(row: Row) -> float:
    return float(row["epsilon"] if row["patient_epsilon"] is None else row["patient_epsilon"])


def _fits(row: Row, wanted: dict[str, object]) -> bool:
    return all(row[key] == value for key, value in wanted.items())
