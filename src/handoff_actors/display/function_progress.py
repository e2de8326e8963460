"""The progress that a function has reported, for displays."""

from typing import NamedTuple

from handoff_actors.ids import FunctionId


class FunctionProgress(NamedTuple):
    """The progress of one function that runs."""

    function_id: FunctionId
    done: float
    #: None: unknown.
    total: float | None

    @property
    def fraction(self) -> float:
        """The share that is done; 0.0 where that is unknown."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 0.0


def progress_text(done: float, total: float | None) -> str:
    """The progress of a function, as "412/1000 (41 %)"; "412" where the total is unknown."""
    if total is None:
        return f"{done:.12g}"
    share = f" ({done / total:.0%})".replace("%", " %") if total else ""
    return f"{done:.12g}/{total:.12g}{share}"
