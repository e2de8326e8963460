"""Definitions of modules: what they carry over, what they leave out, and what they say of it."""

import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from handoff_actors.errors import SerializationError, VersionMismatch
from handoff_actors.wire.code import definitions, namespaces as namespaces_module, sent_modules
from handoff_actors.wire.code.definitions import encode_definitions
from handoff_actors.wire.code.namespaces import Namespaces
from handoff_actors.wire.code.sent_modules import load_definitions
from handoff_actors.wire.loaded_code import LoadedCode
from handoff_actors.wire.payload import encode_code
from tests.wire.code.conftest import Sent
from tests.wire.code.two_processes import NAMED, arrived, forget_sent


def test_functions_share_the_globals_of_their_module(sent: Sent) -> None:
    module = sent(
        "count = 0\ndef add():\n    global count\n    count += 1\n    return count\ndef now():\n    return count\n"
    )

    assert [module.add(), module.add(), module.now(), module.count] == [1, 2, 2, 2]
    assert module.add.__globals__ is vars(module)


def test_only_names_that_are_used_are_loaded(sent: Sent) -> None:
    module = sent("import json\nused, unused = [1], [2]\ndef f():\n    return used\n")

    assert module.f() == [1]
    assert "used" in vars(module)
    assert not {"unused", "json"} & vars(module).keys()
    assert {"unused", "json", "f"} <= set(dir(module))


def test_identity_holds_within_a_module_and_among_modules(sent: Sent) -> None:
    module = sent(
        "import other\nfrom other import Base, registry\n"
        "class Derived(Base):\n    known = registry\n    def me(self):\n        return super().me()\n"
        "registry['derived'] = Derived\nboth = registry, registry\nalias = Derived\n",
        other="registry = {}\nclass Base:\n    def me(self):\n        return type(self)\n",
    )

    assert module.Derived.known is module.registry is module.other.registry
    assert module.registry["derived"] is module.Derived is module.alias is module.Derived().me()
    assert module.both[0] is module.both[1] is module.registry
    assert issubclass(module.Derived, sys.modules["other"].Base)


def test_module_that_definitions_turn_out_to_use_comes_along(write: Callable[[str, str], ModuleType]) -> None:
    write("other", "def g():\n    return 7\n")
    module = write("sent", "from other import g\ncalls = [(g,)]\ndef f():\n    return calls[0][0]()\n")

    assert arrived(encode_definitions([module]))["sent"].f() == 7
    assert "other" in sys.modules


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("def f(x=[1], *, y={}):\n    return x, y", ([1], {})),
        ("def outer(k):\n    def inner(n):\n        return inner(n - 1) if n else k\n    return inner\nf = outer(7)\n" * 1 + "g = f\ndef f():\n    return g(2)", 7),
        ("def outer():\n    if False:\n        k = 1\n    def inner():\n        return k\n    return inner\nunset = outer()\ndef f():\n    return len(unset.__closure__)", 1),
        ("import functools\n@functools.lru_cache(maxsize=3)\ndef g(n):\n    return n\ndef f():\n    return g(1), g.cache_parameters()['maxsize']", (1, 3)),
        ("from functools import lru_cache\ndef f():\n    return lru_cache.__module__", "functools"),
        ("import functools\n@functools.singledispatch\ndef g(x):\n    return 0\n@g.register\ndef _(x: int):\n    return 1\ndef f():\n    return g('x'), g(1)", (0, 1)),
        ("import functools\nclass C:\n    @functools.cached_property\n    def p(self):\n        return 3\ndef f():\n    return C().p", 3),
        ("import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\ndef f():\n    return repr(P(2)), P(1) == P(1)", ("P(x=2)", True)),
        ("import enum\nclass C(enum.Enum):\n    A = 1\nA = C.A\ndef f():\n    return C.A is A, C(1) is A", (True, True)),
        ("import typing\nT = typing.TypeVar('T')\nId = typing.NewType('Id', int)\nclass B(typing.Generic[T]):\n    pass\ndef f():\n    return B[int].__origin__ is B, Id(3)", (True, 3)),
        ("import threading, weakref\nlock, rlock, local = threading.Lock(), threading.RLock(), threading.local()\nweak = weakref.WeakValueDictionary()\ndef f():\n    with lock, rlock:\n        return len(weak), vars(local)", (0, {})),
        ("from contextvars import ContextVar\nv, w = ContextVar('v', default=1), ContextVar('w')\ndef f():\n    return v.get(), w.get(2)", (1, 2)),
        ("import logging\nlog = logging.getLogger('sent')\ndef f():\n    return log.name", "sent"),
        ("import os.path\ndef f():\n    return os.path.basename('a/b')", "b"),
        ("b = bytearray(b'x')\nt, s, z = ([],), {1}, frozenset([2])\ndef f():\n    return b, t, s, z", (bytearray(b"x"), ([],), {1}, frozenset([2]))),
        ("def f() -> 'int':\n    '''Says.'''\n    return f.__doc__, f.__annotations__, f.mark\nf.mark = 1", ("Says.", {"return": "int"}, 1)),
        ("import functools\ndef wrapping(g):\n    @functools.wraps(g)\n    def wrapper():\n        return g() + 1\n    return wrapper\n@wrapping\ndef f():\n    return 1", 2),
        ("import contextlib\n@contextlib.contextmanager\ndef g():\n    yield 5\ndef f():\n    with g() as five:\n        return five", 5),
        ("v = memoryview(b'abc')\ndef f():\n    return bytes(v)", b"abc"),
        ("def __getattr__(name):\n    return name.upper()\ndef f():\n    import sent\n    return sent.other", "OTHER"),
    ],
)  # fmt: skip
def test_kinds_of_definitions_work_as_after_an_import(sent: Sent, text: str, value: object) -> None:
    assert sent(text).f() == value


def test_values_of_sent_classes_are_pickled_by_name(sent: Sent) -> None:
    module = sent("class C:\n    pass\nclass E(Exception):\n    pass\n")

    assert type(pickle.loads(pickle.dumps(module.C()))) is module.C
    assert module.E.__module__ == "sent"


def test_package_has_its_modules(write: Callable[[str, str], ModuleType]) -> None:
    package = write("sent/__init__", "")
    inner = write(
        "sent/inner",
        "from . import __name__ as name\ndef f():\n    from . import inner\n    return name, inner\n",
    )

    modules = arrived(encode_definitions([package, inner]))

    assert modules["sent"].inner is modules["sent.inner"]
    assert modules["sent.inner"].f() == ("sent", modules["sent.inner"])


def test_what_another_module_has_is_taken_from_there(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("library")
    vars(library)["proxy"] = (number for number in range(3))
    monkeypatch.setitem(sys.modules, "library", library)
    monkeypatch.setitem(sys.modules, "no_module", None)

    module = sent("from library import proxy as mine\ndef f():\n    return mine\n")

    assert module.f() is vars(library)["proxy"]


UNPICKLABLE = "left = (number for number in range(3))\n"


@pytest.mark.parametrize(
    "use",
    [
        "left()", "left.send(None)", "left[0]", "list(left)", "isinstance(1, left)", "bool(left)", "left + 1",
        "__import__('types').new_class('C', (left,))", "setattr(left, 'a', 1)", "str(left)",
    ],
)  # fmt: skip
def test_use_of_a_name_that_was_left_out_says_why(sent: Sent, use: str) -> None:
    module = sent(f"{UNPICKLABLE}def f():\n    return {use}\n")

    with pytest.raises(SerializationError, match=r"'left' of module 'sent' is not on this node.*generator"):
        module.f()


def test_name_that_was_left_out_says_why_when_it_is_looked_up(sent: Sent) -> None:
    module = sent(UNPICKLABLE)

    with pytest.raises(SerializationError, match="'left' of module 'sent'"):
        _ = module.left
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_name_that_was_left_out_can_be_shown(sent: Sent) -> None:
    module = sent(f"{UNPICKLABLE}def f():\n    return [repr(left) for _ in (1,)][0]\n")

    assert "is not on this node" in module.f()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("class C:\n    def __reduce__(self):\n        return 'left'\nleft = C()", "no other module has"),
        ("class C:\n    def __reduce__(self):\n        raise SystemExit('gone')\nleft = C()", "SystemExit: gone"),
        ("import types\nleft = types.ModuleType('made_up')", "no module 'made_up'"),
        ("class C:\n    def __init__(self):\n        self.me = (self,)\n    def __reduce__(self):\n        return C.make, (holder,)\n    @staticmethod\n    def make(holder):\n        return C()\nleft = C()\nholder = [left]", "refers to itself"),
    ],
)  # fmt: skip
def test_reason_names_the_cause(sent: Sent, text: str, why: str) -> None:
    module = sent(text)

    with pytest.raises(SerializationError, match=why):
        _ = module.left


def test_value_that_is_too_large_is_left_out(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "MOST_NBYTES", 10_000)

    module = sent("left = list(range(100_000))\nsmall = [1]\ndef f():\n    return small\n")

    assert module.f() == [1]
    with pytest.raises(SerializationError, match="10,000 bytes; pass large values as arguments"):
        _ = module.left


def test_object_that_nothing_uses_is_left_out(sent: Sent) -> None:
    module = sent(
        "class C:\n    def __reduce__(self):\n        1 / 0\nunused = C()\ndef f():\n    return 1\n"
    )

    assert module.f() == 1
    with pytest.raises(SerializationError, match="no function that is sent along uses it"):
        _ = module.unused


def test_module_that_is_missing_where_definitions_arrive_spoils_no_other_name(
    write: Callable[[str, str], ModuleType], tmp_path: Path
) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "otherwise.py").write_text("class C:\n    pass\n", encoding="utf-8")
    sys.path.insert(0, str(place))
    try:
        module = write(
            "sent",
            "import otherwise\ndef f(x: otherwise.C):\n    return 1\ndef g():\n    return otherwise.C()\n",
        )
        encoded = encode_definitions([module])
    finally:
        sys.path.remove(str(place))
    importlib.invalidate_caches()
    module = arrived(encoded)["sent"]

    assert module.f(None) == 1
    assert module.f.__annotations__ == {}
    with pytest.raises(SerializationError, match=r"'otherwise' of module 'sent' .*ModuleNotFoundError"):
        module.g()


def test_annotations_that_cannot_be_pickled_are_left_out(sent: Sent) -> None:
    assert sent("def f(x: (n for n in ())):\n    return f.__annotations__\n").f(0) == {}


def test_names_that_are_used_later_come_to_modules_that_are_known(
    write: Callable[[str, str], ModuleType],
) -> None:
    other = write("other", "class Size:\n    number = 1\n")
    module: Any = write(
        "sent",
        "import other\nrates, sizes, calls = {'low': 1}, [other.Size()], [0]\n"
        "def call():\n    calls[0] += 1\n    return calls[0]\ndef lost():\n    return list(locks)\nlocks = (n for n in [3])\n",
    )
    first = encode_definitions([module])
    module.locks = [3]
    then = encode_definitions([module, other], ["rates", "sizes"])
    known = arrived(first)
    assert known["sent"].call() == 1
    with pytest.raises(SerializationError, match="no function that is sent along uses it"):
        known["sent"].rates  # noqa: B018 - it raises
    with pytest.raises(SerializationError, match="cannot pickle 'generator'"):
        known["sent"].lost()

    later = arrived(then, known)

    assert later["sent"] is known["sent"]
    assert (later["sent"].rates, later["sent"].sizes[0].number) == ({"low": 1}, 1)
    assert later["sent"].lost() == [3]
    assert later["sent"].call() == 2


def test_modules_that_are_known_stay_the_same(write: Callable[[str, str], ModuleType]) -> None:
    other = write("other", "count = [0]\ndef add():\n    count[0] += 1\n    return count[0]\n")
    first = encode_definitions([other])
    both = encode_definitions(
        [write("sent", "import other\nfrom other import add\ndef f():\n    return add()\n"), other]
    )
    known = arrived(first)
    known["other"].add()

    later = arrived(both, known)

    assert later["other"] is known["other"]
    assert later["sent"].f() == 2


def test_sent_modules_can_be_sent_on(sent: Sent) -> None:
    module = sent("import other\ndef f():\n    return other.value\n", other="value = 4\n")

    again = arrived(encode_definitions([module, sys.modules["other"]]))["sent"]

    assert again is not module
    assert again.f() == 4


def test_module_without_a_file_can_be_sent(write: Callable[[str, str], ModuleType]) -> None:
    module = write("sent", "value = [1]\ndef f():\n    return value")
    del vars(module)["__file__"]

    assert arrived(encode_definitions([module]))["sent"].value == [1]


def test_function_in_a_container_brings_its_module(write: Callable[[str, str], ModuleType]) -> None:
    write("other", "def g():\n    return 7\n")
    module = write("sent", "import other\ncalls = [other.g]\ndel other\ndef f():\n    return calls[0]()\n")

    assert arrived(encode_definitions([module]))["sent"].f() == 7


def test_interrupt_is_passed_on(write: Callable[[str, str], ModuleType]) -> None:
    module = write(
        "sent", "class C:\n    def __reduce__(self):\n        raise KeyboardInterrupt\nleft = C()\n"
    )
    with pytest.raises(KeyboardInterrupt):
        encode_definitions([module], NAMED)

    module = write(
        "other",
        "class C:\n    def __reduce__(self):\n        return stop, ()\ndef stop():\n    raise KeyboardInterrupt\nleft = C()\n",
    )
    with pytest.raises(KeyboardInterrupt):
        _ = arrived(encode_definitions([module], NAMED))["other"].left


def test_definitions_of_another_version_of_python_are_refused(
    write: Callable[[str, str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions, "PYTHON", "3.99")

    with pytest.raises(VersionMismatch, match=r"Python 3\.99"):
        load_definitions(encode_definitions([write("sent", "")]))


def test_what_stands_in_pickles_is_nothing_by_itself() -> None:
    for stand_in, arguments in (
        (sent_modules.define, ("module", "name", list, ())),
        (sent_modules.make_function, (forget_sent.__code__, "module", "name", 0)),
        (sent_modules.complete, (forget_sent, ())),
    ):
        with pytest.raises(AssertionError, match="only definitions"):
            stand_in(*arguments)


def test_function_of_a_sent_module_is_encoded_by_name(sent: Sent) -> None:
    module = sent("def f():\n    return 1\n")
    module.__spec__.loader_state = b"digest of its source"

    _, by_reference, encoded = encode_code(module.f)

    assert (by_reference, encoded) == (True, b"sent:f")


def test_globals_that_refer_to_a_reloaded_module_are_decoded_again(
    write: Callable[[str, str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write("sent", "def f():\n    return 1\n")
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("kept = [1]\ndef own():\n    return sent.f(), kept, large[0]", vars(main))
    large = [10**6] * 50_000
    vars(main).update(sent=module, large=list(map(str, large)))
    code = LoadedCode(by_reference=False, encoded=encode_code(vars(main)["own"])[2])
    here = Namespaces()
    monkeypatch.setattr(namespaces_module._Current, "namespaces", here)
    monkeypatch.setitem(sys.modules, "__main__", here.module("__main__"))
    here.have_modules({"sent": b"first", "other": b"same"})
    assert code.load()() == (1, [1], "1000000")
    vars(here.module("__main__"))["kept"].append(2)

    del sys.modules["sent"]
    write("sent", "def f():\n    return 2222\n")
    here.have_modules({"sent": b"second", "other": b"same"})

    assert code.load()() == (2222, [1, 2], "1000000")


def test_objects_that_cannot_be_sent_are_named_where_other_modules_have_them(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = ModuleType("installed")
    exec("class C:\n    def __reduce__(self):\n        1 / 0\none, other = C(), C()", vars(installed))
    monkeypatch.setitem(sys.modules, "installed", installed)

    module = sent(
        "from installed import one as left, other as both\n"
        "class C:\n    class Inner:\n        pass\n    def f(self):\n        return left, both\n"
    )

    assert module.C().f() == (vars(installed)["one"], vars(installed)["other"])
    assert module.C.Inner.__qualname__ == "C.Inner"
