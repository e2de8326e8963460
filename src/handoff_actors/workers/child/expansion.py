"""Encode what a function has returned in place of a plain result: a graph, or a list in parts."""

import secrets
from functools import partial
from typing import Any, Final, Self

import msgspec

from handoff_actors.errors import SerializationError
from handoff_actors.graph.environment import Environment, os_bytes
from handoff_actors.graph.naming import code_name
from handoff_actors.graph.parts import PartRef, Parts
from handoff_actors.graph.plan import Plan, TemplateSpec
from handoff_actors.graph.subgraph import ItemsGraph, Subgraph
from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.lru import LruCache
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.retry_on import reason_against_retry
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Additions,
    Expansion,
    GraphDigests,
    GrownTemplate,
    Ref,
    StoredPart,
    Template,
    TemplateEnvironment,
    WarmObject,
)
from handoff_actors.wire.payload import Payload, encode, encode_call, encode_code
from handoff_actors.wire.pickling import has_code
from handoff_actors.wire.placeholders import position_of_placeholder
from handoff_actors.workers.child.outcome import Grown
from handoff_actors.workers.child.store import WorkerStore

#: Values of a graph, or items of a list, that travel with messages have so many bytes together; of further ones only those of
#: a few kilobytes do.
_MOST_INLINE_NBYTES: Final = 256 * 1024
_FEW_NBYTES: Final = 4 * 1024
#: Runs whose templates a worker remembers, and templates of each.
_RUNS_KEPT: Final = 16
_TEMPLATES_KEPT: Final = 256

_encode: Final = msgspec.msgpack.Encoder().encode


class _KnownTemplate(msgspec.Struct, frozen=True):
    #: Keeps the code alive, whose identity it is known by.
    spec: TemplateSpec
    key: bytes
    name: str
    template: Template
    is_native: bool


class GrowthEncoder:
    """Encodes subgraphs and parts against one store; the code of each template is encoded once per run."""

    def __init__(self, store: WorkerStore, inline_limit: int) -> None:
        self._store = store
        self._inline_limit = inline_limit
        self._runs: LruCache[RunId, LruCache[object, _KnownTemplate]] = LruCache(_RUNS_KEPT)
        #: By identity, code that makes objects of `per_worker`, which is kept alive so, and its digest.
        self._loaders: LruCache[int, tuple[object, bytes]] = LruCache(_TEMPLATES_KEPT)

    def encode(
        self,
        run: RunId,
        attempt: Attempt,
        result: Subgraph[Any] | Parts[Any],
        *,
        sends_digests: bool = False,
    ) -> Grown:
        """Encode a result; large parts of it are in the store then. Raises SerializationError, StoreFailed, DagError.

        Graphs with functions that are cached, and all graphs with `sends_digests`, have digests of what they are made of.
        """
        with _StoredParts(self._store, run, attempt, self._inline_limit) as parts:
            if isinstance(result, Parts):
                return self._listed(result, parts)
            expansion = self._expansion(run, attempt, result, parts, sends_digests=sends_digests)
            return Grown(b"", _encode(Additions(expansion, parts.stored)))

    def _listed(self, result: Parts[Any], parts: "_StoredParts") -> Grown:
        items: list[Any] = []
        for item in result.items:
            payload = encode(item)
            ref = parts.keep(payload) if parts.are_for(payload.nbytes) else None
            items.append(item if ref is None else PartRef(ref.index, ref.nbytes))
        position_of = {ref.index: position for position, ref in enumerate(parts.stored)}
        value = encode(
            items, position_of=lambda part: position_of[part.index] if type(part) is PartRef else None
        )
        return Grown(value.to_bytes(), _encode(Additions(None, parts.stored)))

    def _expansion(
        self,
        run: RunId,
        attempt: Attempt,
        result: Subgraph[Any],
        parts: "_StoredParts",
        *,
        sends_digests: bool,
    ) -> Expansion:
        plan, digests = _planned(result, sends_digests=sends_digests)
        templates = self._templates(run, plan, with_code=attempt > 1)
        encoder = _PlanEncoder(plan, parts)
        native = [number for number, known in enumerate(templates) if known[1]]
        of_items = result if isinstance(result, ItemsGraph) else None
        return Expansion(
            result=plan.index_of[result.result],
            args=plan.args,
            producers=plan.producers,
            dependents=plan.dependents,
            bottom_level=plan.bottom_level,
            template_of=plan.template_of,
            templates=[grown for grown, _ in templates],
            constants_of=plan.constants_of,
            constants=list(map(encoder.constants, range(len(plan.constants)))),
            values=list(map(encoder.value, range(len(plan.values)))),
            priority={index: priority for index, priority in enumerate(plan.priority) if priority},
            node_of={index: node for index, node in enumerate(plan.node_of) if node is not None},
            groups=plan.groups,
            max_retries=plan.max_retries,
            retry_backoff=plan.retry_backoff,
            hooks=plan.hooks,
            python=PYTHON if native or encoder.native_constants or encoder.native_values else "",
            native_templates=native,
            native_constants=encoder.native_constants,
            native_values=encoder.native_values,
            digests=digests,
            result_name=repr_of(result.result) if of_items is None else "",
            items=0 if of_items is None else of_items.items,
            stages=0 if of_items is None else of_items.stages,
        )

    def _templates(self, run: RunId, plan: Plan, *, with_code: bool) -> list[tuple[GrownTemplate, bool]]:
        known = self._runs.get(run)
        if known is None:
            known = LruCache[object, _KnownTemplate](_TEMPLATES_KEPT)
            self._runs.put(run, known)
        grown: list[tuple[GrownTemplate, bool]] = []
        for number, spec in enumerate(plan.templates):
            made = self._made_by(plan, number, spec)
            key = _identity(spec, made)
            template = known.get(key)
            is_new = template is None
            if template is None:
                template = _encoded_template(plan, number, spec, made)
                known.put(key, template)
            carried = template.template if is_new or with_code else None
            entry = GrownTemplate(template.key, template.name, carried, spec.cache_s)
            grown.append((entry, template.is_native))
        return grown

    def _made_by(self, plan: Plan, number: int, spec: TemplateSpec) -> bytes:
        """Return the digest of the code and the arguments that make an object of `per_worker`; b"" for any other code."""
        if spec.warm is None:
            return b""
        from handoff_actors.wire.digest import Digester, digest_of  # noqa: PLC0415 - as in `_digests`

        # Code is digested once: to make an object may change what the code refers to, and it is to be made once.
        known = self._loaders.get(id(spec.code))
        if known is None:
            known = spec.code, _encoded_code(plan, number, spec)[0]
            self._loaders.put(id(spec.code), known)
        return digest_of(known[1], Digester().digest((spec.warm.args, spec.warm.kwargs)))


def _has_cached(plan: Plan) -> bool:
    return any(spec.cache_s is not None for spec in plan.templates)


def _digests(plan: Plan) -> GraphDigests:
    # Few workers need it.
    from handoff_actors.wire.digest import Digester  # noqa: PLC0415

    # A new one each time: code may refer to what has changed meanwhile.
    digest = Digester().digest
    return GraphDigests(
        [digest(spec.code) for spec in plan.templates],
        [digest(constants) for constants in plan.constants],
        [b"" if type(value) is PartRef else digest(value) for value in plan.values],
    )


def _planned(result: Subgraph[Any], *, sends_digests: bool) -> tuple[Plan, GraphDigests | None]:
    plan = Plan.of(result.dag.functions, result.dag.id)
    # Before arguments are encoded: that may change them.
    return plan, _digests(plan) if sends_digests or _has_cached(plan) else None


class _PlanEncoder:
    """Encodes the constants and values of one plan."""

    def __init__(self, plan: Plan, parts: "_StoredParts") -> None:
        self._plan = plan
        self._parts = parts
        self.native_constants: list[int] = []
        self.native_values: list[int] = []

    def constants(self, number: int) -> bytes | Ref:
        is_placed = number in self._plan.placed
        try:
            payload = encode_call(
                *self._plan.constants[number],
                position_of_placeholder if is_placed else None,
                "args" if is_placed else "extra_args",
            )
        except SerializationError as error:
            index = self._plan.constants_of.index(number) if number in self._plan.constants_of else 0
            raise _not_sendable(self._plan, index, "its arguments", error) from error
        return self._placed(payload, number, self.native_constants)

    def value(self, number: int) -> bytes | Ref:
        value = self._plan.values[number]
        if type(value) is PartRef:
            return Ref(value.index, value.nbytes, [])
        try:
            payload = encode(value)
        except SerializationError as error:
            index = next((index for index, args in enumerate(self._plan.args) if ~number in args), 0)
            raise _not_sendable(self._plan, index, "one of its arguments", error) from error
        return self._placed(payload, number, self.native_values)

    def _placed(self, payload: Payload, number: int, native: list[int]) -> bytes | Ref:
        if self._parts.are_for(payload.nbytes):
            return self._parts.keep(payload)
        encoded = payload.to_bytes()
        if has_code(encoded):
            native.append(number)
        return encoded


class _StoredParts:
    """The parts of one attempt that are in the store."""

    def __init__(self, store: WorkerStore, run: RunId, attempt: Attempt, inline_limit: int) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._inline_limit = inline_limit
        #: Of values that are no parts.
        self._inline_nbytes = 0
        self.stored: list[StoredPart] = []

    def are_for(self, nbytes: int) -> bool:
        """Tell whether a value is to be a part; if not, it is counted among those that travel with messages."""
        self._inline_nbytes += nbytes
        may_travel = self._inline_nbytes <= _MOST_INLINE_NBYTES and nbytes <= self._inline_limit
        if may_travel or nbytes <= _FEW_NBYTES:
            return False
        self._inline_nbytes -= nbytes
        return True

    def keep(self, payload: Payload) -> Ref:
        """Store a value of its own. Raises StoreFailed."""
        index = PARTS + secrets.randbits(61)
        self._store.write(self._run, index, self._attempt, payload)
        self.stored.append(StoredPart(index, payload.nbytes))
        return Ref(index, payload.nbytes, [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for part in self.stored:
                self._store.discard(self._run, part.index, self._attempt)


def _identity(spec: TemplateSpec, made: bytes) -> object:
    code: Any = spec.code
    bound = getattr(code, "__self__", None), getattr(code, "__func__", None)
    return (
        id(code) if None in bound else tuple(map(id, bound)),
        spec.as_list,
        tuple(spec.cost.items()) if spec.cost else None,
        spec.timeout,
        spec.environment,
        spec.retry_on if isinstance(spec.retry_on, tuple) else id(spec.retry_on),
        spec.placed_from,
        spec.run_if,
        spec.conditions,
        spec.cache_s,
        made,
    )


def _encoded_code(plan: Plan, number: int, spec: TemplateSpec) -> tuple[bytes, bool, bytes]:
    try:
        return encode_code(spec.code)
    except SerializationError as error:
        index = plan.template_of.index(number) if number in plan.template_of else 0
        raise _not_sendable(plan, index, "its code", error) from error


def _encoded_template(plan: Plan, number: int, spec: TemplateSpec, made: bytes) -> _KnownTemplate:
    digest, by_reference, code = _encoded_code(plan, number, spec)
    rule = b""
    if spec.retry_on is not None:
        without = partial(reason_against_retry, spec.retry_on)
        _, _, rule = _encoded_code(plan, number, msgspec.structs.replace(spec, code=without))
    template = Template(
        number=0,
        digest=digest,
        by_reference=by_reference,
        code=code,
        is_async=spec.is_async,
        as_list=spec.as_list,
        cost=spec.cost,
        timeout=spec.timeout,
        environment=None if spec.environment is None else _environment(spec.environment),
        retry_on=rule,
        placed_from=spec.placed_from,
        run_if=spec.run_if,
        conditions=spec.conditions,
        # The run makes it the key that others have, too.
        warm=None if spec.warm is None else WarmObject(made, spec.warm.name, spec.warm.idle_s),
    )
    # Few workers need it, and it takes 3 ms to import.
    from hashlib import blake2b  # noqa: PLC0415

    key = blake2b(_encode(template), digest_size=16, person=b"template").digest()
    is_native = not by_reference and has_code(code)
    return _KnownTemplate(spec, key, code_name(spec.code), template, is_native)


def _environment(asked_for: Environment) -> TemplateEnvironment:
    variables = {os_bytes(name): os_bytes(value) for name, value in asked_for.env_vars}
    directory = b"" if asked_for.working_dir is None else os_bytes(str(asked_for.working_dir))
    return TemplateEnvironment(variables, directory)


def _not_sendable(plan: Plan, index: Index, what: str, error: SerializationError) -> SerializationError:
    function_id = plan.ids[index]
    return SerializationError(
        f"function {repr_of(function_id)} of the subgraph that it returned: {what} can't be sent to a node: {error}"
    )
