"""The number of files that a process of our own may have open, and descriptors in reserve for when there are no others."""

import errno
import os
import resource
from collections.abc import Callable
from typing import Final, TypeVar

#: Enough for 10,000 members. Programs that functions start may go through all that could be open.
MOST_FILES: Final = 65_536
#: Of the descriptors that a process may have, one in so many is held in reserve; but at least and at most so many.
_SHARE: Final = 8
_LEAST: Final = 8
_MOST: Final = 256
#: The errors of a process, and of a machine, without descriptors.
OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})

_T = TypeVar("_T")


def most_open_files() -> int:
    """Return the number of files that this process may have open; -1: any."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow_open_files() -> None:
    """Let this process, which must be our own, open as many files as it may: 1,024 are the usual limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Reserve:
    """Descriptors that a process that serves others holds, so that newcomers can't take those that its own work needs."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._keepers: dict[object, Callable[[], None]] = {}

    @property
    def size(self) -> int:
        """The number of descriptors to hold."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _MOST if soft == resource.RLIM_INFINITY else max(_LEAST, min(_MOST, soft // _SHARE))

    def hold(self, keeper: object, given_up: Callable[[], None]) -> bool:
        """Hold the descriptors for a keeper; False if there aren't as many. `given_up` is called, in any thread, once they are used."""
        try:
            while len(self._held) < self.size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._close()
            return False
        self._keepers[keeper] = given_up
        return True

    def drop(self, keeper: object) -> None:
        """Hold nothing for a keeper any more."""
        self._keepers.pop(keeper, None)
        if not self._keepers:
            self._close()

    def give_up(self) -> bool:
        """Close the descriptors, so that others can be opened. False if none are held."""
        keepers, self._keepers = self._keepers, {}
        had_some = self._close()
        for given_up in keepers.values():
            given_up()
        return had_some

    def _close(self) -> bool:
        held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)
        return bool(held)


#: Of this process.
RESERVE: Final = Reserve()


def with_reserve(opens: Callable[[], _T]) -> _T:
    """Return what a function that opens files returns. It is called again once the reserve is given up, if it needs that."""
    try:
        return opens()
    except OSError as error:
        if error.errno not in OUT_OF_DESCRIPTORS or not RESERVE.give_up():
            raise
    return opens()
