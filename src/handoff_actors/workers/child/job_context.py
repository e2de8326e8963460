"""What jobs find when they run."""

from typing import Any

from handoff_actors.store.mappings import Mappings
from handoff_actors.workers.child.devices import Devices
from handoff_actors.workers.child.template import LoadedTemplates
from handoff_actors.workers.protocol import ToWorker


class JobContext:
    """The templates and the devices that a worker has been told of."""

    def __init__(self, mappings: Mappings) -> None:
        self.templates = LoadedTemplates()
        self.devices = Devices()
        self._mappings = mappings

    def hear(self, message: list[Any]) -> None:
        """Take in a message that is about jobs to come."""
        match message:
            case [ToWorker.DEFINE, *fields]:
                self.templates.define(*fields)
            case [ToWorker.FORGET, run]:
                self.templates.forget(run)
                self._mappings.let_go()
            case [ToWorker.EXPOSE, devices]:
                self.devices.announced = devices
