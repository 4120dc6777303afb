"""Draw the charts of docs/performance.md with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "marfetch"  # stable element names, so that equal charts give equal files
mpl.rcParams["svg.fonttype"] = "none"

OURS = "#0b6bcb"
OTHERS = ("#d97706", "#059669", "#7c3aed", "#db2777", "#64748b", "#a16207", "#0891b2", "#991b1b")


def growth(path: Path, title: str, axis: str, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw time by amount: one line per client, logarithmic axes, no point for a client that did not run.

    Args:
        axis: label of the amount.
        series: client → pairs of amount and seconds.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    others = iter(OTHERS)
    for name, points in series.items():
        if not points:
            continue
        is_ours = name.startswith("marfetch")
        style = "--" if "jobs" in name else "-"
        color = OURS if is_ours else next(others)
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=4, label=name, color=color, linewidth=2.5 if is_ours else 1.2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    amounts = sorted({amount for points in series.values() for amount, _ in points})
    axes.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.set_xlabel(axis)
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _save(figure, path)


def bars(path: Path, title: str, groups: Mapping[str, Mapping[str, float]]) -> None:
    """Draw a bar chart with one bar per client in each group.

    Args:
        groups: name of the group → client → seconds.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        places = [row + (number - (len(groups) - 1) / 2) * height for row, name in enumerate(names) if name in values]
        shown = [values[name] for name in names if name in values]
        colors = [OURS if name.startswith("marfetch") else "#94a3b8" for name in names if name in values]
        drawn = axes.barh(places, shown, height * 0.92, color=colors, alpha=1 - 0.45 * number, label=group)
        axes.bar_label(drawn, [f"{value:.2f} s ({group})" for value in shown], fontsize=7, padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.18)
    axes.set_xlabel("seconds")
    axes.set_title(title, fontsize=11)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    text = path.read_text()
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
