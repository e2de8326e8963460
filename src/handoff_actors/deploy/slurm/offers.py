"""The capabilities of a node that Slurm would start, as far as that can be told before one has been there."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from math import ceil
from re import Match, compile as pattern
from typing import Final

from handoff_actors.ids import Resources

_PLACE: Final = pattern(r"using (?P<cpus>[0-9]+) processors on nodes (?P<nodes>\S+) ")
_REAL_MEMORY: Final = pattern(r"\bRealMemory=(?P<mb>[0-9]+)")
_SIZE: Final = pattern(r"(?P<amount>[0-9]+)(?P<unit>[KMGT]?)B?")
_GPUS: Final = pattern(
    r"(?:^|,)(?:gres[:/])?gpu(?:[:=](?P<kind>[A-Za-z_][^:=,]*))?(?:[:=](?P<count>[0-9]+))?(?:,|$)"
)
_COUNT: Final = pattern(r"(?:[^:]*:)?(?P<count>[0-9]+)$")
_MB: Final = {"K": 1 / 1024, "M": 1.0, "": 1.0, "G": 1024.0, "T": 1024.0**2}


def first_node(dry_run: str) -> str | None:
    """The name of the node on which Slurm would start the job, by its answer to a dry run; None if that is not clear."""
    found = _PLACE.search(dry_run)
    return None if found is None or "[" in found["nodes"] else found["nodes"]


def expected_offer(dry_run: str, options: Sequence[str], node: str) -> Resources:
    """Estimate the offer by Slurm's answer to a dry run, the user's options of sbatch, and the description of a node."""
    place = _PLACE.search(dry_run)
    cpus = 1.0 if place is None else float(place["cpus"])
    offer: Resources = {"cpu": cpus}
    memory = _memory(options, cpus)
    if memory is None and (real := _REAL_MEMORY.search(node)):
        memory = float(real["mb"])
    if memory is not None:
        offer["memory"] = memory
    if gpus := _gpus(options):
        offer["gpu"] = gpus
    return offer


def _memory(options: Sequence[str], cpus: float) -> float | None:
    memory: float | None = None
    for name, value in _pairs(options):
        size = _SIZE.fullmatch(value)
        # 0 stands for all of a node.
        if size is None or float(size["amount"]) == 0:
            continue
        if name == "--mem":
            memory = _mb(size)
        elif name == "--mem-per-cpu":
            memory = _mb(size) * cpus
    return memory


def _mb(size: Match[str]) -> float:
    return float(ceil(float(size["amount"]) * _MB[size["unit"]]))


def _gpus(options: Sequence[str]) -> float:
    gpus = 0.0
    for name, value in _pairs(options):
        found = None
        if name == "--gres":
            found = _GPUS.search(value)
        elif name in {"--gpus", "--gpus-per-node", "-G"}:
            found = _COUNT.search(value)
        if found is not None:
            gpus = float(found["count"] or 1)
    return gpus


def _pairs(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options with their values, which are in the same word or in the next one."""
    for word, following in zip_longest(options, options[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            yield name, value if equals else following
        elif word.startswith("-") and len(word) > 1:
            yield word[:2], word[2:] or following
