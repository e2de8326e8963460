"""The limits of the control groups, as of containers and services, that this process is in.

A limit of any group from this process's own up to the topmost that can be seen holds, so the tightest of them counts.
Both versions of control groups may be mounted at once, each controller in one of them. Read anew at each call: limits
change while processes run.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_SELF: Final = Path("/proc/self")
#: A host of thousands of groups is no container.
_MOST_SEARCHED: Final = 5_000
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
#: Of memory.stat, in version 1 with `total_` in front for a group with all below it: pages that the kernel can take back.
_RECLAIMABLE: Final = ("inactive_file", "active_file", "slab_reclaimable")
#: The files with a group's limits of memory, its use of it, and the count of processes killed for it, by version.
_LIMITS: Final = ("memory.max", "memory.high", "memory.limit_in_bytes")
_USAGES: Final = ("memory.current", "memory.usage_in_bytes")
_KILLS: Final = ("memory.events", "memory.oom_control")


class GroupMemory(NamedTuple):
    """The memory of the group with the least left."""

    available_nbytes: int
    total_nbytes: int


def cpu_quota() -> float | None:
    """The cores' worth of time that this process and those of its groups may use; None: as much as there is."""
    return tightest_quota(_directories("cpu"))


def group_memory() -> GroupMemory | None:
    """The memory that is left to this process's groups, and the least limit; None where there is no limit."""
    return tightest_memory(_directories("memory"))


def count_group_kills() -> int | None:
    """The number of processes of this process's group that the kernel has killed for want of memory; None: not counted."""
    directories = _directories("memory")
    counts = (_flat(_read(directories[:1], name)).get("oom_kill") for name in _KILLS)
    return next((count for count in counts if count is not None), None)


def _directories(controller: str) -> Sequence[Path]:
    with suppress(OSError):
        return _directories_of((_SELF / "cgroup").read_text(errors="replace"), controller)
    return ()


# Hosts of many containers have thousands of mounts. A process can be moved to another group; what is mounted hardly changes.
@lru_cache(maxsize=4)
def _directories_of(membership: str, controller: str) -> Sequence[Path]:
    return directories(membership, (_SELF / "mountinfo").read_text(errors="replace"), controller, _find_own)


def directories(
    membership: str,
    mounts: str,
    controller: str,
    find: Callable[[Path, str], PurePosixPath | None] = lambda _point, _pattern: None,
) -> list[Path]:
    """The directories of the groups that limit a process, its own group first, from the texts of /proc/<pid>/cgroup and mountinfo.

    `find` looks below a directory for the process's own group, where only a pattern of its path is known.
    """
    path = _path_of(membership, controller)
    if path is None:
        return []
    is_old, group = path
    found = [mount for mount in _mounts(mounts) if mount.has(controller if is_old else None)]
    # Where several show the group, the one that shows most of the groups above it.
    shown = sorted(
        (mount for mount in found if _below(group, mount.root) is not None), key=lambda m: len(m.root)
    )
    if shown:
        return _upwards(Path(shown[0].point), _below(group, shown[0].root))
    for mount in found:
        pattern = _pattern_below(group, mount.root)
        if pattern and (below := find(Path(mount.point), pattern)) is not None:
            return _upwards(Path(mount.point), below)
    # The topmost group that a container is shown is then most likely its own.
    return [Path(found[-1].point)] if found else []


def _upwards(point: Path, below: PurePosixPath | None) -> list[Path]:
    """List the directories from one below a mount point up to that."""
    own = Path(point, below or PurePosixPath())
    return [own, *list(own.parents)[: len(own.parts) - len(point.parts)]]


def _find_own(point: Path, pattern: str) -> PurePosixPath | None:
    """Find the group of this process below a mount point."""
    own = str(os.getpid())
    for candidate in islice(point.glob(pattern), _MOST_SEARCHED):
        if own in _read([candidate], "cgroup.procs").split():
            return PurePosixPath(candidate.relative_to(point))
    return None


def _path_of(membership: str, controller: str) -> tuple[bool, str] | None:
    """Return whether version 1 has the controller, and the path of the group."""
    new = None
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return True, path
        if number == "0" and not controllers:
            new = False, path
    return new


class _Mount(NamedTuple):
    #: The group that is to be seen at the mount point.
    root: str
    point: str
    kind: str
    options: Sequence[str]

    def has(self, controller: str | None) -> bool:
        """True if this is a mount of a controller of version 1; None: of version 2."""
        if controller is None:
            return self.kind == "cgroup2"
        return self.kind == "cgroup" and controller in self.options


def _mounts(text: str) -> Iterator[_Mount]:
    """The mounts of file systems in the format of /proc/<pid>/mountinfo, see proc(5)."""
    for line in text.splitlines():
        facts, dash, source = line.partition(" - ")
        fields, (kind, _, options) = facts.split(" "), (*source.split(" "), "", "", "")[:3]
        if dash and kind.startswith("cgroup"):
            yield _Mount(_unescaped(fields[3]), _unescaped(fields[4]), kind, options.split(","))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _below(group: str, root: str) -> PurePosixPath | None:
    """Return the way from a mount's root to a group; None if the mount doesn't show the group."""
    with suppress(ValueError):
        below = PurePosixPath(group).relative_to(root)
        # "/../other" is outside of what this process's namespace shows.
        return None if ".." in below.parts else below
    return None


def _pattern_below(group: str, root: str) -> str:
    """Return a pattern for the way from a mount's root to a group, where the root is above this process's namespace; "" elsewhere."""
    steps, ups = PurePosixPath(group).parts[1:], PurePosixPath(root).parts[1:]
    if not ups or any(step != ".." for step in ups):
        return ""
    group_ups = sum(step == ".." for step in steps)
    # Of each group between the two the namespace hides the name.
    return "/".join(["*"] * (len(ups) - group_ups) + [step for step in steps if step != ".."])


def tightest_quota(groups: Sequence[Path]) -> float | None:
    """The least quota of these groups, in cores; None where none has one."""
    quotas = [quota for group in groups for quota in (_new_quota(group), _old_quota(group)) if quota]
    return min(quotas, default=None)


def _new_quota(group: Path) -> float | None:
    quota, _, period = _read([group], "cpu.max").strip().partition(" ")
    return _ratio(quota, period)


def _old_quota(group: Path) -> float | None:
    return _ratio(*(_read([group], f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")))


def _ratio(quota: str, period: str) -> float | None:
    # Without a quota they say max or -1.
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def tightest_memory(groups: Sequence[Path]) -> GroupMemory | None:
    """The memory of those of these groups with the least left, and the least limit; None where none has a limit."""
    found = [memory for group in groups if (memory := _memory(group)) is not None]
    if not found:
        return None
    available, total = map(min, zip(*found, strict=True))
    return GroupMemory(available, total)


def _memory(group: Path) -> GroupMemory | None:
    facts = _flat(_read([group], "memory.stat"))
    limits = [int(text) for name in _LIMITS if (text := _read([group], name).strip()).isdecimal()]
    if (above := facts.get("hierarchical_memory_limit")) is not None:
        # Of version 1 alone: it tells of groups above that a container doesn't see.
        limits.append(above)
    used = [int(text) for name in _USAGES if (text := _read([group], name).strip()).isdecimal()]
    if not limits or not used:
        return None
    reclaimable = sum(facts.get(f"total_{name}", facts.get(name, 0)) for name in _RECLAIMABLE)
    limit = min(limits)
    return GroupMemory(max(0, limit - max(0, used[0] - reclaimable)), limit)


def _flat(text: str) -> dict[str, int]:
    """The counts in a file of lines of a name and a number."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}  # noqa: PLR2004 - a pair


def _read(groups: Sequence[Path], name: str) -> str:
    """The text of a group's file; "" where there is none."""
    # A group's files say ENODEV once it is removed.
    for group in groups:
        with suppress(OSError):
            return (group / name).read_text(errors="replace")
    return ""
