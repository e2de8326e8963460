"""Code by value finds its globals in namespaces that it shares with other code of its session."""

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from handoff_actors.wire.code import namespaces
from handoff_actors.wire.code.namespaces import MAIN, Namespaces, current, enter, leave
from handoff_actors.wire.payload import decode, encode, encode_code, load_code, split_code
from tests.wire.code.two_processes import enter_own

SOURCE = """
import functools, math

threshold = 5
model = None
seen = []
MISSING = object()

import threading, weakref
lock, again, local, known = threading.Lock(), threading.RLock(), threading.local(), weakref.WeakValueDictionary()
import contextvars
asked_by, depth = contextvars.ContextVar("asked_by"), contextvars.ContextVar("depth", default=[3])
def asked():
    token = asked_by.set("me")
    try:
        return asked_by.name, asked_by.get(), depth.get()
    finally:
        asked_by.reset(token)
def nobody_asked():
    return asked_by.get(None)

def locked():
    with lock, again:
        local.x = 1
        return local.x, dict(known)

class Marker:
    def __init__(self, name): self.name = name

UNSET = Marker("UNSET")

class Point:
    made = 0
    class Inner: pass
    def __init__(self, x): self.x = x
    def scaled(self): return Point(self.x * threshold)
    @staticmethod
    def zero(): return Point(0)
    @classmethod
    def of(cls, x): return cls(x * threshold)
    @classmethod
    def of_two(cls, x, y): return cls.of(x + y)
    def __eq__(self, other): return type(self) is type(other) and self.x == other.x
    __hash__ = None

Point.origin = Point(0)
origin = Point.origin
first, second = {"name": "first"}, {"name": "second"}
first["next"], second["next"] = second, first
alias = seen

class Pixel(Point): pass
of_one = functools.partial(Point.of_two, 1)

def synchronized(function):
    lock, calls = threading.Lock(), []
    @functools.wraps(function)
    def wrapper(*args):
        with lock:
            calls.append(args)
            return function(*args), len(calls)
    return wrapper
@synchronized
def doubled(x): return 2 * x
def doubles(x): return doubled(x)
class Job:
    def __init__(self): self.lock, self.runs = threading.Lock(), 0
    def run(self):
        with self.lock:
            self.runs += 1
            return self.runs

def helper(x): return x + threshold
def use(x): return helper(x)
def collect(x):
    seen.append(x)
    return list(seen)
def also_collects(x):
    alias.append(x)
    return list(seen)
def load():
    global model
    if model is None:
        model = "loaded"
        return "first"
    return model
def is_missing(x=MISSING): return x is MISSING
def is_unset(x=UNSET): return x is UNSET
def is_origin(): return origin is Point.origin is Point(0).origin
def is_circle(): return first["next"]["next"] is first and second["next"] is first
def point(x): return Point(x)
def inner(): return Point.Inner()
def kind(): return Point, Point.Inner
def root(x): return math.sqrt(x)
def recurse(n): return 0 if n == 0 else 1 + recurse(n - 1)
@functools.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def hits(n): return fib(n), fib.cache_info().misses
@functools.singledispatch
def show(x): return "object"
@show.register
def _(x: int): return "int"
@show.register(list)
def show_list(x): return show(x[0])
def shows(x): return show(x)
class Cached:
    @functools.cached_property
    def value(self): return threshold
    @functools.lru_cache
    def times(self, n): return n * threshold
    @functools.singledispatchmethod
    def show(self, x): return "object"
    @show.register
    def _(self, x: int): return "int"
def cached(): return Cached().value, Cached().times(2), Cached().show(1), Cached().show("")
def collect_in(acc, seen=[], *, counts={"n": 0}):
    acc.append(1); seen.append(1); counts["n"] += 1
    return len(acc), len(seen), counts["n"]
class Collector:
    def collect(self, seen=[]):
        seen.append(1)
        return len(seen), super().__init__()
class Child(Point):
    def scaled(self): return super().scaled()
def child(x): return Child(x).scaled().x
"""


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A program's main module."""
    module = types.ModuleType(MAIN)
    exec(SOURCE, vars(module))
    monkeypatch.setitem(sys.modules, MAIN, module)
    return module


def test_functions_of_a_session_share_their_globals(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    assert [worker(main.collect, 1), worker(main.collect, 2), worker(main.also_collects, 3)] == [
        [1], [1, 2], [1, 2, 3]
    ]  # fmt: skip
    assert (worker(main.load), worker(main.load)) == ("first", "loaded")
    assert main.seen == []
    assert main.model is None


def test_another_session_has_globals_of_its_own(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    assert worker(main.load) == "first"

    assert worker(main.load, within=Namespaces()) == "first"


def test_global_that_the_app_changes_changes_and_the_others_stay(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    assert (worker(main.use, 1), worker(main.load), worker(main.collect, 1)) == (6, "first", [1])

    vars(main)["threshold"] = 7
    assert (worker(main.use, 1), worker(main.load), worker(main.collect, 2)) == (8, "loaded", [1, 2])
    vars(main)["threshold"] = 5
    assert worker(main.use, 1) == 6
    vars(main)["helper"] = lambda x: -x
    assert worker(main.use, 1) == -1


def test_mutated_list_of_the_app_replaces_the_workers(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    worker(main.collect, 1)

    main.seen.append("the app's")

    assert worker(main.collect, 2) == ["the app's", 2]


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("is_missing", (), True),
        ("is_unset", (), True),
        ("is_origin", (), True),
        ("is_circle", (), True),
        ("root", (9,), 3),
        ("locked", (), (1, {})),
        ("asked", (), ("asked_by", "me", [3])),
        ("nobody_asked", (), None),
        ("recurse", (5,), 5),
        ("fib", (30,), 832040),
        ("shows", (1,), "int"),
        ("shows", ("",), "object"),
        ("show", ([1],), "int"),
        ("cached", (), (5, 10, "int", "object")),
        ("child", (2,), 10),
    ],
)
def test_globals_mean_the_same_as_in_the_app(
    main: types.ModuleType, worker: Callable[..., Any], name: str, args: tuple[Any, ...], result: Any
) -> None:
    assert worker(getattr(main, name), *args) == getattr(main, name)(*args) == result


def test_methods_of_classes_are_called_with_the_class(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    assert worker(main.Point.of, 3) == main.Point(15)
    assert worker(main.Point(1).of_two, 3, 4) == main.Point(35)
    assert worker(main.Point.zero) == main.Point(0)
    assert worker(main.of_one, 1) == main.Point(10)
    made = worker(main.Pixel.of_two, 1, 1)
    assert (type(made), made.x) == (main.Pixel, 10)


def test_locks_are_new_wherever_code_has_them(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    job = main.Job()

    # What it captures, a lock too, is each call's own; the helper is one for all calls.
    assert [worker(main.doubled, 2), worker(main.doubled, 2)] == [(4, 1), (4, 1)]
    assert [worker(main.doubles, 2), worker(main.doubles, 2)] == [(4, 1), (4, 2)]
    assert [worker(job.run), worker(job.run)] == [1, 1]


def test_identity_holds_whatever_arrives_first(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    exec("def get(values, default=MISSING): return values.get(1, default)", vars(main))
    exec("def is_gone(): return get({}) is MISSING", vars(main))
    exec("def missing(): return MISSING", vars(main))

    worker(main.missing)

    assert worker(main.is_gone)
    assert worker(main.is_missing)


def test_cache_of_a_global_function_lasts(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    assert worker(main.hits, 5) == (5, 6)
    assert worker(main.hits, 6) == (8, 7)


def test_results_are_of_the_apps_own_classes(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    scaled = main.Point.scaled

    assert type(worker(main.point, 3)) is main.Point
    assert type(worker(main.inner)) is main.Point.Inner
    assert worker(main.kind) == (main.Point, main.Point.Inner)
    assert main.Point.scaled is scaled
    assert worker(main.Point, 3) == main.Point(3)
    assert worker(main.Point.zero) == main.Point(0)


def test_arguments_use_the_sessions_globals(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    def call(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    call.__module__ = "elsewhere"
    assert worker(call, main.load) == "first"
    assert worker(call, main.load) == "loaded"
    assert worker(call, main.Point(2).scaled) == main.Point(10)
    assert worker(main.Point.scaled, main.Point(2)) == main.Point(10)


def test_class_attributes_last_in_a_worker(main: types.ModuleType, worker: Callable[..., Any]) -> None:
    exec("def count(p):\n    Point.made += 1\n    return Point.made", vars(main))

    assert [worker(main.count, main.Point(1)) for _ in range(3)] == [1, 2, 3]
    assert main.Point.made == 0


def test_function_that_comes_home_uses_the_apps_globals(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    exec(
        "def make():\n    global made_there\n    made_there = 4\n    return lambda: threshold + made_there",
        vars(main),
    )
    made = worker(main.make)
    vars(main)["threshold"] = 6

    assert made() == 10
    assert made.__globals__ is vars(main)


def test_equal_globals_have_equal_digests_whatever_has_run(main: types.ModuleType) -> None:
    codes = [main.use, main.is_origin, main.is_circle, main.shows, main.cached, main.child]
    before = [encode_code(code) for code in codes]
    for code in codes:
        code(*[1] * code.__code__.co_argcount)

    assert [encode_code(code) for code in codes] == before


def test_large_global_is_not_kept_twice_and_comes_back(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    exec("def size(): return len(large)\ndef point_of_large(): return Point(len(large))", vars(main))
    vars(main)["large"] = bytes(100_000)

    assert (worker(main.size), worker(main.point_of_large)) == (100_000, main.Point(100_000))
    vars(main)["large"] = bytes(200_000)
    assert worker(main.size) == 200_000
    vars(main)["large"] = bytes(100_000)
    assert worker(main.size) == 100_000


def test_module_that_goes_by_value_is_one_module(
    main: types.ModuleType, worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("sent_along")
    exec("count = 0\ndef add():\n    global count\n    count += 1\n    return count", vars(module))
    monkeypatch.setitem(sys.modules, "sent_along", module)
    cloudpickle.register_pickle_by_value(module)
    vars(main)["sent_along"] = module
    exec("def add(): return sent_along.add(), sent_along.count", vars(main))
    try:
        assert worker(main.add) == (1, 1)
        assert worker(module.add) == 2
        assert worker(main.add) == (3, 3)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_function_without_a_module_has_its_globals_with_it(worker: Callable[..., Any]) -> None:
    variables: dict[str, Any] = {"factor": 3}
    exec("def times(x): return x * factor", variables)

    assert worker(variables["times"], 2) == 6


def test_main_of_a_multiprocessing_child_is_main(
    main: types.ModuleType, worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = types.ModuleType("__mp_main__")
    exec(SOURCE, vars(child))
    monkeypatch.setitem(sys.modules, "__mp_main__", child)
    monkeypatch.setitem(sys.modules, MAIN, child)

    code = encode_code(child.point)
    monkeypatch.undo()
    enter(Namespaces())

    made = load_code(*code[1:])(3)
    assert (type(made).__module__, made.x) == (MAIN, 3)
    assert current().value(MAIN, "Point") is type(made)


def test_process_that_lacks_a_global_gets_it(main: types.ModuleType) -> None:
    sent = encode([main.use, main.Point(1)]).to_bytes()
    for name in ("use", "helper", "threshold", "Point", "origin"):
        delattr(main, name)

    use, point = decode(sent)

    assert (use(1), type(point), main.threshold) == (6, main.Point, 5)


def test_global_that_cannot_be_decoded_is_tried_again(
    main: types.ModuleType, worker: Callable[..., Any]
) -> None:
    class Fails:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, ("if not tries: tries.append(1); 1 / 0", {"tries": tries})

    tries: list[int] = []
    groups = Namespaces()
    group = namespaces.Group(((MAIN, "x"),), b"digest", (), cloudpickle.dumps((Fails(),)))
    del worker, main
    with pytest.raises(ZeroDivisionError):
        groups.bring([group])

    assert groups.version == 0
    with pytest.raises(ZeroDivisionError):
        groups.bring([group])


def test_groups_may_arrive_in_any_order(main: types.ModuleType) -> None:
    _, groups = split_code(encode_code(main.child)[2])
    arrived = Namespaces()
    enter(arrived)
    try:
        arrived.bring(groups[::-1])
        enter(arrived)
    finally:
        enter_own(main)

    assert arrived.value(MAIN, "child")(2) == 10


@pytest.mark.parametrize("name", ["collect_in", "partial", "method"])
def test_defaults_are_as_encoded_however_the_function_is_called(
    main: types.ModuleType, worker: Callable[..., Any], name: str
) -> None:
    codes: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "collect_in": (main.collect_in, ([],)),
        "partial": (functools.partial(functools.partial(main.collect_in), []), ()),
        "method": (main.Collector().collect, ()),
    }
    code, args = codes[name]

    assert len({worker(code, *args) for _ in range(3)}) == 1


def test_namespaces_that_are_left_are_not_kept(main: types.ModuleType) -> None:
    left, other = Namespaces(), Namespaces()
    enter(left)
    try:
        leave(other)
        assert current() is left
        leave(left)
        assert current() is not left
        assert sys.modules[MAIN] is current().module(MAIN)
    finally:
        enter_own(main)


def test_size_of_what_was_decoded_is_known(main: types.ModuleType) -> None:
    _, groups = split_code(encode_code(main.is_origin)[2])
    arrived = Namespaces()
    enter(arrived)
    try:
        arrived.bring(groups)
        first = arrived.nbytes
        arrived.bring(groups)
    finally:
        enter_own(main)

    assert 0 < first == arrived.nbytes
