"""Single calls, maps and functions that spawn others, in turn with a process pool, Dask's futures and Ray's tasks.

    python -m benchmarks.growing                                  # everything: about ten minutes
    python -m benchmarks.growing call gather --rounds 5 --peers pool

Each sample is a process of its own, with two workers; the table has the medians, and how many times better ours is, embedded
and through a daemon.
"""

import argparse
import asyncio
import importlib.util
import json
import pkgutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.growing_shapes import FIGURES, FULL, SMALL, Calls, Sizes, measure
from benchmarks.peers import ROOT, environment, interpreter, is_installed

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

SAMPLE_LIMIT_S = 300


class Framework(NamedTuple):
    """One of those that are measured."""

    #: Where to open its calls.
    place: str
    sizes: Sizes = FULL
    #: Its name in `peers` and its package, unless our own environment has it in any case.
    package: str | None = None
    lacks: tuple[str, ...] = ()


FRAMEWORKS = {
    "ours": Framework("benchmarks.growing_ours:embedded"),
    "daemon": Framework("benchmarks.growing_ours:daemon"),
    "pool": Framework("benchmarks.growing_pool:embedded"),
    "dask": Framework("benchmarks.growing_dask:embedded", SMALL, "distributed", lacks=("tree",)),
    "ray": Framework("benchmarks.growing_ray:embedded", SMALL, "ray"),
}
OURS = ("ours", "daemon")


class Figure(NamedTuple):
    """What a figure is, and what it is to be at least, against the pool."""

    label: str
    unit: str
    least_ratio: float
    higher_is_better: bool = True


LABELS = {
    "call": Figure("one warm call, p50", "ms", 1.0, higher_is_better=False),
    "gather": Figure("calls by gather", "calls/s", 5.0),
    "map": Figure("map of no-ops", "calls/s", 6.0),
    "quicksort": Figure("quicksort; pool: cut by hand", "ms", 1 / 1.3, higher_is_better=False),
    "tree": Figure("tree, each function spawns two; pool: flat calls", "functions/s", 2.0),
}


def python_of(name: str) -> Path | None:
    """The interpreter that has a framework; None: there is none."""
    package = FRAMEWORKS[name].package
    if package is None:
        return Path(sys.executable)
    if is_installed(name):
        return interpreter(name)
    return Path(sys.executable) if importlib.util.find_spec(package) else None


def take_sample(name: str, figure: str, sizes: Sizes) -> float:
    """Measure one figure in a process of its own."""
    command = [
        str(python_of(name)),
        "-m",
        "benchmarks.growing",
        "--sample",
        json.dumps([name, figure, sizes]),
    ]
    variables = environment(name if FRAMEWORKS[name].package else "ours")
    done = subprocess.run(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, check=True, timeout=SAMPLE_LIMIT_S
    )
    # A framework's own output comes before.
    return float(done.stdout.splitlines()[-1])


async def sample(name: str, figure: str, sizes: Sizes) -> float:
    opened: Callable[[], AbstractAsyncContextManager[Calls]] = pkgutil.resolve_name(FRAMEWORKS[name].place)
    async with opened() as calls:
        return await measure(figure, calls, sizes)


def take_samples(
    figures: Sequence[str], names: Sequence[str], rounds: int, sizes: Sizes | None
) -> dict[tuple[str, str], float]:
    """Take all samples in turn; return the medians by figure and framework."""
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for figure in figures:
        measured = [name for name in names if figure not in FRAMEWORKS[name].lacks]
        for name in measured * rounds:
            found = take_sample(name, figure, sizes or FRAMEWORKS[name].sizes)
            taken[figure, name].append(found)
            print(f"{figure} {name}: {found:.4g}", file=sys.stderr, flush=True)
    return {key: statistics.median(samples) for key, samples in taken.items()}


def table(medians: Mapping[tuple[str, str], float], figures: Sequence[str], names: Sequence[str]) -> str:
    """Tabulate the medians, and how many times better each of ours is than each peer; above 1 ours is better."""
    peers = [name for name in names if name not in OURS]
    ratios = [f"{name} against {peer}" for peer in peers for name in OURS if name in names]
    rows = [["what", "unit", *names, *ratios, "at least, against pool"]]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    for figure in figures:
        label = LABELS[figure]
        cells = [shown(medians.get((figure, name))) for name in names]
        against = [
            shown(ratio(figure, medians.get((figure, name)), medians.get((figure, peer))))
            for peer in peers
            for name in OURS
            if name in names
        ]
        rows.append([label.label, label.unit, *cells, *against, f"{label.least_ratio:.2g}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(figure: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times better ours is."""
    if ours is None or theirs is None:
        return None
    return ours / theirs if LABELS[figure].higher_is_better else theirs / ours


def shown(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"any of {', '.join(FIGURES)}; all")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each (3)")
    parser.add_argument("--peers", default="pool,dask,ray", help="any of pool, dask, ray (all)")
    parser.add_argument("--sizes", help="calls,gathered,mapped,numbers,spawned, the same for all")
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.sample:
        name, figure, sizes = json.loads(chosen.sample)
        print(asyncio.run(sample(name, figure, Sizes(*sizes))))
        return
    figures = chosen.figures or FIGURES
    peers = [name for name in chosen.peers.split(",") if name]
    if unknown := (set(figures) - set(FIGURES)) | (set(peers) - (set(FRAMEWORKS) - set(OURS))):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in peers:
        if python_of(name) is None:
            print(f"{name} is left out: `scripts/peers {name}` installs it.", file=sys.stderr)
    names = [*OURS, *(name for name in peers if python_of(name) is not None)]
    sizes = Sizes(*map(int, chosen.sizes.split(","))) if chosen.sizes else None
    print(table(take_samples(figures, names, chosen.rounds, sizes), figures, names))


if __name__ == "__main__":
    main()
