"""Bursts of runs of one function each, on three daemons of one core and one worker, from one app and from twelve.

    python -m benchmarks.bursts                                        # everything: about half an hour
    python -m benchmarks.bursts --apps 1 --runs 12 --sleep 0.3 --apart 0 --rounds 2
    python -m benchmarks.bursts behind                                 # only short functions behind a long one

Functions sleep, so that the machine's cores are no limit. The best possible is three servers that take each function as
it arrives, with no cost of their own. Prints, per case, the medians of the rounds from the first send to the last
result, and the ratio to the best.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

import handoff_actors as handoff
from benchmarks.bursts_app import Order, Outcome, Send
from benchmarks.ideal_queue import ends_of
from benchmarks.ours import ROOT

NODES = 3
KINDS = ("burst", "behind")
APPS = (1, 12)
RUNS = (12, 100)
APART_S = (0.0, 0.01, 0.1)
SLEEP_S = (0.03, 0.3, 0.5)
#: The long function before a burst of `behind`, and how long before the burst it is sent.
LONG_S = 1.0
LONG_BEFORE_S = 0.1
#: No case of `burst` keeps three nodes busy for longer than this.
LONGEST_S = 12.0
#: Adverts of the round before have gone round by then, and apps have read their orders.
PAUSE_S = 0.6


class Case(NamedTuple):
    """One kind of burst."""

    apps: int
    kind: str
    runs: int
    apart_s: float
    sleep_s: float
    has_cost: bool

    def sends(self) -> list[Send]:
        """Return all sends, the first of the burst at 0; app number k % `apps` sends the k-th one of the burst."""
        return [Send(number * self.apart_s, self.sleep_s) for number in range(self.runs)]

    def long(self) -> list[Send]:
        """Return what the first app sends ahead, which is not timed."""
        return [Send(-LONG_BEFORE_S, LONG_S)] if self.kind == "behind" else []

    def best(self) -> tuple[float, float]:
        """Return the least possible seconds of the burst, and of the longest wait in it."""
        long, sends = self.long(), self.sends()
        ends = ends_of([*long, *sends], NODES)[len(long) :]
        return max(ends), max(ends[number] - send.at for number, send in enumerate(sends)) - self.sleep_s

    def most(self) -> float:
        """Return the highest allowed ratio to the best."""
        return 1.5 if self.apps > 1 and self.sleep_s < 0.3 else 1.2


class Round(NamedTuple):
    """One burst, measured."""

    took_s: float
    #: The longest time from a send to its result, without the function's own.
    longest_wait_s: float
    by_node: dict[str, int]


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """Yield the chosen cases that make sense, by number of apps."""
    for apps in chosen.apps:
        if "burst" in chosen.kinds:
            for runs in chosen.runs:
                for sleep_s in chosen.sleep:
                    for apart_s in chosen.apart:
                        if runs * sleep_s / NODES <= LONGEST_S and is_burst(runs, sleep_s, apart_s):
                            yield from (
                                Case(apps, "burst", runs, apart_s, sleep_s, cost) for cost in chosen.cost
                            )
        if "behind" in chosen.kinds:
            yield from (Case(apps, "behind", 12, 0.0, 0.03, cost) for cost in chosen.cost)


def is_burst(runs: int, sleep_s: float, apart_s: float) -> bool:
    """True unless one node alone could do a hundred functions as they come."""
    return runs < 100 or sleep_s > apart_s


# --- Apps ---------------------------------------------------------------------------------------------------------


class App:
    """A process with a session of its own."""

    def __init__(self, seeds: Sequence[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.bursts_app", str(NODES), *seeds]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read_line(self) -> str:
        """Return its next line; raises RuntimeError if it has ended."""
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"an app ended with status {self.process.wait()}")
        return line

    def give(self, order: Order) -> None:
        """Have it send runs."""
        assert self.process.stdin is not None
        print(msgspec.json.encode(order).decode(), file=self.process.stdin, flush=True)

    def outcomes(self) -> list[Outcome]:
        """Wait for the end of the runs of its order."""
        return msgspec.json.decode(self.read_line(), type=list[Outcome])

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


@contextmanager
def connected_apps(count: int) -> Iterator[list[App]]:
    """Start three nodes, and apps that are connected to all of them."""
    with ExitStack() as stack:
        cluster = stack.enter_context(handoff.LocalCluster(nodes=NODES, cpu=1))
        apps = []
        for _ in range(count):
            apps.append(App(cluster.seeds))
            stack.callback(apps[-1].close)
        for app in apps:
            app.read_line()
        yield apps


# --- Measuring ----------------------------------------------------------------------------------------------------


def measure(case: Case, apps: Sequence[App]) -> Round:
    """Release one burst, and wait for its end."""
    begins_at = time.monotonic() + PAUSE_S
    long, sends = case.long(), case.sends()
    for number, app in enumerate(apps):
        own = [*(long if number == 0 else ()), *sends[number :: len(apps)]]
        shifted = [Send(begins_at + send.at, send.duration_s) for send in own]
        app.give(Order(shifted, {"cpu": 1.0} if case.has_cost else {}))
    outcomes = [app.outcomes() for app in apps]
    del outcomes[0][: len(long)]
    burst = [outcome for own in outcomes for outcome in own]
    return Round(
        max(outcome.ended_at for outcome in burst) - min(outcome.sent_at for outcome in burst),
        max(outcome.ended_at - outcome.sent_at for outcome in burst) - case.sleep_s,
        dict(sorted(Counter(outcome.node for outcome in burst).items())),
    )


def take_samples(chosen: Sequence[Case], rounds: int, path: Path | None) -> Iterator[tuple[Case, Round]]:
    """Measure all cases once, then again, so that a busy spell of the machine falls on many of them."""
    for count in dict.fromkeys(case.apps for case in chosen):
        with connected_apps(count) as apps:
            for case in [case for case in chosen if case.apps == count] * rounds:
                sample = measure(case, apps)
                print(f"{case}: {sample}", file=sys.stderr, flush=True)
                if path is not None:
                    with path.open("a", encoding="utf-8") as file:
                        print(json.dumps([case._asdict(), sample._asdict()]), file=file)
                yield case, sample


def earlier_samples(path: Path | None) -> Iterator[tuple[Case, Round]]:
    """Read the file's samples of earlier runs."""
    if path is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            case, sample = json.loads(line)
            yield Case(**case), Round(**sample)


def table(samples: Iterable[tuple[Case, Round]]) -> str:
    """Tabulate the medians; the counts per node are those of the round in the middle."""
    by_case: defaultdict[Case, list[Round]] = defaultdict(list)
    for case, sample in samples:
        by_case[case].append(sample)
    header = (
        *("apps", "runs", "ms apart", "s each", "cost", "best, s", "median, s", "least to most", "ratio"),
        *("at most", "longest wait, s", "per node"),
    )
    rows = [header, ("---:",) * len(header), *(row(case, rounds) for case, rounds in by_case.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(case: Case, rounds: Sequence[Round]) -> tuple[str, ...]:
    best_s, best_wait_s = case.best()
    ordered = sorted(rounds)
    took_s = statistics.median(sample.took_s for sample in rounds)
    wait_s = statistics.median(sample.longest_wait_s for sample in rounds)
    ratio = took_s / best_s
    is_over = ratio > case.most()
    return (
        *(
            str(case.apps),
            f"{case.runs}{' behind 1 s' * (case.kind == 'behind')}",
            f"{case.apart_s * 1e3:.0f}",
        ),
        *(f"{case.sleep_s:g}", "1 cpu" if case.has_cost else "none", f"{best_s:.2f}", f"{took_s:.2f}"),
        f"{ordered[0].took_s:.2f} to {ordered[-1].took_s:.2f}",
        f"**{ratio:.2f}**" if is_over else f"{ratio:.2f}",
        f"{case.most():g}",
        f"{wait_s:.2f} (best {best_wait_s:.2f})",
        "/".join(map(str, sorted(ordered[len(ordered) // 2].by_node.values(), reverse=True))),
    )


# --- Command line -------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bursts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"any of {', '.join(KINDS)}; all")
    parser.add_argument("--apps", type=int, nargs="+", default=APPS, help="numbers of apps (1 12)")
    parser.add_argument("--runs", type=int, nargs="+", default=RUNS, help="runs in a burst (12 100)")
    parser.add_argument("--apart", type=float, nargs="+", default=APART_S, help="seconds apart (0 0.01 0.1)")
    parser.add_argument("--sleep", type=float, nargs="+", default=SLEEP_S, help="seconds each (0.03 0.3 0.5)")
    parser.add_argument("--cost", choices=("both", "cpu", "none"), default="both", help="claims (both)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case (3); 0: only the table")
    parser.add_argument(
        "--samples", type=Path, metavar="FILE", help="add the samples to this file, and tabulate all"
    )
    chosen = parser.parse_args(arguments)
    chosen.kinds = chosen.kinds or KINDS
    if unknown := set(chosen.kinds) - set(KINDS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    chosen.cost = {"both": (False, True), "cpu": (True,), "none": (False,)}[chosen.cost]
    return chosen


def main() -> int:
    chosen = parse(sys.argv[1:])
    samples = list(earlier_samples(chosen.samples))
    try:
        samples.extend(take_samples(list(cases(chosen)), chosen.rounds, chosen.samples))
    finally:
        print(table(samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
