"""Values that are digests of how they were made, so that a result proves its whole history.

What a serialize hook makes also names the node that it was made for, in clear, and whoever uses it checks that name;
the digest leaves names out, since they depend on where functions happened to run.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from handoff_actors.graph import DAG, Argument, Function
from handoff_actors.wire.messages.jobs import (
    Arg,
    Assembled,
    Call,
    Constants,
    Earlier,
    Job,
    Ref,
    Template,
    Text,
)

MADE_FOR = b"@"

Code = Callable[..., object]


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


def values_of(dag: DAG) -> dict[Hashable, bytes]:
    """The value of every function, straight from the definitions. Producers have been added first."""
    values: dict[Hashable, bytes] = {}
    for function in dag.functions.values():
        taken = [_argument(arg, values) for arg in function.args]
        values[function.id] = digest(_name(function), [*taken, *_constants(function.extra_args)])
    return values


def _argument(arg: Hashable, values: Mapping[Hashable, bytes]) -> bytes:
    if not isinstance(arg, Argument):
        return values[arg]
    value = values[arg.id]
    if arg.serialize is not None:
        value = digest("pack", [value])
    return value if arg.deserialize is None else digest("unpack", [value])


def _name(function: Function) -> str:
    assert function.code is not None
    return function.code.__name__


def _constants(extra_args: Iterable[object]) -> list[bytes]:
    return [encode_constants(extra_args)] if extra_args else []


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

    def _call(self, number: int, args: Iterable[Arg], constants: Constants) -> bytes:
        name = self.templates[number].code.decode()
        values = [self._resolve(arg) for arg in args]
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
        return digest(name, values)

    def _resolve(self, arg: Arg) -> bytes:
        match arg:
            case Ref():
                return self._unwrap(self.look_up(arg))
            case Call(template, args, constants):
                return self._call(template, args, constants)
            case Text(text):
                return text.encode()
            case Earlier(index):
                return self._unwrap(self.earlier[index])
            case _:
                return self._unwrap(arg)

    def _unwrap(self, value: bytes) -> bytes:
        made, _, made_for = value.partition(MADE_FOR)
        assert made_for in {b"", self.node.encode()}, f"{self.job} runs on {self.node}, not on {made_for!r}"
        return made
