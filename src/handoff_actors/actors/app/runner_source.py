"""The values of a run, for other runs of the same session."""

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ref


class RunnerSource:
    """A value of a run of the same session."""

    def __init__(self, runner: RunnerActor, index: Index) -> None:
        self._runner = runner
        self._index = index

    @property
    def _is_there(self) -> bool:
        return not self._runner.is_released

    def holders(self) -> list[str]:
        """See ValueSource."""
        in_app = [""] if self._index in self._runner.values else []
        return [*self._runner.view.holders(self._index), *in_app] if self._is_there else []

    def ref(self) -> Ref:
        """See ValueSource."""
        ref = self._runner.view.ref(self._index)
        if not self._is_there or (self._index in self._runner.values and "" not in ref.holders):
            holders = [*ref.holders, ""] if self._is_there else []
            return Ref(ref.index, ref.nbytes, holders, ref.version)
        return ref
