"""Options for what an app shows of a run."""

import logging
from typing import Literal, TypeAlias

from msgspec import Struct

from handoff_actors.events import OnEvent
from handoff_actors.text import repr_of

#: The values of `output`, as `Session.execute_distributed` describes them.
OutputOption: TypeAlias = bool | Literal["raw"] | None


class DisplayOptions(Struct, frozen=True):
    """Options for the display of one run. Raises ValueError."""

    on_event: OnEvent | None = None
    #: True to show the run's progress; None: where and as soon as a user is likely to want that.
    progress: bool | None = None
    #: True to show in the app what functions print and log, "raw" to show it unescaped; None stands for True.
    output: OutputOption = None

    def __post_init__(self) -> None:
        check_output(self.output)

    def log_level(self) -> int | None:
        """The level from which log records are sent to the app: that of the app itself; None if none are sent."""
        return None if self.output is False else logging.getLogger().level


def check_output(output: object) -> None:
    """Raise ValueError for what is no value of the option `output`."""
    if not (output is None or isinstance(output, bool) or (isinstance(output, str) and output == "raw")):
        raise ValueError(f"output={repr_of(output)}: it must be True, False, 'raw' or None")
