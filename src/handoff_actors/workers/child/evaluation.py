"""Run a job: decode or compute its arguments, call its code, encode its result."""

import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from handoff_actors.errors import (
    AllocationError,
    DagError,
    FunctionFailed,
    SerializationError,
    UnguardedStart,
)
from handoff_actors.ids import RunId
from handoff_actors.skip import SKIP
from handoff_actors.text import MOST_OF_REASON, encodable, shortened
from handoff_actors.wire.code.namespaces import enter
from handoff_actors.wire.exception_parts import add_note
from handoff_actors.wire.exceptions import decode_exception, describe_exception, encode_exception
from handoff_actors.wire.payload import WAYS_TO_A_MODULE, decode, decode_call, encode
from handoff_actors.workers.child.environments import EnvironmentUnavailable
from handoff_actors.workers.child.loading import refusal_behind
from handoff_actors.workers.child.object_cache import ObjectCache
from handoff_actors.workers.child.outcome import JobOutcome
from handoff_actors.workers.child.process.forks import ForkGuard, end_fork
from handoff_actors.workers.child.process.state import CodeCaller
from handoff_actors.workers.child.read_only import advise_on_read_only
from handoff_actors.workers.child.store import InputNotStored, StoreFailed, WorkerStore
from handoff_actors.workers.child.template import LoadedTemplate
from handoff_actors.workers.protocol import (
    ARG_TAG,
    ASSEMBLED,
    ASSEMBLED_PARTS,
    ASSEMBLED_REST,
    CALL,
    CALL_ARGS,
    CALL_CONSTANTS,
    CALL_TEMPLATE,
    EARLIER,
    EARLIER_INDEX,
    FAILED_INPUT,
    FAILED_INPUT_ERROR,
    LISTED,
    LISTED_ITEMS,
    LISTED_PARTS,
    REF,
    REF_INDEX,
    TEXT,
    TEXT_VALUE,
    ArgRow,
    AssembledRow,
    CallRow,
    ConstantsRow,
    EarlierRow,
    FailedInputRow,
    ListedRow,
    RefRow,
    TextRow,
    WorkerFailureKind,
)

if TYPE_CHECKING:
    from handoff_actors.workers.child.expansion import GrowthEncoder

_GRAPH: Final = "handoff_actors.graph.growths"

#: Awaits an awaitable that a user's function returned.
Finish = Callable[[Awaitable[Any]], Coroutine[Any, Any, Any]]
#: kind, encoded exception, reason, and why `retry_on` allows no further try ("": it allows one).
JobFailure = tuple[WorkerFailureKind, bytes, str, str]
#: Most characters of the last.
_MOST_OF_RULE: Final = 500


class RetryRule(Protocol):
    """Tells which exceptions of user code earn another try; a template does."""

    def reason_against_retry(self, error: BaseException) -> str:
        """Return "" if another try is allowed; else why not. Never raises."""


class UserRaised(Exception):
    """User code raised `error`; wrapped so that it is never mistaken for an error of ours."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class InputFailed(Exception):
    """An input of an inline function has failed, with this error: it is not called."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Evaluation:
    """Evaluates jobs against one store."""

    def __init__(
        self,
        store: WorkerStore,
        inline_limit: int,
        finish: Finish,
        prepare: Callable[[], CodeCaller],
        restore: Callable[[], None],
        forks: ForkGuard,
        objects: ObjectCache,
    ) -> None:
        """`prepare` is called right before user code, and gives what calls that.

        `restore` puts the process's state back after an inline function, before the next code of the job is called.
        """
        self._store = store
        self._inline_limit = inline_limit
        self._finish = finish
        self._prepare = prepare
        self._restore = restore
        self._forks = forks
        self._growths: GrowthEncoder | None = None
        self._objects = objects
        #: Results of earlier members of the running fused group: encoded, or the attempt that has stored it.
        self.earlier: dict[int, bytes | int] = {}

    async def call(
        self,
        run: int,
        templates: dict[int, LoadedTemplate],
        number: int,
        args: Sequence[ArgRow],
        constants: ConstantsRow,
    ) -> Any:
        """Call the code and give its result; SKIP if it is to be skipped. Suspends only in `finish`.

        Raises UserRaised, SerializationError, InputNotStored; and InputFailed, of a template that does not run anyway.
        """
        template = templates[number]
        if template.conditions:
            given = len(args) - template.conditions
            if not await self._are_true(run, templates, args[given:]):
                return SKIP
            args = args[:given]
        enter(template.namespaces)
        code = template.code.load()
        values, runs_anyway = [], template.runs_anyway
        for arg in args:
            value = (
                decode(arg) if isinstance(arg, bytes) else await self._value(run, templates, arg, runs_anyway)
            )
            if value is SKIP and not runs_anyway:
                return SKIP
            values.append(value)
        extra_args, kwargs = (
            self._constants(run, constants, values, template.placed_from) if constants else ((), {})
        )
        positional: Sequence[Any] = (values,) if template.as_list else values
        self._store.mappings.settle()
        try:
            result = self._prepare()(code, *positional, *extra_args, **kwargs)
            if hasattr(type(result), "__await__"):
                result = await self._finish(result)
        except BaseException as error:  # noqa: BLE001 - not even sys.exit() in a user's code ends the worker
            raise self._raised(error) from None
        if self._forks.is_fork:
            end_fork()
        return result

    async def _inner_call(self, run: int, templates: dict[int, LoadedTemplate], call: CallRow) -> Any:
        number, args, constants = call[CALL_TEMPLATE], call[CALL_ARGS], call[CALL_CONSTANTS]
        template = templates[number]
        if template.warm is None:
            return await self.call(run, templates, number, args, constants)

        async def make() -> Any:
            try:
                return await self.call(run, templates, number, args, constants)
            except UserRaised as raised:
                note = f"Raised while {template.warm_name} was made, an object of per_worker that the function takes."
                add_note(raised.error, note)
                raise

        return await self._objects.get(template, make)

    def _raised(self, error: BaseException) -> UserRaised:
        if self._forks.is_fork:
            end_fork(error)
        return UserRaised(error)

    async def _are_true(
        self, run: int, templates: dict[int, LoadedTemplate], conditions: Sequence[ArgRow]
    ) -> bool:
        for arg in conditions:
            value = decode(arg) if isinstance(arg, bytes) else await self._value(run, templates, arg, False)
            try:
                # A `__bool__` may be the user's.
                is_true = self._prepare()(bool, value)
            except BaseException as error:  # noqa: BLE001 - as in `call`
                raise self._raised(error) from None
            self._restore()
            if not is_true:
                return False
        return True

    async def _value(
        self,
        run: int,
        templates: dict[int, LoadedTemplate],
        arg: "RefRow | CallRow | TextRow | EarlierRow | FailedInputRow | AssembledRow | ListedRow",
        runs_anyway: bool,
    ) -> Any:
        """Give an argument; for functions that run anyway, an error in place of a value. Others: raises InputFailed."""
        try:
            if arg[ARG_TAG] != CALL:
                return self._given(run, arg)
            value = await self._inner_call(run, templates, arg)
            if is_growth(value):
                raise SerializationError(
                    f"{value!r} was returned by an inline function or a hook: only regular functions return one"
                )
        except InputFailed as failed:
            if not runs_anyway:
                raise
            return failed.error
        self._restore()
        return value

    def _given(
        self, run: int, arg: RefRow | TextRow | EarlierRow | FailedInputRow | AssembledRow | ListedRow
    ) -> Any:
        if arg[ARG_TAG] == REF:
            return self._store.read(run, arg[REF_INDEX])
        if arg[ARG_TAG] == EARLIER:
            return self._earlier_result(run, arg[EARLIER_INDEX])
        if arg[ARG_TAG] == TEXT:
            return arg[TEXT_VALUE]
        if arg[ARG_TAG] == FAILED_INPUT:
            raise InputFailed(decode_exception(arg[FAILED_INPUT_ERROR]))
        if arg[ARG_TAG] == ASSEMBLED:
            rest = arg[ASSEMBLED_REST]
            assert isinstance(rest, bytes), "the rest of a list in parts is inline"
            return decode(rest, [self._store.read(run, part[REF_INDEX]) for part in arg[ASSEMBLED_PARTS]])
        if arg[ARG_TAG] == LISTED:
            from handoff_actors.graph.parts import PartRef  # noqa: PLC0415 - see `is_growth`

            return decode(arg[LISTED_ITEMS], [PartRef(index, nbytes) for index, nbytes in arg[LISTED_PARTS]])
        assert_never(arg)

    def _earlier_result(self, run: int, index: int) -> Any:
        made = self.earlier[index]
        return decode(made) if isinstance(made, bytes) else self._store.read_own(run, index, made)

    def _constants(
        self,
        run: int,
        constants: bytes | RefRow | AssembledRow,
        values: list[Any],
        placed_from: int | None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give extra_args and kwargs. Values from `placed_from` on go to where placeholders are, and leave the list."""
        if isinstance(constants, bytes) and placed_from is None:
            return decode_call(constants)
        parts = [] if placed_from is None else values[placed_from:][::-1]
        del values[len(values) - len(parts) :]
        if not isinstance(constants, bytes) and constants[ARG_TAG] != REF:
            stored = [self._store.read(run, part[REF_INDEX]) for part in constants[ASSEMBLED_PARTS]]
            parts, constants = [*stored, *parts], constants[ASSEMBLED_REST]
        if isinstance(constants, bytes):
            return decode_call(constants, parts)
        # Constants too large to travel inline are a stored value.
        extra_args, kwargs = self._store.read(run, constants[REF_INDEX], parts)
        return extra_args, kwargs

    def keep(self, run: int, index: int, attempt: int, result: Any, template: LoadedTemplate) -> JobOutcome:
        """Give the encoded result, or the number of its bytes that are now in the store.

        Raises SerializationError, StoreFailed, and DagError for a subgraph that can't be run.
        """
        if is_growth(result):
            if self._growths is None:
                from handoff_actors.workers.child.expansion import GrowthEncoder  # noqa: PLC0415 - see `is_growth`

                self._growths = GrowthEncoder(self._store, self._inline_limit)
            return self._growths.encode(RunId(run), attempt, result, sends_digests=template.sends_digests)
        payload = encode(result)
        if payload.nbytes <= self._inline_limit:
            return payload.to_bytes()
        self._store.write(run, index, attempt, payload)
        return payload.nbytes


def is_growth(result: object) -> bool:
    """True for a subgraph or a list in parts."""
    # Workers start without the graph's modules, which take 10 ms to import: user code that makes such a result has them.
    growths = sys.modules.get(_GRAPH)
    # Not by a hash: a user's metaclass may have none.
    return growths is not None and any(type(result) is growth for growth in growths.GROWTHS)


def failure(error: BaseException, rule: RetryRule) -> JobFailure:
    """Describe why a job, or an item of a stage, failed. Never raises, and what it gives can be sent, whatever the exception does and holds."""
    try:
        kind, encoded, reason = _described(error)
    except BaseException as broken:  # noqa: BLE001 - users' exceptions raise what they like
        kind, encoded, reason = (
            "exception",
            b"",
            f"an exception that can't be described: {type(broken).__name__}",
        )
    against = rule.reason_against_retry(error.error) if isinstance(error, UserRaised) else ""
    return (
        kind,
        encoded,
        encodable(shortened(reason, MOST_OF_REASON)),
        encodable(shortened(against, _MOST_OF_RULE)),
    )


def _described(error: BaseException) -> tuple[WorkerFailureKind, bytes, str]:
    if isinstance(error, DagError):
        # Of a subgraph. A second try would be refused the same.
        return (
            "serialization",
            encode_exception(error),
            f"the subgraph that it returned can't be run: {error}",
        )
    if isinstance(error, SerializationError):
        error = refusal_behind(error) or error
        return "serialization", encode_exception(error), str(error)
    if isinstance(error, EnvironmentUnavailable):
        return "environment", b"", str(error)
    if isinstance(error, InputNotStored):
        return "input", b"", str(error)
    if isinstance(error, StoreFailed):
        return "store", b"", str(error)
    raised = error.error if isinstance(error, UserRaised) else error
    if issubclass(type(raised), UnguardedStart):
        # Of a run that the function has begun. A second try would be refused the same.
        return "serialization", encode_exception(raised), str(raised)
    advise_on_read_only(raised)
    reason = describe_exception(raised)
    if isinstance(raised, ModuleNotFoundError):
        reason = f"{reason}: {WAYS_TO_A_MODULE}"
    encoded = encode_exception(raised, is_users=raised is not error)
    return "deadlock" if _is_deadlock(raised) else "exception", encoded, reason


def _is_deadlock(raised: BaseException) -> bool:
    """True if a nested run waited for what its ancestors hold, on whatever level that was found out."""
    error: BaseException | None = raised
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, AllocationError) and error.held_by:
            return True
        if isinstance(error, FunctionFailed) and error.kind == "deadlock":
            return True
        seen.add(id(error))
        error = error.__cause__
    return False
