"""Samples as a table: medians, and ratios of peers to ours."""

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version

from benchmarks.measures import METRICS, Figures, Metric
from benchmarks.peers import OURS, version_of

#: The packages below ours and `bare`.
FOUNDATIONS = ("pyzmq", "uvloop")


class Samples:
    """Every figure that was measured, by metric and contender."""

    def __init__(self) -> None:
        self._figures: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, contender: str, figures: Figures) -> None:
        """Add one sample."""
        for metric, figure in figures.items():
            self._figures[metric, contender].append(figure)

    def median(self, metric: str, contender: str) -> float | None:
        """The median figure, or None if there is no sample."""
        figures = self._figures.get((metric, contender))
        return statistics.median(figures) if figures else None

    def metrics(self) -> list[str]:
        """The metrics that have figures, in the order of `METRICS`."""
        measured = {metric for metric, _contender in self._figures}
        return [metric for metric in METRICS if metric in measured]

    def counts(self) -> list[int]:
        """The different numbers of samples behind the medians."""
        return sorted({len(figures) for figures in self._figures.values()})


def markdown(samples: Samples, peers: Sequence[str]) -> str:
    """Describe the machine and tabulate the medians; a ratio above 1 says that ours is better."""
    header = ["what", "unit", OURS, *peers]
    rows = [header, ["---", "---"] + ["---:"] * (len(header) - 2)]
    rows += [table_row(samples, metric, peers) for metric in samples.metrics()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{circumstances(samples, peers)}\n\n{table}"


def table_row(samples: Samples, name: str, peers: Sequence[str]) -> list[str]:
    metric = METRICS[name]
    ours = samples.median(name, OURS)
    compared = [cell(metric, ours, samples.median(name, peer)) for peer in peers]
    return [metric.label, metric.unit, "" if ours is None else shown(ours), *compared]


def cell(metric: Metric, ours: float | None, theirs: float | None) -> str:
    """A peer's figure and, in brackets, how many times better ours is."""
    if theirs is None:
        return ""
    if ours is None:
        return shown(theirs)
    better, worse = (ours, theirs) if metric.higher_is_better else (theirs, ours)
    return f"{shown(theirs)} ({shown(better / worse)} x)" if worse else shown(theirs)


def shown(figure: float) -> str:
    """Round a figure to three digits, which is more than the noise leaves."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def circumstances(samples: Samples, peers: Sequence[str]) -> str:
    versions = [f"{package} {version(package)}" for package in FOUNDATIONS]
    contenders = [version_of(contender) for contender in (OURS, *peers)]
    counts = " or ".join(map(str, samples.counts()))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {', '.join(contenders + versions)}; medians of {counts}. "
        "In brackets: how many times better ours is."
    )
