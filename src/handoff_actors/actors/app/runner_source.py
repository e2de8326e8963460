"""The values of a run, for other runs of the same session."""

from typing import Final

from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.errors import ValueLost
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import repr_of
from handoff_actors.wire.digest import digest_of
from handoff_actors.wire.messages.jobs import Ref

#: To digest more would hold up the event loop.
_DIGESTED_NBYTES: Final = 2**20


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


def found_value(runner: RunnerActor, function_id: FunctionId, whose: str, owner: object) -> FoundValue:
    """Find the value of a function that is done; `whose` names its run, for errors. Raises ValueLost, and TypeError for parts."""
    index = runner.plan.index(function_id)
    source = RunnerSource(runner, index)
    subject = f"the value of function {repr_of(function_id)} in {whose}"
    is_parted = runner.view.parts(index) is not None
    on_nodes = any(source.holders()) and not is_parted
    encoded = None if on_nodes else runner.view.inline.get(index) or runner.values.get(index)
    if is_parted and encoded is None:
        raise TypeError(
            f"{subject} is a list of parts on nodes, and can be no argument by reference: fetch it first (await it)"
        )
    if not on_nodes and encoded is None:
        reason = "that run has been released" if runner.is_released else "the nodes that had it are gone"
        raise ValueLost(function_id, reason, subject)
    fingerprint = runner.fingerprint(index)
    if not fingerprint:
        # Another run of the same functions may have made something else, as far as is known.
        name = f"{runner.run:016x}-{index}.{source.ref().version}".encode()
        fingerprint = name
        if encoded is not None and len(encoded) <= _DIGESTED_NBYTES:
            fingerprint = digest_of(bytes(encoded))
    return FoundValue(runner.run, source, encoded, function_id, subject, owner, fingerprint)
