"""A run takes over functions of an earlier run that are recorded as done and are still the same functions.

A function's fingerprint is made of its id, its code, its variables and directory, how its arguments are put together, its
constants, and the fingerprints of the functions whose results it takes, conditions included; so whatever has changed is run again, with all
that follows from it. What it costs, where it may run and how often it is tried don't count.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct, field

from handoff_actors.graph.plan import OUTER, ArgSpec, CallSpec, ListOf, NodeOf, Plan
from handoff_actors.ids import Index

#: Makes one digest of several byte strings.
Combine = Callable[..., bytes]


class Digests(Struct, frozen=True):
    """Digests of what a plan is made of, each list by the number that the plan has for it."""

    ids: Sequence[bytes]
    templates: Sequence[bytes]
    constants: Sequence[bytes]
    values: Sequence[bytes]


class Fingerprints(NamedTuple):
    """The names of a function beyond its run. b"": nothing asks for it, or the function takes something that has none."""

    #: Digest of its id.
    key: bytes = b""
    #: For the journal, with the ids of all that it depends on.
    journal: bytes = b""
    #: For the cache, without ids.
    cache: bytes = b""
    #: The fingerprints by which its result is to be cached, and for how many seconds.
    cached_as: tuple[tuple[bytes, float], ...] = ()


NO_FINGERPRINTS: Final = Fingerprints()


class JournalRow(Struct, frozen=True):
    """A function that is done, as a row of a journal."""

    #: Digest of its id.
    key: bytes
    #: The function's id, for people.
    function: str
    fingerprint: bytes
    node: str
    nbytes: int
    value: bytes | memoryview | None


class Recorded(Struct, frozen=True):
    """The journal's record of a function that was done."""

    fingerprint: bytes
    #: The node that it ran on.
    node: str
    #: The encoded size of its value.
    nbytes: int
    #: True if the journal has the value, too.
    has_value: bool


class ReusedResult(Struct, frozen=True):
    """A function that is done from the start."""

    #: The node that it ran on in the earlier run.
    node: str
    #: The encoded value, or how long one is that is not inline.
    value: bytes | int
    #: True if the app has a value that is not inline; if not, the value is gone and not needed.
    is_in_app: bool = False


class FoundResults(Struct, frozen=True):
    """Facts about functions that a run is given while it goes on, by their indices in their own plan."""

    #: By index; none in a run without a journal and cached functions.
    fingerprints: Sequence[Fingerprints] = ()
    #: Functions that need not run.
    reused: Mapping[Index, ReusedResult] = field(default_factory=dict)
    #: Encoded values among these that are not inline.
    in_app: Mapping[Index, bytes | memoryview] = field(default_factory=dict)


NOTHING_FOUND: Final = FoundResults()


class _Unknown(Exception):
    """A function takes something that has no fingerprint."""


def fingerprints(plan: Plan, digests: Digests, combine: Combine, outer: Sequence[bytes] = ()) -> list[bytes]:
    """Compute the fingerprint of every function, by index; b"" for those that take what has none itself.

    `outer` are those of the outer functions of the plan.
    """
    made = [b""] * plan.size
    # The bottom level of a producer is above those of all that take from it.
    for index in sorted(range(plan.size), key=plan.bottom_level.__getitem__, reverse=True):
        template, constants = plan.template_of[index], plan.constants_of[index]
        args = plan.args[index]
        try:
            parts = _call(plan, digests, (made, outer), template, args, constants)
        except _Unknown:
            continue
        made[index] = combine(digests.ids[index], *parts)
    return made


def _call(
    plan: Plan,
    digests: Digests,
    made: tuple[Sequence[bytes], Sequence[bytes]],
    template: int,
    args: Sequence[ArgSpec],
    constants: int,
) -> list[bytes]:
    parts = [
        digests.templates[template],
        b"list" if plan.templates[template].as_list else b"arguments",
        b"" if constants < 0 else digests.constants[constants],
        len(args).to_bytes(4, "little"),
    ]
    run_if, conditions = plan.templates[template].run_if, plan.templates[template].conditions
    if run_if != "success" or conditions:
        parts += (b"run if", run_if.encode(), conditions.to_bytes(4, "little"))
    environment = plan.templates[template].environment
    if environment is not None:
        parts += (b"environment", repr((environment.env_vars, environment.working_dir)).encode())
    for spec in args:
        if isinstance(spec, CallSpec):
            parts += (b"call", *_call(plan, digests, made, spec.template, spec.args, spec.constants))
        elif isinstance(spec, NodeOf):
            parts.append(b"name of a node")
        elif isinstance(spec, ListOf):
            parts += (b"list", _known(made, spec.index))
        elif spec < 0:
            parts += (b"constant", _if_known(digests.values[~spec]))
        else:
            parts += (b"result", _known(made, spec))
    return parts


def _known(made: tuple[Sequence[bytes], Sequence[bytes]], index: Index) -> bytes:
    own, outer = made
    return _if_known(own[index] if index < OUTER else outer[index - OUTER])


def _if_known(found: bytes) -> bytes:
    if not found:
        raise _Unknown
    return found


def reusable(
    plan: Plan, prints: Sequence[bytes], recorded: Mapping[Index, Recorded], wanted: Collection[Index]
) -> list[Index]:
    """List the functions that need not run.

    A function whose value is not in the journal need not run if neither the app nor a function that runs asks for it.
    Serialize hooks are never recorded, as they work for a node of one run; they run if their consumer does.
    """
    runs = bytearray(plan.size)
    # Consumers first: whether they run decides whether what they take is asked for.
    for index in sorted(range(plan.size), key=plan.bottom_level.__getitem__):
        hook = plan.hook_of.get(index)
        if hook is not None:
            runs[index] = runs[hook.consumer]
            continue
        record = recorded.get(index)
        if record is None or not prints[index] or record.fingerprint != prints[index]:
            runs[index] = True
        elif not record.has_value:
            runs[index] = index in wanted or any(runs[reader] for reader in plan.dependents[index])
    return [index for index, must_run in enumerate(runs) if not must_run]
