"""Options for what an app shows of a run."""

import logging
import os
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from handoff_actors.actors.app.listening import Listening
from handoff_actors.events import OnEvent
from handoff_actors.text import repr_of

#: The values of `output`, as `Session.execute_distributed` describes them.
OutputOption: TypeAlias = bool | Literal["raw"] | None


VARIABLE: Final = "HANDOFF_PROGRESS"
_MEANS: Final = {"0": False, "1": True}


class DisplayOptions(Struct, frozen=True):
    """Options for the display of one run. Raises ValueError."""

    on_event: OnEvent | None = None
    #: True to show the run's progress; None: where and as soon as a user is likely to want that.
    progress: bool | None = None
    #: True to show in the app what functions print and log, "raw" to show it unescaped; None stands for True.
    output: OutputOption = None

    def __post_init__(self) -> None:
        check_output(self.output)

    def listening(self, *, is_observed: bool) -> Listening:
        """Choose what nodes send while functions run; `is_observed` if events of the run are wanted.

        Log records are sent from the level of the app's own root logger on.
        """
        is_shown = self.progress or (self.progress is None and wanted_by_environment() is not False)
        return Listening(
            None if self.output is False else logging.getLogger().level,
            values=self.on_event is not None,
            progress=is_observed or is_shown,
        )


def wanted_by_environment() -> bool | None:
    """Read HANDOFF_PROGRESS: False for 0, True for 1, None for anything else."""
    return _MEANS.get(os.environ.get(VARIABLE, ""))


def check_output(output: object) -> None:
    """Raise ValueError for what is no value of the option `output`."""
    if not (output is None or isinstance(output, bool) or (isinstance(output, str) and output == "raw")):
        raise ValueError(f"output={repr_of(output)}: it must be True, False, 'raw' or None")
