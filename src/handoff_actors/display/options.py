"""How the user of an app sees a run."""

import logging
from typing import Literal, TypeAlias

from msgspec import Struct

from handoff_actors.events import OnEvent

#: The values of `output`, as `Session.execute_distributed` describes them.
OutputOption: TypeAlias = bool | Literal["raw"] | None


class DisplayOptions(Struct, frozen=True):
    """How an app sees a run. Raises ValueError."""

    on_event: OnEvent | None = None
    #: Whether it is shown; None: where and as soon as somebody is likely to want that.
    progress: bool | None = None
    #: Whether what functions print and log comes home, and with "raw" is shown just as it is; None stands for True.
    output: OutputOption = None

    def __post_init__(self) -> None:
        check_output(self.output)

    def log_level(self) -> int | None:
        """From which level on log records come home: as for the app itself; None where nothing does."""
        return None if self.output is False else logging.getLogger().level


def check_output(output: object) -> None:
    """Raise ValueError for what is no value of the option `output`."""
    if not (output is None or isinstance(output, bool) or (isinstance(output, str) and output == "raw")):
        raise ValueError(f"output={output!r}: it must be True, False, 'raw' or None")
