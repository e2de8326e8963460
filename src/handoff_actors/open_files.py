"""The number of files that a process of our own may have open."""

import resource
from typing import Final

#: Enough for 10,000 members. Programs that functions start may go through all that could be open.
MOST_FILES: Final = 65_536


def allow_open_files() -> None:
    """Let this process, which must be our own, open as many files as it may: 1,024 are the usual limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
