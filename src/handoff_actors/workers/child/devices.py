"""The GPUs that a job sees.

The node counts its devices from 0. Where its own CUDA_VISIBLE_DEVICES lists some, as in a job of Slurm or a worker of Ray, they
are those, in that order: the others of the machine are somebody else's.
"""

import os
from collections.abc import Callable
from typing import Final

_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"


class Devices:
    """The devices that the node has announced for later jobs, and those that the environment shows now."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        #: As the variable is to read, or None: as it read when the worker began.
        self.announced: str | None = None
        self.visible: str | None = None
        self._usual = os.environ.get(_VARIABLE)
        self._own = [name.strip() for name in (self._usual or "").split(",") if name.strip()]

    def expose(self, devices: str | None) -> None:
        """Show these devices to user code from now on."""
        if devices == self.visible:
            return
        self.visible = devices
        shown = self._usual if devices is None else self._named(devices)
        if shown is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = shown
        self._changed()

    def _named(self, devices: str) -> str:
        numbers = devices.split(",") if devices else []
        return ",".join(
            self._own[int(number)] if int(number) < len(self._own) else number for number in numbers
        )
