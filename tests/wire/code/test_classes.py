"""Classes that travel by value are as they were, and none of their code runs where they arrive."""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from handoff_actors.wire.code.namespaces import MAIN
from handoff_actors.wire.payload import encode_code, load_code
from tests.wire.code.conftest import Sent

#: The text of a module, and what its `f` gives.
CASES: dict[str, tuple[str, object]] = {
    "slots": (
        """
import pickle
class A:
    __slots__ = ('a', '__hidden')
    def __init__(self):
        self.a, self.__hidden = 1, 2
    def hidden(self):
        return self.__hidden
class B(A):
    __slots__ = 'b'
def f():
    a, b = A(), B()
    b.b = 3
    c = pickle.loads(pickle.dumps(b))
    return hasattr(a, '__dict__'), A.__slots__, hasattr(b, '__dict__'), a.hidden(), (c.a, c.b, c.hidden())
""",
        (False, ("a", "__hidden"), False, 2, (1, 3, 2)),
    ),
    "hook with arguments": (
        """
REGISTRY = {}
class Plugin:
    def __init_subclass__(cls, *, name, **options):
        super().__init_subclass__(**options)
        REGISTRY[name] = cls
        cls.title = name.title()
class First(Plugin, name='first'):
    pass
def f():
    class Local(Plugin, name='local'):
        pass
    return sorted(REGISTRY), First.title, Local.title, REGISTRY['first'] is First, First.__mro__[1] is Plugin
""",
        (["first", "local"], "First", "Local", True, True),
    ),
    "hook of an abstract and of a generic class": (
        """
from abc import ABC, abstractmethod
from typing import Generic, TypeVar
T = TypeVar('T')
seen = []
class Abstract(ABC):
    def __init_subclass__(cls, name):
        seen.append(name)
    @abstractmethod
    def go(self): ...
class Concrete(Abstract, name='c'):
    def go(self):
        return 'gone'
class Repository(Generic[T]):
    def __init_subclass__(cls, name):
        seen.append(name)
class Users(Repository[int], name='u'):
    __slots__ = ()
class Slim:
    __slots__ = ()
    def __init_subclass__(cls, name):
        seen.append(name)
class Slimmer(Slim, name='s'):
    pass
def f():
    try:
        Abstract()
    except TypeError:
        return Concrete().go(), seen, Slimmer.__mro__[1] is Slim, Users.__orig_bases__ == (Repository[int],), issubclass(Users, Repository)
""",
        ("gone", ["c", "u", "s"], True, True, True),
    ),
    "metaclass that uses globals": (
        """
import collections
made = []
class Meta(type):
    @classmethod
    def __prepare__(meta, name, bases):
        return collections.OrderedDict(first=1)
    def __new__(meta, name, bases, namespace):
        made.append(name)
        return super().__new__(meta, name, bases, dict(namespace))
    def __len__(cls):
        return len(made)
class A(metaclass=Meta):
    pass
def f():
    return len(A), made, A.first, type(A) is Meta
""",
        (1, ["A"], 1, True),
    ),
    "members with attributes": (
        """
from enum import Enum
G = 2
class Planet(Enum):
    EARTH = 3, 4
    MARS = 1, 2
    HOME = 3, 4
    def __init__(self, mass, radius):
        self.mass, self.radius = mass * G, radius
    @property
    def gravity(self):
        return self.mass / self.radius
class Unit(bytes, Enum):
    PIXEL = 1, 'px'
    def __new__(cls, value, label):
        made = bytes.__new__(cls, [value])
        made._value_, made.label = value, label
        return made
def f():
    return (
        Planet.EARTH.gravity, Planet((1, 2)) is Planet.MARS, Planet.HOME is Planet.EARTH,
        list(Planet.__members__), Unit(1).label, Unit.PIXEL == b'\\x01', len(Planet),
    )
""",
        (1.5, True, True, ["EARTH", "MARS", "HOME"], "px", True, 2),
    ),
    "enumerations of all kinds": (
        """
import enum, datetime
class Number(enum.IntEnum):
    ONE = 1
class Text(enum.StrEnum):
    A = enum.auto()
class Pair(tuple, enum.Enum):
    ORIGIN = 0, 0
class Span(datetime.timedelta, enum.Enum):
    WEEK = 7
class Flag(enum.Flag):
    A = 1
    B = 2
    AB = 3
class Strict(enum.IntFlag, boundary=enum.STRICT):
    A = 1
class Call(enum.Enum):
    DOUBLE = enum.member(lambda x: 2 * x)
    def __call__(self, x):
        return self.value(x)
class Base(enum.Enum):
    def shout(self):
        return self.name + '!'
class Loud(Base):
    HEY = 1
    @classmethod
    def _missing_(cls, value):
        return cls.HEY
def f():
    try:
        Strict(8)
    except ValueError:
        return (
            Number.ONE + 1, Text.A.upper(), Pair.ORIGIN[1], Span.WEEK.days, (Flag.A | Flag.B) is Flag.AB,
            [each.name for each in Flag], Call.DOUBLE(4), Loud(99).shout(), Loud.HEY.__class__ is Loud,
        )
""",
        (2, "A", 0, 7, True, ["A", "B"], 8, "HEY!", True),
    ),
    "what is called while it arrives": (
        """
import re, threading
def compiled(text):
    return re.compile(text)
class Service:
    def __init__(self):
        self.lock, self.pattern = threading.Lock(), compiled('a')
    def __getstate__(self):
        return {}
    def __setstate__(self, _):
        self.__init__()
class Reduced:
    def __init__(self, n):
        self.n = n
    def __reduce__(self):
        return make, (self.n,)
def make(n):
    return Reduced(n * len(compiled('1').pattern))
service, services, reduced = Service(), {'a': [Service()]}, Reduced(1)
def f():
    return service.lock.locked(), service.pattern.pattern, services['a'][0].pattern.pattern, reduced.n
""",
        (False, "a", "a", 1),
    ),
    "annotations that are text": (
        """
from __future__ import annotations
import dataclasses, typing
class Inner:
    pass
@dataclasses.dataclass
class Outer:
    inner: Inner
    more: list[Inner] | None = None
def g(outer: Outer) -> Inner: ...
def f():
    return [
        hint.__name__
        for hint in (*typing.get_type_hints(g).values(), typing.get_type_hints(Outer)['inner'])
    ]
""",
        ["Outer", "Inner", "Inner"],
    ),
    "nested classes": (
        """
import enum, pickle
class Outer:
    class Colour(enum.Enum):
        RED = 1
    class Inner:
        class Innermost:
            pass
def f():
    class Local:
        class Inner:
            pass
    names = [each.__qualname__ for each in (Outer.Colour, Outer.Inner.Innermost, Local.Inner)]
    # By name, for which it has to be known.
    return names, pickle.loads(pickle.dumps(Outer.Colour.RED)) is Outer.Colour.RED
""",
        (["Outer.Colour", "Outer.Inner.Innermost", "f.<locals>.Local.Inner"], True),
    ),
    "named tuples and typed dictionaries": (
        """
import typing
class Point(typing.NamedTuple):
    x: int = 1
    def twice(self):
        return 2 * self.x
class Options(typing.TypedDict, total=False):
    a: int
def f():
    return Point(3).twice(), Point._fields, Point()._asdict(), Options(a=1), sorted(Options.__optional_keys__)
""",
        (6, ("x",), {"x": 1}, {"a": 1}, ["a"]),
    ),
}

each_case = pytest.mark.parametrize(("text", "value"), CASES.values(), ids=list(CASES))


@pytest.fixture
def main(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A program's main module with the text of the case."""
    module = types.ModuleType(MAIN)
    monkeypatch.setitem(sys.modules, MAIN, module)
    exec(request.getfixturevalue("text"), vars(module))
    return module


@each_case
def test_classes_of_a_script(
    main: types.ModuleType, worker: Callable[..., Any], text: str, value: object
) -> None:
    del text
    assert worker(main.f) == main.f() == value


@each_case
def test_classes_of_a_module_that_is_sent(sent: Sent, text: str, value: object) -> None:
    assert sent(text).f() == value


def test_class_of_a_module_that_nobody_can_import() -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("class Point:\n    x: 'Unknown' = 1\n", namespace)

    _, by_reference, encoded = encode_code(namespace["Point"])

    assert not by_reference
    assert load_code(by_reference, encoded)().x == 1
