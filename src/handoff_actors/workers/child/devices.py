"""The GPUs that a job sees."""

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

    def expose(self, devices: str | None) -> None:
        """Show these devices to user code from now on."""
        if devices == self.visible:
            return
        self.visible = devices
        shown = self._usual if devices is None else devices
        if shown is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = shown
        self._changed()
