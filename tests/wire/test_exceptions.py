"""Exceptions come home as what they are, whatever their constructors take; one that can't costs nothing but itself."""

import asyncio
import copyreg
import dataclasses
import functools
import io
import itertools
import json
import pickle
import socket
import subprocess
import threading
import time
import urllib.error
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pydantic
import pytest

from handoff_actors.errors import FunctionFailed, RemoteError, RemoteTraceback, SerializationError
from handoff_actors.wire import time_limit
from handoff_actors.wire.exception_parts import UnsentPart
from handoff_actors.wire.exceptions import decode_exception, encode_exception, loads_at_once
from handoff_actors.wire.payload import Sealed, decode, encode


def _sent(error: BaseException) -> BaseException:
    return decode_exception(encode_exception(error))


def _raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        return error
    raise AssertionError("nothing was raised")


# --- Constructors and fields ------------------------------------------------------------------------------------------


class Two(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")
        self.left, self.right = left, right


class ByKeyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Without(Exception):
    def __init__(self) -> None:
        super().__init__("there was another one")


class Status(Exception):
    def __init__(self, code: object) -> None:
        super().__init__(f"status={code}")
        self.code = code


class StatusReduced(Status):
    def __reduce__(self) -> Any:
        return type(self), self.args


class OwnState(Two):
    def __getstate__(self) -> Any:
        return {"left": self.left}


class Made(Exception):
    right: int

    def __new__(cls, left: int, *, right: int) -> Any:
        error = super().__new__(cls, left)
        error.right = right
        return error

    def __init__(self, left: int, *, right: int) -> None:
        pass


class Slotted(Exception):
    __slots__ = ("__hidden", "empty", "message")

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message: str | None = message
        self.__hidden = None

    def __str__(self) -> str:
        return f"{self.message} {self.__hidden}"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    reason: str = "so"


class Busy(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(16, "busy", path)


class Meta(type):
    pass


class ByMetaclass(Two, metaclass=Meta):
    pass


async def _read_too_much() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"ab")
    reader.feed_eof()
    await reader.readexactly(5)


def _changed() -> OSError:
    error = OSError(2, "gone", "first")
    error.filename, error.url = "second", "http://x"  # type: ignore[attr-defined]
    return error


KINDS: dict[str, Callable[[], BaseException]] = {
    "two arguments": lambda: Two(1, 2),
    "keyword only": lambda: ByKeyword(code=5),
    "no argument": Without,
    "text of argument": lambda: Status(404),
    "text of argument, reduced": lambda: StatusReduced(404),
    "state of its own": lambda: OwnState(1, 2),
    "new of its own": lambda: Made(1, right=2),
    "slots": lambda: Slotted("here"),
    "frozen dataclass": lambda: Frozen(3),
    "metaclass": lambda: ByMetaclass(1, 2),
    "HTTPError": lambda: urllib.error.HTTPError("http://u", 404, "m", None, None),  # type: ignore[arg-type]
    "OSError with a path": lambda: OSError(2, "gone", "file"),
    "OSError, changed": _changed,
    "OSError of a user's": lambda: Busy("file"),
    "blocking": lambda: BlockingIOError(11, "later", 5),
    "unicode": lambda: _raised(b"\xff".decode),
    "syntax": lambda: _raised(lambda: compile("a b", "f.py", "exec")),
    "attribute": lambda: _raised(lambda: threading.Lock().nothing),  # type: ignore[attr-defined]
    "import": lambda: ImportError("m", name="n", path="p"),
    "key": lambda: KeyError("some text"),
    "JSON": lambda: _raised(lambda: json.loads("{a")),
    "process": lambda: subprocess.CalledProcessError(3, ["false"], b"out"),
    "incomplete read": lambda: _raised(lambda: asyncio.run(_read_too_much())),
    "numpy": lambda: _raised(lambda: np.sum(np.ones(3), axis=5)),
    "exit": lambda: SystemExit("bye"),
    "cancelled": lambda: asyncio.CancelledError("why"),
    "stop": lambda: StopIteration(5),
    "arguments changed": lambda: _with_args(UnicodeDecodeError("utf-8", b"a", 0, 1, "r"), ("else",)),
    "of ours": lambda: FunctionFailed("f", "n", 2, "why", kind="timeout"),
}

#: Within values they go the way that their class has chosen.
REDUCED = {"text of argument, reduced", "state of its own", "JSON", "incomplete read"}


def _with_args(error: BaseException, args: tuple[Any, ...]) -> BaseException:
    error.args = args
    return error


def _looks(error: BaseException) -> dict[str, object]:
    names = ("errno", "filename", "characters_written", "start", "offset", "name", "value", "code", "axis")
    read = {name: getattr(error, name, None) for name in (*names, "message", "empty")}
    fields = {name: repr(value)[:12] for name, value in vars(error).items()}
    return {"type": type(error), "text": str(error), "args": error.args, "fields": fields, **read}


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_comes_home_as_what_it_is(kind: str) -> None:
    error = KINDS[kind]()
    vars(error)["__notes__"] = ["remember"]

    copy = _sent(error)

    assert _looks(copy) == _looks(error)
    assert copy.__notes__ == ["remember"]
    assert type(copy.__cause__) is RemoteTraceback


def test_an_exception_that_is_a_value_comes_home_as_what_it_is() -> None:
    errors = [make() for kind, make in KINDS.items() if kind not in REDUCED]

    copies = decode(encode([*errors, lambda: None]).to_bytes())

    assert [_looks(copy) for copy in copies[:-1]] == [_looks(error) for error in errors]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda error: error,
        lambda error: [error, Two],
        lambda error: {"error": error},
        lambda error: (np.ones(3), error),
        lambda error: [ExceptionGroup("all", [error])],
    ],
    ids=["itself", "list", "dict", "beside an array", "group"],
)
@pytest.mark.parametrize("kind", [Two, ByKeyword, urllib.error.HTTPError])
def test_an_exception_that_has_been_returned_needs_no_constructor(
    kind: type[BaseException], wrap: Callable[[BaseException], Any]
) -> None:
    makers = {Two: "two arguments", ByKeyword: "keyword only", urllib.error.HTTPError: "HTTPError"}
    value = wrap(KINDS[makers[kind]]())

    decoded = decode(encode(value).to_bytes())
    opened = decode(encode(Sealed.of(value)).to_bytes()).open()
    put_together = decode(encode([value, value], position_of=lambda _: None).to_bytes(), [1])

    assert repr(decoded) == repr(opened) == repr(put_together[0]) == repr(value)


def test_a_value_that_cannot_be_loaded_in_any_way_says_why() -> None:
    with pytest.raises(SerializationError, match="cannot be unpickled: TypeError"):
        decode(pickle.dumps(Unloadable()))
    with pytest.raises(SerializationError, match="cannot be unpickled: TypeError"):
        Sealed(pickle.dumps(Unloadable()), ()).open()


class Unloadable:
    def __reduce__(self) -> Any:
        return len, (5,)


def test_an_exception_that_is_left_out_of_its_value_is_put_in_again() -> None:
    error, part = Two(1, 2), [3]
    encoded = pickle_with_reference(error, part)

    copy, again = decode(encoded, [part])

    assert repr(copy) == repr(error)
    assert again is part


def pickle_with_reference(error: BaseException, part: object) -> bytes:
    """Pickle as other programs do, with their constructors."""
    file = io.BytesIO()

    class Referring(pickle.Pickler):
        def persistent_id(self, value: object) -> int | None:
            return 0 if value is part else None

    Referring(file, 5).dump((error, part))
    return file.getvalue()


def test_a_group_that_is_a_value_comes_home_with_its_members() -> None:
    group = ExceptionGroup("many", [Two(1, 2), ExceptionGroup("inner", [Status(3)])])

    copy, _ = decode(encode([group, lambda: None]).to_bytes())

    assert repr(copy) == repr(group)
    assert copy.exceptions[0].left == 1


class Model(pydantic.BaseModel):
    number: int


def test_an_exception_that_a_library_makes_in_c_comes_home_as_that_library_pickles_it() -> None:
    error = _raised(lambda: Model(number="a"))  # type: ignore[arg-type]

    copy = _sent(error)

    assert isinstance(copy, pydantic.ValidationError)
    assert copy.errors() == error.errors()  # type: ignore[attr-defined]


def test_an_error_of_ours_goes_without_the_run_that_it_has_ended() -> None:
    error = FunctionFailed("f", "n", 1, "why")
    error.run = threading.Lock()  # type: ignore[assignment]

    copy = _sent(error)

    assert isinstance(copy, FunctionFailed)
    assert copy.run is None


class Holder(Exception):
    def __init__(self, **fields: object) -> None:
        super().__init__("it holds", fields.get("lock"))
        vars(self).update(fields)


def test_parts_that_cannot_be_pickled_are_left_out_alone() -> None:
    with socket.socket() as opened:
        fields = {
            "lock": threading.Lock(),
            "socket": opened,
            "numbers": (number for number in range(3)),
            "code": 3,
        }
        error = Holder(**fields)
        looks = {name: repr(value) for name, value in fields.items()}

        copy: Any = _sent(error)

        assert type(copy) is Holder
        assert repr(copy) == repr(error)
        assert {name: repr(value) for name, value in vars(copy).items()} == looks
        assert [type(value) for value in vars(copy).values()] == [UnsentPart] * 3 + [int]
        with pytest.raises(AttributeError, match=r"no 'acquire': <unlocked .* could not be pickled"):
            vars(copy)["lock"].acquire()
    assert repr(_looks(_sent(copy))) == repr(_looks(copy))


def test_body_of_an_http_error_can_be_read() -> None:
    error = urllib.error.HTTPError("http://u", 404, "m", None, io.BytesIO(b"body"))  # type: ignore[arg-type]

    copy = _sent(error)

    assert isinstance(copy, urllib.error.HTTPError)
    assert copy.read() == b"body"


# --- Links ------------------------------------------------------------------------------------------------------------


def _chained() -> BaseException:
    def convert() -> None:
        try:
            int({"a": 1}["x"])
        except KeyError:
            int("x")

    def raise_two() -> None:
        try:
            convert()
        except ValueError as error:
            raise Two(1, 2) from error

    return _raised(raise_two)


def test_causes_and_contexts_come_home_with_the_traceback_at_their_end() -> None:
    copy = _sent(_chained())

    cause = copy.__cause__
    assert isinstance(cause, ValueError)
    assert copy.__context__ is cause
    assert isinstance(cause.__context__, KeyError)
    assert cause.__cause__ is not None
    assert type(cause.__cause__) is RemoteTraceback
    assert "During handling of the above exception" in cause.__cause__.text


def test_an_exception_among_the_arguments_of_another_stays_the_same_object() -> None:
    inner = Two(1, 2)
    outer = ValueError(inner, [inner])
    outer.__cause__ = inner
    outer.me = outer  # type: ignore[attr-defined]

    copy: Any = _sent(outer)

    assert copy.args[0] is copy.__cause__
    assert copy.args[1][0] is copy.__cause__
    assert copy.me is copy
    assert copy.__cause__.left == 1


def test_what_has_led_to_an_error_of_serialization_is_in_its_text() -> None:
    error = SerializationError("it has a lock: TypeError")
    error.__cause__ = TypeError()

    assert type(_sent(error).__cause__) is RemoteTraceback


def test_the_traceback_of_a_nested_run_is_told_once() -> None:
    inner = _sent(_raised(lambda: int("seven")))
    outer = FunctionFailed("f", "n", 1, "why")
    outer.__cause__ = inner

    copy = _sent(outer)

    assert type(copy.__cause__) is ValueError
    assert type(copy.__cause__.__cause__) is RemoteTraceback
    assert copy.__cause__.__cause__.__cause__ is None
    assert copy.__cause__.__cause__.text.count("seven") == 3


class Coded(ExceptionGroup[Exception]):
    code: int

    def __new__(cls, errors: list[Exception], code: int) -> Self:
        group = super().__new__(cls, f"code {code}", errors)
        group.code = code
        return group

    def __init__(self, errors: list[Exception], code: int) -> None:
        super().__init__(errors, code)  # type: ignore[arg-type]


def test_groups_come_home_with_members_notes_and_fields() -> None:
    noted = Two(1, 2)
    noted.add_note("here")
    inner = Coded([noted, OSError(2, "gone", "file")], 7)
    group = BaseExceptionGroup("outer", [inner, noted, SystemExit(3), inner])

    copy: Any = _sent(group)

    assert repr(copy) == repr(group)
    assert type(copy.exceptions[0]) is Coded
    assert copy.exceptions[0] is copy.exceptions[3]
    assert copy.exceptions[0].exceptions[0] is copy.exceptions[1]
    assert copy.exceptions[1].__notes__ == ["here"]
    assert (copy.exceptions[0].code, copy.exceptions[0].args[1]) == (7, 7)
    assert copy.exceptions[0].exceptions[1].filename == "file"


def test_a_group_is_made_after_its_members_however_they_are_linked() -> None:
    inner = ExceptionGroup("inner", [Two(1, 2)])
    outer = ExceptionGroup("outer", [ExceptionGroup("middle", [inner])])
    outer.__cause__ = inner

    copy: Any = _sent(outer)

    assert repr(copy) == repr(outer)
    assert copy.exceptions[0].exceptions[0] is copy.__cause__


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_long_chain_is_cut_and_a_circle_ends(link: str) -> None:
    first = error = ValueError(0)
    for number in range(1, 3000):
        following = ValueError(number)
        setattr(following, link, error)
        error = following
    setattr(first, link, error)

    copy: Any = _sent(error)
    length = 0
    while type(copy) is ValueError:
        length += 1
        copy = getattr(copy, link)

    assert length == 1000


def test_circle_of_causes_has_the_traceback() -> None:
    error, other = ValueError("one"), ValueError("other")
    error.__cause__, other.__cause__, other.__context__ = other, error, other

    copy = _sent(error)

    assert str(copy.__cause__) == "other"
    assert copy.__cause__ is not None
    assert type(copy.__cause__.__cause__) is RemoteTraceback


def test_deep_and_large_groups_are_bounded() -> None:
    deep: Exception = Two(1, 2)
    for number in range(900):
        deep = ExceptionGroup(f"level {number}", [deep])
    large = ExceptionGroup("large", [Two(number, number) for number in range(3000)])

    copy: Any = _sent(deep)
    for _ in range(900):
        (copy,) = copy.exceptions
    assert copy.left == 1
    cut: Any = _sent(large)
    assert len(cut.exceptions) == 999
    assert cut.__notes__ == ["2,001 more of its exceptions were left out"]


# --- Harm -------------------------------------------------------------------------------------------------------------


def _loop() -> None:
    for number in itertools.count():
        time.sleep(number / 1000)


class LoopsOnLoad(Exception):
    def __reduce__(self) -> Any:
        return _loop, ()


class Stubborn(Exception):
    def __reduce__(self) -> Any:
        return functools.partial(time.sleep, 0.5), ()


class LoopsElsewhere(Exception):
    """Loads where it is encoded, but not where it is decoded."""

    elsewhere = False

    def __reduce__(self) -> Any:
        return _loaded_elsewhere, ()


def _loaded_elsewhere() -> BaseException:
    if LoopsElsewhere.elsewhere:
        _loop()
    return LoopsElsewhere()


class BreaksElsewhere(Exception):
    """As the one above, in parts."""

    part: object

    def __init__(self) -> None:
        super().__init__("text", Breaks())


class Breaks:
    def __reduce__(self) -> Any:
        return _broken_elsewhere, ()


def _broken_elsewhere() -> "Breaks":
    if LoopsElsewhere.elsewhere:
        raise ValueError("broken")
    return Breaks()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "LIMIT_S", 0.1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", [LoopsOnLoad, Stubborn])
def test_an_exception_that_loops_on_load_costs_nothing_but_itself(kind: type[Exception]) -> None:
    threads = threading.active_count()
    error = Two(1, 2)
    error.__cause__ = kind()

    copy = _sent(error)

    assert type(copy) is Two
    assert isinstance(copy.__cause__, RemoteError)
    assert copy.__cause__.type_name.endswith(kind.__name__)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads:
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("quick")
def test_exceptions_that_do_harm_where_they_arrive_cost_nothing_but_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harmless = Two(1, 2)
    group = ExceptionGroup("all", [LoopsElsewhere(), BreaksElsewhere(), LoopsElsewhere(), harmless])
    encoded = encode_exception(group)
    assert [type(error) for error in decode_exception(encoded).exceptions] == [  # type: ignore[attr-defined]
        LoopsElsewhere,
        BreaksElsewhere,
        LoopsElsewhere,
        Two,
    ]
    monkeypatch.setattr(LoopsElsewhere, "elsewhere", True)

    copy: Any = decode_exception(encoded)

    assert not loads_at_once(encoded)
    assert [type(error) for error in copy.exceptions] == [RemoteError, RemoteError, RemoteError, Two]
    assert copy.exceptions[1].message == str(group.exceptions[1])


def test_an_exception_of_plain_parts_loads_at_once() -> None:
    assert loads_at_once(encode_exception(_chained()))
    assert not loads_at_once(encode_exception(ValueError(Breaks())))
    assert not loads_at_once(encode_exception(ValueError([[[[[1]]]]])))
    assert not loads_at_once(encode_exception(ValueError(list(range(1000)))))
    assert loads_at_once(encode_exception(ValueError({"a": [1, (2, None)]})))


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_text_comes_home_as_what_it_is() -> None:
    assert type(_sent(Silent())) is Silent


class NoLonger(Two):
    """Its pickle is of no exception."""

    def __reduce__(self) -> Any:
        return int, (3,)


class Unsettled(Exception):
    """Its text is another each time, and it has a way of its own to be pickled."""

    counted = itertools.count()

    def __str__(self) -> str:
        return str(next(self.counted))

    def __reduce__(self) -> Any:
        return Unsettled, ()


def test_a_pickle_that_is_of_no_exception_is_not_used() -> None:
    copy = _sent(NoLonger(1, 2))

    assert type(copy) is NoLonger
    assert copy.right == 2


def test_an_exception_of_unsettled_text_keeps_its_type() -> None:
    assert type(_sent(Unsettled())) is Unsettled


class Vanishing:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_an_exception_with_an_argument_that_cannot_be_loaded_is_sent_as_text() -> None:
    copy = _sent(ValueError(Vanishing()))

    assert isinstance(copy, RemoteError)
    assert "Vanishing" in copy.message


def test_a_group_whose_members_do_not_fit_any_more_is_sent_as_text() -> None:
    group = ExceptionGroup("all", [ValueError(1), ExceptionGroup("inner", [ValueError(2)])])
    text, rows = pickle.loads(encode_exception(group))
    of_group, *members = rows
    title_at = of_group.index("all")
    broken = (*of_group[:title_at], 5, *of_group[title_at + 1 :])

    copy = decode_exception(pickle.dumps((text, [broken, *members])))

    assert isinstance(copy, RemoteError)
    assert copy.type_name == "ExceptionGroup"


class Refusing(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def test_notes_of_a_stand_in_are_those_of_the_exception() -> None:
    error = Refusing("so")
    error.add_note("remember")
    error.__notes__.append(3)  # type: ignore[arg-type]

    copy = _sent(error)

    assert isinstance(copy, RemoteError)
    assert copy.__notes__ == ["remember"]


def test_a_reducer_that_a_user_has_registered_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Two, lambda error: (Two, (error.left, 5)))

    assert str(_sent(Two(1, 5))) == "1 and 5"
    assert pickle.loads(pickle.dumps(Two(1, 2))).right == 5


def test_what_goes_beyond_a_size_is_sent_as_text() -> None:
    error = Two(1, 2)
    error.__cause__ = ValueError("x" * 3_000_000)
    error.__context__ = ValueError("y" * 3_000_000)

    copy = _sent(error)

    assert type(copy) is Two
    assert type(copy.__cause__) is ValueError
    assert isinstance(copy.__context__, RemoteError)
    assert len(copy.__context__.message) < 2000
    assert "the exception itself has 3,000," in copy.__context__.message
