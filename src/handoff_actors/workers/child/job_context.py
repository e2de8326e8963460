"""Templates and devices that jobs find when they run."""

from collections.abc import Callable
from typing import assert_never

from handoff_actors.store.mappings import Mappings
from handoff_actors.workers.child.devices import Devices
from handoff_actors.workers.child.template import LoadedTemplates
from handoff_actors.workers.protocol import (
    DefineModules,
    DefineTemplate,
    DropTemplates,
    ExposeDevices,
)


class JobContext:
    """The templates and the devices that the node has announced to a worker."""

    def __init__(self, mappings: Mappings, environment_changed: Callable[[], None]) -> None:
        self.templates = LoadedTemplates()
        self.devices = Devices(environment_changed)
        self._mappings = mappings

    def apply(self, message: DefineTemplate | DefineModules | DropTemplates | ExposeDevices) -> None:
        """Apply a message that is about later jobs."""
        match message:
            case DefineTemplate():
                self.templates.define(message)
            case DefineModules():
                self.templates.define_modules(message)
            case DropTemplates():
                self.templates.forget(message.run, message.numbers)
                self._mappings.let_go()
            case ExposeDevices():
                self.devices.announced = message.devices
            case _:
                assert_never(message)
