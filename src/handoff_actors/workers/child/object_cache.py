"""The objects of `per_worker` that this worker has made, and keeps until it ends.

Its node ends the worker to be rid of them: nothing else gives back the memory of a machine, or of a GPU, for certain.
"""

import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from handoff_actors.workers.child.process.state import keeping_changes
from handoff_actors.workers.child.template import LoadedTemplate

_PAGE_NBYTES: Final = os.sysconf("SC_PAGE_SIZE")

#: Makes an object.
Make = Callable[[], Coroutine[Any, Any, Any]]


class ObjectCache:
    """The objects of a worker that makes one thing at a time."""

    def __init__(self, made: Callable[[bytes, int], None]) -> None:
        """`made` is called with the key of an object that is kept from now on, and the memory that it took in bytes."""
        self._made = made
        #: By key, with the template that made it: the globals of its code stay as long as the object.
        self._kept: dict[bytes, tuple[Any, LoadedTemplate]] = {}

    async def get(self, template: LoadedTemplate, make: Make) -> Any:
        """Give the object of a template; made by `make`, if it isn't here, whose errors are raised."""
        assert template.warm is not None, "it makes results"
        kept = self._kept.get(template.warm)
        return await self._make(template.warm, template, make) if kept is None else kept[0]

    async def _make(self, key: bytes, template: LoadedTemplate, make: Make) -> Any:
        before = own_nbytes()
        # As with the initializer of a pool, what it sets up in its process is for the functions that follow.
        with keeping_changes():
            made = await make()
        self._keep(key, template, made, before)
        return made

    def _keep(self, key: bytes, template: LoadedTemplate, made: Any, nbytes_before: int) -> None:
        self._kept[key] = made, template
        self._made(key, max(0, own_nbytes() - nbytes_before))


def own_nbytes() -> int:
    """The memory of this process alone; 0 where that is not known."""
    with suppress(OSError):
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
        return (int(resident) - int(shared)) * _PAGE_NBYTES
    return 0
