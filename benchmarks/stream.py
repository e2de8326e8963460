"""Streams of items through three stages, in turn with queues by hand, Ray's actors and compiled graphs, Dask's futures and ZeroMQ.

    python -m benchmarks.stream                                   # everything: about ten minutes
    python -m benchmarks.stream items one --rounds 5 --peers queues,bare

Each sample is a process of its own, with a process for each stage; the table has the medians, and how many times better ours is,
embedded and through a daemon.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import pkgutil
import signal
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.growing import shown
from benchmarks.peers import ROOT, environment, interpreter, is_installed
from benchmarks.stream_shapes import FIGURES, FULL, SMALL, StreamSizes, measure

SAMPLE_LIMIT_S = 120


class StreamFramework(NamedTuple):
    """One of those that are measured."""

    #: Where to open its stages.
    place: str
    sizes: StreamSizes = FULL
    #: Its name in `peers`, and its package, unless our own environment has it in any case.
    peer: str = "ours"
    package: str | None = None
    figures: Sequence[str] = FIGURES


_WITHOUT_KEY = tuple(figure for figure in FIGURES if figure != "key")
FRAMEWORKS = {
    "ours": StreamFramework("benchmarks.stream_ours:embedded"),
    "daemon": StreamFramework("benchmarks.stream_ours:daemon"),
    "queues": StreamFramework("benchmarks.stream_queues:embedded"),
    "bare": StreamFramework("benchmarks.stream_bare:embedded", figures=_WITHOUT_KEY),
    "local": StreamFramework("benchmarks.stream_bare:local", figures=("large",)),
    "ray": StreamFramework("benchmarks.stream_ray:actors", SMALL, "ray", "ray", _WITHOUT_KEY),
    # With arrays of 1 MB it was stuck, time and again.
    "compiled": StreamFramework(
        "benchmarks.stream_ray:compiled", SMALL, "ray", "ray", ("items", "one", "batches")
    ),
    "dask": StreamFramework("benchmarks.stream_dask:embedded", SMALL, "dask", "distributed", _WITHOUT_KEY),
}
OURS = ("ours", "daemon")


class StreamFigure(NamedTuple):
    """What a figure is, and what it is to be at least, against which peer."""

    label: str
    unit: str
    higher_is_better: bool = True
    least_ratio: float | None = None
    against: str = ""


LABELS = {
    "items": StreamFigure("no-op stages, many in flight", "items/s", least_ratio=3.0, against="queues"),
    "one": StreamFigure("no-op stages, one in flight, p50", "ms", False, 0.5, "compiled"),
    "batches": StreamFigure("batches of 32; others: made by the app", "items/s"),
    "large": StreamFigure("1 MB arrays, a copy per stage; local: the copies alone", "ms per item", False),
    "key": StreamFigure("two workers by key in the middle", "items/s"),
}


def python_of(name: str) -> Path | None:
    """The interpreter that has a framework; None: there is none."""
    _, _, peer, package, _ = FRAMEWORKS[name]
    if package is None:
        return Path(sys.executable)
    if is_installed(peer):
        return interpreter(peer)
    return Path(sys.executable) if importlib.util.find_spec(package) else None


def take_sample(name: str, figure: str, sizes: StreamSizes) -> float | None:
    """Measure one figure in a process of its own; None if it fails there, as its output says."""
    command = [str(python_of(name)), "-m", "benchmarks.stream", "--sample", json.dumps([name, figure, sizes])]
    variables = environment(FRAMEWORKS[name].peer)
    # A group of its own: a framework that is stuck leaves processes.
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, start_new_session=True
    ) as done:
        try:
            output, _ = done.communicate(timeout=SAMPLE_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(done.pid, signal.SIGKILL)
            output = b""
    if name in OURS and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command)
    # A framework's own output comes before.
    return None if done.returncode else float(output.splitlines()[-1])


async def sample(name: str, figure: str, sizes: StreamSizes) -> float:
    return await measure(figure, pkgutil.resolve_name(FRAMEWORKS[name].place), sizes)


def take_samples(
    figures: Sequence[str], names: Sequence[str], rounds: int, sizes: StreamSizes | None
) -> dict[tuple[str, str], float]:
    """Take all samples in turn; return the medians by figure and framework."""
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for figure in figures:
        for name in [name for name in names if figure in FRAMEWORKS[name].figures] * rounds:
            found = take_sample(name, figure, sizes or FRAMEWORKS[name].sizes)
            print(f"{figure} {name}: {shown(found) or 'failed'}", file=sys.stderr, flush=True)
            if found is not None:
                taken[figure, name].append(found)
    return {key: statistics.median(samples) for key, samples in taken.items()}


def table(medians: Mapping[tuple[str, str], float], figures: Sequence[str], names: Sequence[str]) -> str:
    """Tabulate the medians, and how many times better each of ours is than each peer; above 1 ours is better."""
    pairs = [(name, peer) for peer in names if peer not in OURS for name in OURS if name in names]
    rows = [["what", "unit", *names, *(f"{name} against {peer}" for name, peer in pairs), "at least"]]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    for figure in figures:
        label = LABELS[figure]
        ratios = [
            ratio(figure, medians.get((figure, name)), medians.get((figure, peer))) for name, peer in pairs
        ]
        least = "" if label.least_ratio is None else f"{label.least_ratio:g} against {label.against}"
        cells = [*(medians.get((figure, name)) for name in names), *ratios]
        rows.append([label.label, label.unit, *map(shown, cells), least])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(figure: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times better ours is."""
    if ours is None or theirs is None:
        return None
    return ours / theirs if LABELS[figure].higher_is_better else theirs / ours


def main(arguments: Sequence[str] | None = None) -> None:
    peers = [name for name in FRAMEWORKS if name not in OURS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"any of {', '.join(FIGURES)}; all")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each (3)")
    parser.add_argument("--peers", default=",".join(peers), help=f"any of {', '.join(peers)} (all)")
    parser.add_argument("--only-peers", action="store_true", help="leave ours out")
    parser.add_argument("--sizes", help="items,ones,arrays,array_nbytes, the same for all")
    parser.add_argument("--sample", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.sample:
        name, figure, sizes = json.loads(chosen.sample)
        print(asyncio.run(sample(name, figure, StreamSizes(*sizes))))
        return
    figures = chosen.figures or FIGURES
    wanted = [name for name in chosen.peers.split(",") if name]
    if unknown := (set(figures) - set(FIGURES)) | (set(wanted) - set(peers)):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in wanted:
        if python_of(name) is None:
            print(
                f"{name} is left out: `scripts/peers {FRAMEWORKS[name].peer}` installs it.", file=sys.stderr
            )
    names = [*(() if chosen.only_peers else OURS), *(name for name in wanted if python_of(name) is not None)]
    given = StreamSizes(*map(int, chosen.sizes.split(","))) if chosen.sizes else None
    print(table(take_samples(figures, names, chosen.rounds, given), figures, names))


if __name__ == "__main__":
    main()
