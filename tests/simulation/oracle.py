"""Values that functions may come to, straight from the definitions of a DAG, and from which of them have failed."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import product
from math import prod

from handoff_actors.graph import DAG, Argument, Function, HookId, PerWorker
from handoff_actors.graph.function import conditions_of
from handoff_actors.skip import ENCODED_SKIP
from tests.simulation.symbols import FAILED_INPUT, constants_of, encode_constants, is_true, made_by, name_of

#: A function with more combinations of inputs is not looked at, and nor is what depends on it.
MOST_COMBINATIONS = 300
#: None: anything.
Values = set[bytes] | None


class Oracle:
    """Tells the values of one run.

    One that has failed may have had a value before, and others may have taken that. `failed` may be None: any may have.
    """

    def __init__(self, dag: DAG, failed: Collection[Hashable] | None) -> None:
        self._dag = dag
        self._failed = dag.functions if failed is None else failed
        hooks = {failed_id.producer for failed_id in failed or () if isinstance(failed_id, HookId)}
        self._failed_hooks = dag.functions if failed is None else hooks
        #: Producers have been added first.
        self.values: dict[Hashable, Values] = {}
        for function in dag.functions.values():
            self.values[function.id] = self._values(function)

    def _values(self, function: Function) -> Values:
        args = [self._argument(arg, function) for arg in function.args]
        conditions = [self._options(condition) for condition in conditions_of(function)]
        known = [values for values in (*args, *conditions) if values is not None]
        if len(known) < len(args) + len(conditions) or prod(map(len, known)) > MOST_COMBINATIONS:
            return None
        values = set[bytes]()
        for chosen in product(*map(sorted, known)):
            taken, decisive = chosen[: len(args)], chosen[len(args) :]
            if FAILED_INPUT not in decisive:
                values |= self._results(function, taken, decisive)
        return values

    def _results(self, function: Function, taken: Sequence[bytes], conditions: Sequence[bytes]) -> set[bytes]:
        if not all(map(is_true, conditions)):
            return {ENCODED_SKIP}
        if function.run_if == "success":
            if FAILED_INPUT in taken:
                # An inline function hands the error on; no other gets here.
                return {FAILED_INPUT} if function.type == "inline" else set()
            if ENCODED_SKIP in taken:
                return {ENCODED_SKIP}
        made = made_by(name_of(function), [*taken, *constants_of(function)])
        if function.run_if == "failure" and FAILED_INPUT not in taken:
            # Within an inline function, one may have failed that stands behind another one that was skipped.
            return {ENCODED_SKIP, made} if self._has_inline(function.args) else {ENCODED_SKIP}
        return {made}

    def _has_inline(self, args: Iterable[Hashable]) -> bool:
        ids = (arg.id if isinstance(arg, Argument) else arg for arg in args)
        return any(
            self._dag.functions[function_id].type == "inline"
            for function_id in ids
            if not isinstance(function_id, PerWorker)
        )

    def _options(self, function_id: Hashable) -> Values:
        values = self.values[function_id]
        if values is None or self._dag.functions[function_id].type == "inline":
            return values
        return values | {FAILED_INPUT} if function_id in self._failed else values

    def _argument(self, arg: Hashable, function: Function) -> Values:
        if isinstance(arg, PerWorker):
            return {made_by(arg.load.__name__, [encode_constants(arg.args)])}
        if not isinstance(arg, Argument):
            return self._options(arg)
        options = self._options(arg.id)
        if options is None:
            return None
        for hook, name in ((arg.serialize, "pack"), (arg.deserialize, "unpack")):
            if hook is not None:
                options = {_hooked(name, value) for value in options}
        return options | {FAILED_INPUT} if arg.serialize and arg.id in self._failed_hooks else options


def _hooked(name: str, value: bytes) -> bytes:
    return value if value in {ENCODED_SKIP, FAILED_INPUT} else made_by(name, [value])
