"""Samples as a table: medians, and how many times better ours is."""

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks.measures import METRICS, Figures, Metric

PACKAGES = ("handoff-actors", "distributed", "numpy", "pyzmq")
NOTHING = "-"


class Samples:
    """Every figure that was measured, by metric and contender."""

    def __init__(self) -> None:
        self._figures: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, contender: str, figures: Figures) -> None:
        """Take in one sample."""
        for metric, figure in figures.items():
            self._figures[metric, contender].append(figure)

    def median(self, metric: str, contender: str) -> float | None:
        """The middle figure, or None where nothing was measured."""
        figures = self._figures.get((metric, contender))
        return statistics.median(figures) if figures else None

    def metrics(self) -> list[str]:
        """Those that there are figures of, in the order of `METRICS`."""
        measured = {metric for metric, _contender in self._figures}
        return [metric for metric in METRICS if metric in measured]


def markdown(samples: Samples, peers: Sequence[str], repeat: int) -> str:
    """Describe the machine and tabulate the medians; a ratio above 1 says that ours is better."""
    header = ["what", "unit", "ours"]
    for peer in peers:
        header += [peer, f"ours / {peer}"]
    rows = [header, ["---", "---"] + ["---:"] * (len(header) - 2)]
    rows += [table_row(samples, metric, peers) for metric in samples.metrics()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{circumstances(repeat)}\n\n{table}\n"


def table_row(samples: Samples, name: str, peers: Sequence[str]) -> list[str]:
    metric = METRICS[name]
    ours = samples.median(name, "ours")
    row = [metric.label, metric.unit, shown(ours)]
    for peer in peers:
        theirs = samples.median(name, peer)
        row += [shown(theirs), ratio(metric, ours, theirs)]
    return row


def ratio(metric: Metric, ours: float | None, theirs: float | None) -> str:
    if ours is None or theirs is None:
        return NOTHING
    better, worse = (ours, theirs) if metric.higher_is_better else (theirs, ours)
    return f"{shown(better / worse)} x" if worse else NOTHING


def shown(figure: float | None) -> str:
    """Three digits are more than the noise leaves."""
    if figure is None:
        return NOTHING
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def circumstances(repeat: int) -> str:
    versions = ", ".join(f"{package} {version_of(package)}" for package in PACKAGES)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}; medians of {repeat}."
    )


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
