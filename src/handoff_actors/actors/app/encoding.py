"""Turns a plan into the bytes that a run sends: code, constants and values, each encoded once."""

import asyncio
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
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
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
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
from handoff_actors.wire.pickling import PositionOf, has_code, pickled_small
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

#: Digests of code that refers to own modules: calls of one function have the same.
_DIGESTS_KEPT: Final = 256

T = TypeVar("T")


class EncodingOptions(Struct, frozen=True):
    """The options of a run that its encoded programs depend on."""

    #: Longer values stay in the app until they are asked for.
    inline_limit: int
    listening: Listening = SILENT
    #: Modules that nodes may lack.
    by_value: Sequence[ModuleType] = ()
    #: At most 16 characters.
    session: str = ""
    #: The rule of functions without one of their own.
    retry_on: RetryOn = None
    #: Names of own modules that values may refer to which functions take and that were made before.
    own_modules: Collection[str] = ()


class EncodedSoFar(Struct):
    """The values of the app that a run has been given already, which later parts of it refer to."""

    #: The index of the next value that the app has for the run.
    next_index: Index = APP_VALUES
    #: By the key of own modules: the index of their definitions.
    modules: dict[bytes, Index] = {}


class Encoded(Struct, frozen=True):
    """A program as it is sent to nodes, and the values that stay in the app until they are asked for."""

    program: Program
    #: Large constants.
    large: dict[Index, bytes | memoryview]
    #: Directories that nodes may lack.
    directories: dict[Index, Path]
    #: Definitions of modules that nodes may lack and the run has not been given: each function makes them.
    definitions: dict[Index, Callable[[], bytes]]
    #: Functions of which something can't be encoded, with the error that says what.
    refused: dict[Index, HandoffError]
    #: The index of the next value that the app has for the run.
    next_index: Index
    #: The key of the own modules that its templates refer to, and the index of their definitions.
    modules: tuple[bytes, Index] | None = None
    #: Names of own modules that its code and values refer to, and those of others whose values it takes.
    own_modules: set[str] = field(default_factory=set)


async def encode_program(
    plan: Plan, options: EncodingOptions, so_far: EncodedSoFar | None = None, *, may_refuse: bool = False
) -> Encoded:
    """The program of a plan, which may be a further part of a run.

    Raises SerializationError, which names the function; with `may_refuse` such functions are `refused`, and none raises.
    """
    so_far = so_far or EncodedSoFar()
    own = OWN_MODULES.names()
    encoder = _Encoder(plan, options, may_refuse, Blame(plan), own, so_far.modules, so_far.next_index)
    await encoder.encode()
    return encoder.encoded()


class _Encoder(Struct):
    """Encodes one plan."""

    plan: Plan
    options: EncodingOptions
    may_refuse: bool
    blame: Blame
    #: Names of the app's own modules.
    own: frozenset[str]
    #: Indices of definitions that the run has already, by the keys of their modules.
    known_modules: Mapping[bytes, Index]
    next_index: Index

    templates: list[Template] = []
    constants: list[bytes | Ref | Assembled] = []
    values: list[bytes | Ref] = []
    foreign: ForeignValues = field(default_factory=ForeignValues)
    large: dict[Index, bytes | memoryview] = {}
    directories: dict[Index, Path] = {}
    definitions: dict[Index, Callable[[], bytes]] = {}
    refused: dict[Index, HandoffError] = {}
    modules: tuple[bytes, Index] | None = None

    #: Numbers of those with code by value in them: see `core.run.scheduling.python_affinity`.
    native_templates: set[int] = set()
    native_constants: set[int] = set()
    native_values: set[int] = set()
    #: Large values with code by value in them.
    native_parts: set[Index] = set()
    #: Rules of `retry_on`, encoded, by identity.
    rules: dict[int, bytes] = {}
    environments: dict[Environment, TemplateEnvironment] = {}
    #: Code is not the same in two runs where it imports from a directory: that may have changed in between.
    salt: bytes = b""
    #: Names of own modules that code and values refer to.
    own_used: set[str] = set()
    has_assembled: bool = False
    #: Names of modules that code may import, by the code's identity.
    modules_of_code: dict[int, set[str]] = {}
    #: Numbers of the templates whose code refers to own ones.
    own_code: set[int] = set()

    def encoded(self) -> Encoded:
        """Return the plan, once it has been encoded."""
        native = (self.native_templates, self.native_constants, self.native_values)
        affinity = PythonAffinity(PYTHON, *map(frozenset, native)) if any(native) else NO_AFFINITY
        program = Program(self.plan, self.templates, self.constants, self.values, affinity, self.foreign)
        return Encoded(
            program,
            self.large,
            self.directories,
            self.definitions,
            self.refused,
            self.next_index,
            self.modules,
            self.own_used,
        )

    async def encode(self) -> None:
        await self._encode_templates()
        if self.plan.constants:
            await self._encode_constants()
        await self._encode_values()
        if self.own:
            await self._note_own_modules()
        if self.own_used:
            self._add_own_modules()

    async def _encode_templates(self) -> None:
        codes: dict[int, tuple[bytes, bool, bytes]] = {}
        for number, spec in enumerate(self.plan.templates):
            key = id(spec.code)
            if codes.get(key, NO_CODE) is NO_CODE:
                # Each template with code that can't be encoded has functions of its own to refuse.
                modules = self.modules_of_code[key] = set()
                codes[key] = self._named(
                    (PlanPart.TEMPLATE, number),
                    "its code" if spec.warm is None else f"the code of {spec.warm.name}",
                    NO_CODE,
                    encode_code,
                    spec.code,
                    self.options.session,
                    modules,
                )
            self.templates.append(self._template(number, spec, codes[key]))
            await breathe(number)

    async def _encode_constants(self) -> None:
        plan, constants, native = self.plan, self.constants, self.native_constants
        shared = SharedParts(plan.constants, self.options.inline_limit, self._keep)
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
            if payload.nbytes > self.options.inline_limit and shared.note_buffers(payload):
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

    async def _encode_values(self) -> None:
        for number, value in enumerate(self.plan.values):
            part = PlanPart.VALUE, number
            if isinstance(value, FoundValue):
                self.values.append(self._foreign_value(number, value))
                continue
            small = pickled_small(value)
            if small is not None and len(small) <= self.options.inline_limit:
                self.values.append(small)
            else:
                payload = self._named(part, "one of its arguments", NO_VALUE, encode, value, "argument")
                self.values.append(self._place(payload.to_bytes(), number, self.native_values))
            if number % SLICE == SLICE - 1:
                # As `breathe`, without a coroutine for each: there may be as many values as functions.
                await asyncio.sleep(0)

    def _call(self, number: int, spec: ConstantsSpec, position_of: PositionOf | None = None) -> Payload:
        part = PlanPart.CONSTANTS, number
        if number not in self.plan.placed:
            return self._named(part, "its extra_args or kwargs", NO_VALUE, encode_call, *spec, position_of)
        position_of = position_of or position_of_placeholder
        return self._named(part, "one of its arguments", NO_VALUE, encode_call, *spec, position_of, "args")

    def _assembled(self, number: int, shared: SharedParts) -> bytes | Ref | Assembled:
        spec, taken_out = self.plan.constants[number], TakenOut(shared)
        payload = self._call(number, spec, taken_out.position_of)
        if not taken_out.parts or taken_out.are_entangled:
            return self._place(self._call(number, spec).to_bytes(), number, self.native_constants)
        rest = self._place(payload.to_bytes(), number, self.native_constants)
        self.has_assembled = True
        if not self.native_parts.isdisjoint(ref.index for ref in taken_out.parts):
            self.native_constants.add(number)
        return Assembled(rest, taken_out.parts)

    def _keep(self, encoded: bytes) -> Ref:
        index = self._take_index()
        self.large[index] = encoded
        if has_code(encoded):
            self.native_parts.add(index)
        if self.own:
            self.own_used |= OWN_MODULES.used_in(encoded)
        return Ref(index, len(encoded), [""])

    def _template(self, number: int, spec: TemplateSpec, code: tuple[bytes, bool, bytes]) -> Template:
        digest, by_reference, encoded = code
        listening = self.options.listening
        environment = None if spec.environment is None else self._environment(spec.environment)
        if not by_reference and has_code(encoded):
            self.native_templates.add(number)
        # It may refer to own modules, too.
        rule = self._rule(number, spec)
        if self.own:
            self._note_own_code(number, spec, code)
        if environment is not None and environment.directory:
            self.salt = self.salt or secrets.token_bytes(8)
            digest = _digest_within(environment.directory, self.salt, digest)
        return Template(
            number,
            digest,
            by_reference,
            encoded,
            spec.is_async,
            spec.as_list,
            spec.cost,
            spec.timeout,
            listening.log_level,
            environment,
            self.options.session,
            retry_on=rule,
            placed_from=spec.placed_from,
            run_if=spec.run_if,
            conditions=spec.conditions,
            sends_values=listening.values,
            sends_progress=listening.progress,
            sends_digests=listening.digests,
            warm=None if spec.warm is None else self._warm_object(spec, spec.warm, environment),
            is_stage=spec.is_stage,
        )

    def _warm_object(
        self, spec: TemplateSpec, warm: WarmSpec, environment: TemplateEnvironment | None
    ) -> WarmObject:
        made = Digester().digest((spec.code, warm.args, warm.kwargs))
        return WarmObject(
            warm_key(self.options.session, made, environment, spec.cost), warm.name, warm.idle_s
        )

    def _rule(self, number: int, spec: TemplateSpec) -> bytes:
        """The rule of `retry_on` for functions of a template, as `Template` has it."""
        rule = self.options.retry_on if spec.retry_on is None else spec.retry_on
        if rule is None:
            return b""
        if not self.rules.get(id(rule)):
            code = partial(reason_against_retry, rule)
            modules = self.modules_of_code[id(spec.code)]
            _, _, self.rules[id(rule)] = self._named(
                (PlanPart.TEMPLATE, number),
                "its retry_on",
                NO_CODE,
                encode_code,
                code,
                self.options.session,
                modules,
            )
        return self.rules[id(rule)]

    def _environment(self, asked_for: Environment) -> TemplateEnvironment:
        known = self.environments.get(asked_for)
        if known is None:
            known = self.environments[asked_for] = self._new_environment(asked_for)
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
        if len(encoded) <= self.options.inline_limit:
            return bytes(encoded)
        index = self._take_index()
        self.large[index] = encoded
        if self.own:
            self.own_used |= OWN_MODULES.used_in(encoded)
        return Ref(index, len(encoded), [""])

    def _foreign_value(self, number: int, found: FoundValue) -> bytes | Ref:
        encoded = found.encoded
        if encoded is not None:
            return self._place(encoded, number, self.native_values)
        self.plan.values[number] = None
        users = self.blame.users(PlanPart.VALUE, number)
        foreign = ForeignValue(
            self._take_index(), found.run, found.source, users, found.function_id, found.subject, found.owner
        )
        self.foreign.add(foreign)
        return foreign.ref()

    def _note_own_code(self, number: int, spec: TemplateSpec, code: tuple[bytes, bool, bytes]) -> None:
        _, by_reference, encoded = code
        used = self.modules_of_code[id(spec.code)] & self.own
        if not by_reference and is_worker():
            # A part of it may be as it came here.
            used |= OWN_MODULES.used_in(encoded)
        if used:
            self.own_used |= used
            self.own_code.add(number)

    async def _note_own_modules(self) -> None:
        """Look for own modules in what is sent inline: many at once, as one by one takes as long as all else."""
        encoded = [*self.constants, *self.values]
        for start in range(0, len(encoded), SLICE):
            if start:
                await asyncio.sleep(0)
            parts = encoded[start : start + SLICE]
            if self.has_assembled:
                parts = [part.rest if isinstance(part, Assembled) else part for part in parts]
            inline = [part for part in parts if type(part) is bytes]
            self.own_used |= OWN_MODULES.named_in(b"".join(inline))
        if self.plan.outer or self.foreign or any(template.is_stage for template in self.templates):
            # What is in values that are there already, or come from functions that were added before, or are pushed into a
            # stream, is not known here.
            self.own_used.update(self.own.intersection(self.options.own_modules))

    def _add_own_modules(self) -> None:
        """Have each template name the own modules of the whole run: results are arguments of other functions, too."""
        named: set[str] = set().union(*self.modules_of_code.values())
        is_left_out = None
        if is_any_sent_by_value(self.options.by_value):
            is_left_out = partial(is_sent_by_value, among=self.options.by_value)
        own = OWN_MODULES.set_of(self.own_used, is_left_out, named)
        if own is None:
            return
        # What the run has now it still has when this part is added: the loop gets no turn before that.
        index = self.known_modules.get(own.key)
        if index is None:
            index = self._take_index()
            self.definitions[index] = own.definitions
        self.modules = own.key, index
        # How large they are shows once they have been made, if that has to be.
        modules = OwnModules(own.key, own.sources, Ref(index, 0, [""]))
        for number, template in enumerate(self.templates):
            if not _imports_from_directory(template, own.sources):
                # Code that refers to modules must be loaded anew with them.
                digest = template.digest
                if number in self.own_code:
                    digest = _digest_within(self.options.session.encode(), own.key, digest)
                self.templates[number] = replace(template, digest=digest, modules=modules)

    def _take_index(self) -> Index:
        self.next_index += 1
        return self.next_index - 1

    def _by_value_modules(self) -> AbstractContextManager[object]:
        # Not for longer than one encoding: other runs encode in between.
        return sent_by_value(self.options.by_value) if self.options.by_value else nullcontext()

    def _named(
        self, part: tuple[PlanPart, int], what: str, nothing: T, encode_it: Callable[..., T], *parts: object
    ) -> T:
        """Encode a part of the plan; `nothing` stands in for one whose functions are refused."""
        try:
            if not self.options.by_value:
                return encode_it(*parts)
            with self._by_value_modules():
                return encode_it(*parts)
        except SerializationError as error:
            if not self.may_refuse:
                raise _not_sendable(self.blame.first(*part), what, error) from error
            for index in self.blame.users(*part):
                refusal = _not_sendable(self.plan.ids[index], what, error)
                refusal.__cause__ = error
                self.refused.setdefault(index, refusal)
            return nothing


@lru_cache(_DIGESTS_KEPT)
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
