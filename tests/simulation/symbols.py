"""Values that are digests of how they were made, so that a result proves its whole history.

What a serialize hook makes also names the node that it was made for, in clear, and whoever uses it checks that name;
the digest leaves names out, since they depend on where functions happened to run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from handoff_actors.graph import Function
from handoff_actors.skip import ENCODED_SKIP, FALSE_VALUES
from handoff_actors.wire.messages.jobs import (
    Arg,
    Assembled,
    Call,
    Constants,
    Earlier,
    FailedInput,
    Job,
    Listed,
    Ref,
    Template,
    Text,
)

MADE_FOR = b"@"
#: Stands for the error of an input.
FAILED_INPUT = b"failed"
#: A false value of which only workers know that it is false.
EMPTY = b"empty"
#: What code of these names returns, whatever it is given.
RETURNED = {"skip": ENCODED_SKIP, "no": b"\x80\x05\x89.", "empty": EMPTY}

Code = Callable[..., object]
#: Code of this name returns a graph, of which a worker knows only the value that it is made of.
GROW = "grow"
GRAPH_OF = b"graph of "


class StoredBytes(NamedTuple):
    """A value in a store, with the attempt that made it; 0: an app holds it."""

    value: bytes
    version: int


def make_code(name: str, *, is_async: bool) -> Code:
    """A callable that is never called: its name stands for what it would do."""

    def code(*args: object) -> None: ...

    async def async_code(*args: object) -> None: ...

    made: Code = async_code if is_async else code
    made.__name__ = name
    return made


PACK = make_code("pack", is_async=False)
UNPACK = make_code("unpack", is_async=False)


def digest(name: str, values: Iterable[bytes]) -> bytes:
    made = blake2b(name.encode(), digest_size=8)
    for value in values:
        made.update(b"|" + value)
    return made.hexdigest().encode()


def made_by(name: str, values: Iterable[bytes]) -> bytes:
    """Give what the code of that name makes of these values."""
    if name == GROW:
        return _result_of_graph(digest(name, values))
    return RETURNED.get(name) or digest(name, values)


def grown_names(value: bytes) -> tuple[str, str, str]:
    """The code of the three functions of a graph, the last of which takes the results of the others: see `graphs`."""
    return GROW if value[0] < ord("4") else "left", "right", GROW if value[1] < ord("4") else "joined"


def _result_of_graph(value: bytes) -> bytes:
    left, right, joined = grown_names(value)
    return made_by(joined, [made_by(left, [value]), made_by(right, [value])])


def is_true(value: bytes) -> bool:
    return value not in FALSE_VALUES and value != EMPTY


def name_of(function: Function) -> str:
    assert function.code is not None
    return function.code.__name__


def constants_of(function: Function) -> list[bytes]:
    return [encode_constants(function.extra_args)] if function.extra_args else []


def encode_constants(extra_args: Iterable[object]) -> bytes:
    return repr(tuple(extra_args)).encode()


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a job on a worker of a node."""

    job: Job
    templates: Mapping[int, Template]
    node: str
    look_up: Callable[[Ref], bytes]
    #: Values of earlier members of the same fused group.
    earlier: Mapping[int, bytes]

    def result(self) -> bytes:
        return self._call(self.job.template, self.job.args, self.job.constants)

    def _call(self, number: int, args: Sequence[Arg], constants: Constants) -> bytes:
        template = self.templates[number]
        name = template.code.decode()
        given = len(args) - template.conditions
        if not all(is_true(self._resolve(condition)) for condition in args[given:]):
            return ENCODED_SKIP
        values = [self._resolve(arg) for arg in args[:given]]
        in_place = {FAILED_INPUT, ENCODED_SKIP}.intersection(values if template.run_if == "success" else ())
        if in_place:
            assert number != self.job.template or FAILED_INPUT not in in_place, f"{self.job} lacks an input"
            return next(value for value in values if value in in_place)
        if name == "unpack":
            value, _, target = values
            assert target.decode() == self.node, (
                f"{self.job} runs on {self.node}, its hook was told {target!r}"
            )
            return digest(name, [value])
        if name == "pack":
            value, _, target = values
            is_hook = number == self.job.template
            return digest(name, [value]) + (MADE_FOR + target if is_hook else b"")
        assert not isinstance(constants, Assembled), "the simulator makes none"
        if constants is not None:
            values.append(self._resolve(constants))
        return GRAPH_OF + digest(name, values) if name == GROW else made_by(name, values)

    def _resolve(self, arg: Arg) -> bytes:
        match arg:
            case Ref():
                return self._unwrap(self.look_up(arg))
            case Call(template, args, constants):
                return self._call(template, args, constants)
            case Text(text):
                return text.encode()
            case FailedInput():
                return FAILED_INPUT
            case Earlier(index):
                return self._unwrap(self.earlier[index])
            case Assembled() | Listed():
                raise AssertionError("the simulator makes none")
            case _:
                return self._unwrap(arg)

    def _unwrap(self, value: bytes) -> bytes:
        made, _, made_for = value.partition(MADE_FOR)
        assert made_for in {b"", self.node.encode()}, f"{self.job} runs on {self.node}, not on {made_for!r}"
        return made
