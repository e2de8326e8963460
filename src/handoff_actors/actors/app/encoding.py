"""Turns a plan into the bytes that a run sends: code, constants and values, each encoded once."""

import asyncio
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from handoff_actors.actors.app.blame import Blame, PlanPart
from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.actors.app.listening import SILENT, Listening
from handoff_actors.actors.app.own_modules import OWN_MODULES
from handoff_actors.actors.app.sharing import (
    ConstantsSpec,
    SharedParts,
    TakenOut,
)
from handoff_actors.core.run.facts.foreign_values import ForeignValue, ForeignValues
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.python_affinity import PythonAffinity
from handoff_actors.errors import HandoffError, SerializationError
from handoff_actors.graph.environment import Environment, os_bytes
from handoff_actors.graph.plan import Plan, TemplateSpec
from handoff_actors.graph.spec import WarmSpec
from handoff_actors.ids import FunctionId, Index
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.retry_on import RetryOn, reason_against_retry
from handoff_actors.text import repr_of
from handoff_actors.wire.code.by_value import is_any_sent_by_value, is_sent_by_value, sent_by_value
from handoff_actors.wire.digest import Digester
from handoff_actors.wire.messages.jobs import (
    Assembled,
    OwnModules,
    Ref,
    Template,
    TemplateEnvironment,
    WarmObject,
)
from handoff_actors.wire.payload import Payload, encode, encode_call, encode_code
from handoff_actors.wire.pickling import PositionOf, has_code
from handoff_actors.wire.placeholders import position_of_placeholder
from handoff_actors.wire.warm_key import warm_key
from handoff_actors.workers.child.running_job import is_worker

#: The index of the first value that the app has for a run, such as a large constant: no run has as many functions.
APP_VALUES: Final = 1 << 40
#: Stand-ins for what can't be encoded.
NO_CODE = (b"", False, b"")
NO_VALUE = encode(None)

#: Functions that are encoded before the app's loop gets its turn.
SLICE = 500

T = TypeVar("T")


class Encoded(Struct, frozen=True):
    """A program as it is sent to nodes, and the values that stay in the app until they are asked for."""

    program: Program
    #: Large constants.
    large: dict[Index, bytes | memoryview]
    #: Directories that nodes may lack.
    directories: dict[Index, Path]
    #: Definitions of modules that nodes may lack: each function makes them.
    definitions: dict[Index, Callable[[], bytes]]
    #: Functions of which something can't be encoded, with the error that says what.
    refused: dict[Index, HandoffError]
    #: The index of the next value that the app has for the run.
    next_index: Index
    #: The key of the own modules that its templates refer to, and the index of their definitions.
    modules: tuple[bytes, Index] | None = None
    #: Names of own modules that its code and values refer to, and those of others whose values it takes.
    own_modules: set[str] = field(default_factory=set)


class _Parts(Struct):
    """The parts of a program, filled in while they are encoded."""

    templates: list[Template] = field(default_factory=list)
    constants: list[bytes | Ref | Assembled] = field(default_factory=list)
    values: list[bytes | Ref] = field(default_factory=list)
    #: Numbers of those with code by value in them: see `core.run.scheduling.python_affinity`.
    native_templates: set[int] = field(default_factory=set)
    native_constants: set[int] = field(default_factory=set)
    native_values: set[int] = field(default_factory=set)
    foreign: ForeignValues = field(default_factory=ForeignValues)

    def affinity(self) -> PythonAffinity:
        """These numbers, as the core has them."""
        numbers = map(frozenset, (self.native_templates, self.native_constants, self.native_values))
        return PythonAffinity(PYTHON, *numbers)


async def encode_program(
    plan: Plan,
    inline_limit: int,
    listening: Listening = SILENT,
    by_value: Sequence[ModuleType] = (),
    session: str = "",
    *,
    retry_on: RetryOn = None,
    may_refuse: bool = False,
    first_index: Index = APP_VALUES,
    known_modules: Mapping[bytes, Index] = MappingProxyType({}),
    own_modules: Collection[str] = (),
) -> Encoded:
    """The program of a plan; `by_value` are modules that nodes may lack, `session` at most 16 characters.

    `retry_on` is the rule of functions without one of their own, `first_index` that of the first value that stays in the app,
    `known_modules` are the indices of definitions that the run has already, by the keys of their modules, `own_modules` the names
    of those that values may refer to which functions take and that were made before.
    Raises SerializationError, which names the function; with `may_refuse` such functions are `refused`, and none raises.
    """
    encoder = _Encoder(
        plan,
        inline_limit,
        listening,
        by_value,
        session,
        retry_on,
        first_index,
        known_modules,
        own_modules,
        may_refuse=may_refuse,
    )
    await encoder.encode()
    program = Program(
        plan,
        encoder.parts.templates,
        encoder.parts.constants,
        encoder.parts.values,
        encoder.parts.affinity(),
        encoder.parts.foreign,
    )
    return Encoded(
        program,
        encoder.large,
        encoder.directories,
        encoder.definitions,
        encoder.refused,
        encoder.next_index,
        encoder.modules,
        encoder.own_used,
    )


class _Encoder:
    def __init__(
        self,
        plan: Plan,
        inline_limit: int,
        listening: Listening,
        by_value: Sequence[ModuleType],
        session: str,
        retry_on: RetryOn,
        first_index: Index,
        known_modules: Mapping[bytes, Index],
        own_modules: Collection[str],
        *,
        may_refuse: bool,
    ) -> None:
        self._plan = plan
        self._retry_on = retry_on
        #: Rules of `retry_on`, encoded, by identity.
        self._rules: dict[int, bytes] = {}
        self._blame = Blame(plan)
        self._may_refuse = may_refuse
        self.refused: dict[Index, HandoffError] = {}
        self._inline_limit = inline_limit
        self._listening = listening
        self._by_value, self._session = by_value, session
        self._environments: dict[Environment, TemplateEnvironment] = {}
        #: Code is not the same in two runs where it imports from a directory: that may have changed in between.
        self._salt = b""
        self.next_index = first_index
        self.large: dict[Index, bytes | memoryview] = {}
        #: Values among them with code by value.
        self._native_parts: set[Index] = set()
        self.directories: dict[Index, Path] = {}
        self.definitions: dict[Index, Callable[[], bytes]] = {}
        self._known_modules = known_modules
        self._own_modules = own_modules
        self.modules: tuple[bytes, Index] | None = None
        #: Names of the app's own modules, and of those among them that code and values refer to.
        self._own = OWN_MODULES.names()
        self.own_used: set[str] = set()
        self._has_assembled = False
        #: Names of modules that code may import, by the code's identity.
        self._modules_of_code: dict[int, set[str]] = {}
        #: Numbers of the templates whose code refers to some.
        self._own_code: set[int] = set()
        self.parts = _Parts()

    async def encode(self) -> None:
        plan, parts = self._plan, self.parts
        codes: dict[int, tuple[bytes, bool, bytes]] = {}
        for number, spec in enumerate(plan.templates):
            key = id(spec.code)
            if codes.get(key, NO_CODE) is NO_CODE:
                # Each template with code that can't be encoded has functions of its own to refuse.
                modules = self._modules_of_code[key] = set()
                codes[key] = self._named(
                    (PlanPart.TEMPLATE, number),
                    "its code" if spec.warm is None else f"the code of {spec.warm.name}",
                    NO_CODE,
                    encode_code,
                    spec.code,
                    self._session,
                    modules,
                )
            parts.templates.append(self._template(number, spec, codes[key]))
            await breathe(number)
        await self._encode_constants()
        for number, value in enumerate(plan.values):
            part = PlanPart.VALUE, number
            if isinstance(value, FoundValue):
                parts.values.append(self._foreign_value(number, value))
                continue
            payload = self._named(part, "one of its arguments", NO_VALUE, encode, value, "argument")
            parts.values.append(self._place(payload.to_bytes(), number, parts.native_values))
            await breathe(number)
        if self._own:
            await self._note_own_modules()
        if self.own_used:
            self._add_own_modules()

    async def _encode_constants(self) -> None:
        plan, constants, native = self._plan, self.parts.constants, self.parts.native_constants
        shared = SharedParts(plan.constants, self._inline_limit, self._keep)
        for number, part in enumerate(shared.candidates):
            with self._by_value_modules():
                shared.keep_object(part)
            await breathe(number)
        #: Constants with large buffers: which of these are shared shows once all have been seen.
        undecided: dict[int, Payload] = {}
        keeps_objects = shared.keeps_objects
        for number, spec in enumerate(plan.constants):
            if keeps_objects and shared.has_objects(spec):
                constants.append(self._assembled(number, shared))
                await breathe(number)
                continue
            payload = self._call(number, spec)
            if payload.nbytes > self._inline_limit and shared.note_buffers(payload):
                undecided[number] = payload
                constants.append(b"")
            else:
                constants.append(self._place(payload.to_bytes(), number, native))
            await breathe(number)
        for number, payload in undecided.items():
            if shared.may_have_parts(payload):
                constants[number] = self._assembled(number, shared)
            else:
                constants[number] = self._place(payload.to_bytes(), number, native)
            await breathe(number)

    def _call(self, number: int, spec: ConstantsSpec, position_of: PositionOf | None = None) -> Payload:
        part = PlanPart.CONSTANTS, number
        if number not in self._plan.placed:
            return self._named(part, "its extra_args or kwargs", NO_VALUE, encode_call, *spec, position_of)
        position_of = position_of or position_of_placeholder
        return self._named(part, "one of its arguments", NO_VALUE, encode_call, *spec, position_of, "args")

    def _assembled(self, number: int, shared: SharedParts) -> bytes | Ref | Assembled:
        spec, taken_out = self._plan.constants[number], TakenOut(shared)
        payload = self._call(number, spec, taken_out.position_of)
        if not taken_out.parts or taken_out.are_entangled:
            return self._place(self._call(number, spec).to_bytes(), number, self.parts.native_constants)
        rest = self._place(payload.to_bytes(), number, self.parts.native_constants)
        self._has_assembled = True
        if not self._native_parts.isdisjoint(ref.index for ref in taken_out.parts):
            self.parts.native_constants.add(number)
        return Assembled(rest, taken_out.parts)

    def _keep(self, encoded: bytes) -> Ref:
        index = self._take_index()
        self.large[index] = encoded
        if has_code(encoded):
            self._native_parts.add(index)
        if self._own:
            self.own_used |= OWN_MODULES.used_in(encoded)
        return Ref(index, len(encoded), [""])

    def _template(self, number: int, spec: TemplateSpec, code: tuple[bytes, bool, bytes]) -> Template:
        digest, by_reference, encoded = code
        environment = None if spec.environment is None else self._environment(spec.environment)
        if not by_reference and has_code(encoded):
            self.parts.native_templates.add(number)
        if self._own:
            self._note_own_code(number, spec, code)
        if environment is not None and environment.directory:
            self._salt = self._salt or secrets.token_bytes(8)
            digest = _digest_within(environment.directory, self._salt, digest)
        return Template(
            number,
            digest,
            by_reference,
            encoded,
            spec.is_async,
            spec.as_list,
            spec.cost,
            spec.timeout,
            self._listening.log_level,
            environment,
            self._session,
            retry_on=self._rule(number, spec),
            placed_from=spec.placed_from,
            run_if=spec.run_if,
            conditions=spec.conditions,
            sends_values=self._listening.values,
            sends_progress=self._listening.progress,
            sends_digests=self._listening.digests,
            warm=None if spec.warm is None else self._warm_object(spec, spec.warm, environment),
        )

    def _warm_object(
        self, spec: TemplateSpec, warm: WarmSpec, environment: TemplateEnvironment | None
    ) -> WarmObject:
        made = Digester().digest((spec.code, warm.args, warm.kwargs))
        return WarmObject(warm_key(self._session, made, environment, spec.cost), warm.name, warm.idle_s)

    def _rule(self, number: int, spec: TemplateSpec) -> bytes:
        """The rule of `retry_on` for functions of a template, as `Template` has it."""
        rule = self._retry_on if spec.retry_on is None else spec.retry_on
        if rule is None:
            return b""
        if not self._rules.get(id(rule)):
            code = partial(reason_against_retry, rule)
            modules = self._modules_of_code[id(spec.code)]
            _, _, self._rules[id(rule)] = self._named(
                (PlanPart.TEMPLATE, number),
                "its retry_on",
                NO_CODE,
                encode_code,
                code,
                self._session,
                modules,
            )
        return self._rules[id(rule)]

    def _environment(self, asked_for: Environment) -> TemplateEnvironment:
        known = self._environments.get(asked_for)
        if known is None:
            known = self._environments[asked_for] = self._new_environment(asked_for)
        return known

    def _new_environment(self, asked_for: Environment) -> TemplateEnvironment:
        variables = {os_bytes(name): os_bytes(value) for name, value in asked_for.env_vars}
        if asked_for.working_dir is None:
            return TemplateEnvironment(variables)
        directory = Path(asked_for.working_dir).expanduser().absolute()
        if not directory.is_dir():
            # A node may have it.
            return TemplateEnvironment(variables, os_bytes(str(directory)))
        index = next((known for known, path in self.directories.items() if path == directory), None)
        if index is None:
            index = self._take_index()
            self.directories[index] = directory
        # How large it is shows once it has been packed, if that has to be.
        return TemplateEnvironment(variables, os_bytes(str(directory)), Ref(index, 0, [""]))

    def _place(self, encoded: bytes | memoryview, number: int, by_value: set[int]) -> bytes | Ref:
        if has_code(encoded):
            by_value.add(number)
        if len(encoded) <= self._inline_limit:
            return bytes(encoded)
        index = self._take_index()
        self.large[index] = encoded
        if self._own:
            self.own_used |= OWN_MODULES.used_in(encoded)
        return Ref(index, len(encoded), [""])

    def _foreign_value(self, number: int, found: FoundValue) -> bytes | Ref:
        encoded = found.encoded
        if encoded is not None:
            return self._place(encoded, number, self.parts.native_values)
        self._plan.values[number] = None
        users = self._blame.users(PlanPart.VALUE, number)
        foreign = ForeignValue(
            self._take_index(), found.run, found.source, users, found.function_id, found.subject, found.owner
        )
        self.parts.foreign.add(foreign)
        return foreign.ref()

    def _note_own_code(self, number: int, spec: TemplateSpec, code: tuple[bytes, bool, bytes]) -> None:
        _, by_reference, encoded = code
        used = self._modules_of_code[id(spec.code)] & self._own
        if not by_reference and is_worker():
            # A part of it may be as it came here.
            used |= OWN_MODULES.used_in(encoded)
        if used:
            self.own_used |= used
            self._own_code.add(number)

    async def _note_own_modules(self) -> None:
        for encoded in (self.parts.constants, self.parts.values):
            await self._search_inline(encoded)
        if self._plan.outer or self.parts.foreign:
            # What is in values that are there already, or come from functions that were added before, is not known here.
            self.own_used.update(self._own.intersection(self._own_modules))

    async def _search_inline(self, encoded: Sequence[bytes | Ref | Assembled]) -> None:
        """Look for own modules in what is sent inline: many at once, as one by one takes as long as all else."""
        for start in range(0, len(encoded), SLICE):
            if start:
                await asyncio.sleep(0)
            parts = encoded[start : start + SLICE]
            if self._has_assembled:
                parts = [part.rest if isinstance(part, Assembled) else part for part in parts]
            inline = [part for part in parts if type(part) is bytes]
            self.own_used |= OWN_MODULES.named_in(b"".join(inline))

    def _add_own_modules(self) -> None:
        """Have each template name the own modules of the whole run: results are arguments of other functions, too."""
        named = set[str]().union(*self._modules_of_code.values())
        is_left_out = None
        if is_any_sent_by_value(self._by_value):
            is_left_out = partial(is_sent_by_value, among=self._by_value)
        own = OWN_MODULES.set_of(self.own_used, is_left_out, named)
        if own is None:
            return
        index = self._known_modules.get(own.key)
        if index is None:
            index = self._take_index()
        self.definitions[index] = own.definitions
        self.modules = own.key, index
        # How large they are shows once they have been made, if that has to be.
        modules = OwnModules(own.key, own.sources, Ref(index, 0, [""]))
        templates = self.parts.templates
        for number, template in enumerate(templates):
            if not _imports_from_directory(template, own.sources):
                # Code that refers to modules must be loaded anew with them.
                digest = template.digest
                if number in self._own_code:
                    digest = _digest_within(self._session.encode(), own.key, digest)
                templates[number] = replace(template, digest=digest, modules=modules)

    def _take_index(self) -> Index:
        self.next_index += 1
        return self.next_index - 1

    def _by_value_modules(self) -> AbstractContextManager[object]:
        # Not for longer than one encoding: other runs encode in between.
        return sent_by_value(self._by_value) if self._by_value else nullcontext()

    def _named(
        self, part: tuple[PlanPart, int], what: str, nothing: T, encode_it: Callable[..., T], *parts: object
    ) -> T:
        """Encode a part of the plan; `nothing` stands in for one whose functions are refused."""
        try:
            if not self._by_value:
                return encode_it(*parts)
            with self._by_value_modules():
                return encode_it(*parts)
        except SerializationError as error:
            if not self._may_refuse:
                raise _not_sendable(self._blame.first(*part), what, error) from error
            for index in self._blame.users(*part):
                refusal = _not_sendable(self._plan.ids[index], what, error)
                refusal.__cause__ = error
                self.refused.setdefault(index, refusal)
            return nothing


def _digest_within(directory: bytes, salt: bytes, digest: bytes) -> bytes:
    # As in wire.payload: few programs need it, and it takes 3 ms to import.
    from hashlib import blake2b  # noqa: PLC0415

    return blake2b(directory + salt + digest, digest_size=16, person=b"directory").digest()


def _imports_from_directory(template: Template, modules: Iterable[str]) -> bool:
    """True if a template's functions import some of these modules from the directory that they work in, or may do so."""
    environment = template.environment
    if environment is None or not environment.directory:
        return False
    directory = Path(os.fsdecode(environment.directory))
    if environment.package is None:
        # Only nodes have it.
        return True
    names = {name.partition(".")[0] for name in modules}
    return any((directory / name).exists() or (directory / f"{name}.py").exists() for name in names)


def _not_sendable(function_id: FunctionId, what: str, error: SerializationError) -> SerializationError:
    return SerializationError(
        f"function {repr_of(function_id)}: {what} can't be sent to a node: {error}", function_id
    )


async def breathe(number: int) -> None:
    """Give the loop its turn, now and then. `number` counts what has been done."""
    if number % SLICE == SLICE - 1:
        await asyncio.sleep(0)
