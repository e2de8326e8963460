"""Control groups of the kernel, as of a container with limits, for tests."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_CPU, _MEMORY = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/memory")
_ENDS_WITHIN_S = 10.0


@contextmanager
def container(memory_mb: int, cores: float | None = None) -> Iterator[Sequence[str]]:
    """The beginning of a command that runs within these limits, in a group within the limited one. Skips the test where no group can be made."""
    name = f"handoff-test-{os.getpid()}-{time.monotonic_ns()}"
    groups = [_MEMORY / name, _MEMORY / name / "inner", _CPU / name]
    try:
        for group in groups:
            group.mkdir()
        (_MEMORY / name / "memory.limit_in_bytes").write_text(f"{memory_mb * 1_000_000}")
        if cores is not None:
            (_CPU / name / "cpu.cfs_quota_us").write_text(f"{cores * 100_000:.0f}")
    except OSError as error:
        _remove(groups)
        pytest.skip(f"needs control groups of version 1, and root: {error}")
    entering = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups[1:])
    try:
        yield "/bin/sh", "-c", f'{entering} && exec "$@"', "sh"
    finally:
        _remove(groups)


def _remove(groups: Sequence[Path]) -> None:
    """Remove the groups, the innermost first, as soon as no process is left in them."""
    ends_at = time.monotonic() + _ENDS_WITHIN_S
    for group in sorted(groups, reverse=True):
        while group.is_dir():
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > ends_at:
                    raise
