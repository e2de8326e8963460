"""Measure ours and its peers in turn, A B A B, each sample in a fresh process; print medians and ratios."""

import argparse
import compileall
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import MEASURES, Figures
from benchmarks.table import Samples, markdown

ROOT = Path(__file__).parent.parent
WORKLOADS = (*MEASURES, "cold")
SAMPLE_LIMIT_S = 900
#: What each peer can do at all.
PEER_WORKLOADS = {
    "dask": frozenset(WORKLOADS),
    "pool": frozenset(WORKLOADS) - {"memory", "loop", "daemons"},
    "local": frozenset({"large"}),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    workloads: list[str]
    repeat: int
    peers: list[str]
    markdown: Path | None


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"any of {', '.join(WORKLOADS)}; all"
    )
    parser.add_argument("--repeat", type=int, default=3, help="samples per workload and contender (3)")
    parser.add_argument("--peers", default="dask,pool,local", help="any of dask, pool, local (all)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    chosen = parser.parse_args(arguments)
    workloads = chosen.workloads or list(WORKLOADS)
    peers = [peer for peer in chosen.peers.split(",") if peer]
    if unknown := (set(workloads) - set(WORKLOADS)) | (set(peers) - set(PEER_WORKLOADS)):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if chosen.repeat < 1:
        parser.error("--repeat must be at least 1")
    return Options(workloads, chosen.repeat, peers, chosen.markdown)


def take_sample(contender: str, workload: str) -> Figures:
    """Run a process that measures itself, or, of a cold start, measure the process."""
    if workload == "cold":
        command = [sys.executable, "-m", f"benchmarks.cold_{contender}"]
    else:
        command = [sys.executable, "-m", "benchmarks.sample", contender, workload]
    started_at = time.perf_counter()
    sample = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=SAMPLE_LIMIT_S)
    took_s = time.perf_counter() - started_at
    if workload == "cold":
        return {"cold": took_s * 1e3}
    figures: dict[str, float] = json.loads(sample.stdout)
    return figures


def take_samples(options: Options) -> tuple[Samples, bool]:
    """All of them, and whether each one came to its end."""
    samples, complete = Samples(), True
    for workload in options.workloads:
        contenders = ["ours", *(peer for peer in options.peers if workload in PEER_WORKLOADS[peer])]
        for contender in contenders * options.repeat:
            try:
                figures = take_sample(contender, workload)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
                complete = False
                print(f"{workload} {contender}: {failure}", file=sys.stderr, flush=True)
            else:
                samples.add(contender, figures)
                print(f"{workload} {contender}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return samples, complete


def main() -> int:
    options = parse(sys.argv[1:])
    # As the peers were when they were installed; an interpreter that may write no bytecode would do it at each start.
    for folder in ("src", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    samples, complete = take_samples(options)
    table = markdown(samples, options.peers, options.repeat)
    print(table, end="")
    if options.markdown is not None:
        options.markdown.write_text(table, encoding="utf-8")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
