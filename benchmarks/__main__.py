"""Measure ours and its peers in turn, A B A B, each sample in a fresh process; print medians and ratios."""

import argparse
import compileall
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import Figures
from benchmarks.peers import OURS, PEERS, ROOT, WORKLOADS, environment, interpreter, is_installed
from benchmarks.table import Samples, markdown

SAMPLE_LIMIT_S = 300
#: Seconds that a sample has to end its cluster after that.
CLOSE_LIMIT_S = 20


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    workloads: list[str]
    repeat: int
    peers: list[str]
    samples: Path | None
    markdown: Path | None


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="workload", help=f"any of {', '.join(WORKLOADS)}; all"
    )
    parser.add_argument(
        "--repeat", type=int, default=2, help="samples per workload and contender (2); 0: only the table"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help=f"any of {', '.join(PEERS)} (all)")
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="add the samples to this file, and tabulate all samples in it",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    chosen = parser.parse_args(arguments)
    workloads = chosen.workloads or list(WORKLOADS)
    peers = [peer for peer in chosen.peers.split(",") if peer]
    if unknown := (set(workloads) - set(WORKLOADS)) | (set(peers) - set(PEERS)):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if chosen.repeat < 0:
        parser.error("--repeat must not be negative")
    return Options(workloads, chosen.repeat, peers, chosen.samples, chosen.markdown)


def take_sample(contender: str, workload: str) -> Figures:
    """Run a process that measures itself, or, of a cold start, measure the process."""
    module = [f"benchmarks.cold_{contender}"]
    if workload != "cold":
        module = ["benchmarks.sample", contender, workload]
    command = [str(interpreter(contender)), "-m", *module]
    started_at = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=environment(contender), stdout=subprocess.PIPE) as sample:
        output = output_of(sample)
    took_s = time.perf_counter() - started_at
    if workload == "cold":
        return {"cold": took_s * 1e3}
    # A contender's own output comes before.
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def output_of(sample: subprocess.Popen[bytes]) -> bytes:
    """Return the output of a sample. One that takes too long is interrupted first, so that it ends its cluster."""
    try:
        output, _ = sample.communicate(timeout=SAMPLE_LIMIT_S)
    except subprocess.TimeoutExpired:
        sample.send_signal(signal.SIGINT)
        try:
            sample.wait(CLOSE_LIMIT_S)
        finally:
            sample.kill()
        raise
    if sample.returncode != 0:
        raise subprocess.CalledProcessError(sample.returncode, sample.args)
    return output


def turns(options: Options, peers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every workload and contender, in the order in which samples are taken."""
    for workload in options.workloads:
        contenders = [OURS, *(peer for peer in peers if workload in PEERS[peer].workloads)]
        yield from ((workload, contender) for contender in contenders * options.repeat)


def take_samples(options: Options, peers: Sequence[str], samples: Samples) -> bool:
    """Take all samples; True if each of them came to its end."""
    complete = True
    for workload, contender in turns(options, peers):
        try:
            figures = take_sample(contender, workload)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
            complete = False
            print(f"{workload} {contender}: {failure}", file=sys.stderr, flush=True)
        else:
            samples.add(contender, figures)
            print(f"{workload} {contender}: {json.dumps(figures)}", file=sys.stderr, flush=True)
            if options.samples is not None:
                with options.samples.open("a", encoding="utf-8") as file:
                    print(json.dumps([contender, figures]), file=file)
    return complete


def earlier_samples(path: Path | None) -> Samples:
    """Read the file's samples of earlier runs."""
    samples = Samples()
    if path is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            contender, figures = json.loads(line)
            samples.add(contender, figures)
    return samples


def main() -> int:
    options = parse(sys.argv[1:])
    # As the peers were when they were installed; an interpreter that may write no bytecode would compile at each start.
    for folder in ("src", "benchmarks"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    peers = [peer for peer in options.peers if is_installed(peer)]
    left_out = [
        f"{peer} is left out: `scripts/peers {peer}` installs it."
        for peer in options.peers
        if peer not in peers
    ]
    print(*left_out, sep="\n", end="\n" * bool(left_out), file=sys.stderr, flush=True)
    samples = earlier_samples(options.samples)
    complete = take_samples(options, peers, samples)
    table = "\n\n".join([markdown(samples, peers), *left_out]) + "\n"
    print(table, end="")
    if options.markdown is not None:
        options.markdown.write_text(table, encoding="utf-8")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
