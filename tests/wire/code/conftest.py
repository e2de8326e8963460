"""Code of an app, and how it is called where it arrives."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import pytest

from handoff_actors.wire.code.definitions import encode_definitions
from handoff_actors.wire.code.namespaces import Namespaces, enter
from handoff_actors.wire.loaded_code import LoadedCode
from handoff_actors.wire.payload import decode, encode, encode_code
from tests.wire.code.two_processes import (
    NAMED,
    arrived,
    enter_own,
    forget_sent,
    know_classes,
    known_classes,
)

Sent = Callable[..., Any]


@pytest.fixture
def worker(main: ModuleType) -> Iterator[Callable[..., Any]]:
    """Calls code by value of the program as one worker does; the app's namespaces are back after each call."""
    arrived = Namespaces()
    loaded: dict[bytes, LoadedCode] = {}

    def call(code: Callable[..., Any], *args: Any, within: Namespaces = arrived) -> Any:
        digest, by_reference, encoded = encode_code(code, str(id(within))[:16])
        known = loaded.setdefault(digest, LoadedCode(by_reference=by_reference, encoded=encoded))
        sent = [encode(arg).to_bytes() for arg in args]
        own_classes = known_classes()
        enter(within)
        know_classes(*classes)
        try:
            result = encode(known.load()(*map(decode, sent))).to_bytes()
        finally:
            enter_own(main)
            know_classes(*own_classes)
        return decode(result)

    classes = WeakValueDictionary[str, type](), WeakKeyDictionary[type, str]()
    yield call
    enter_own(main)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Write a module of this process's own, and import it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_and_import(name: str, text: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name.removesuffix("/__init__").replace("/", "."))

    yield write_and_import
    forget_sent()


@pytest.fixture
def sent(write: Callable[[str, str], ModuleType]) -> Sent:
    """Write modules, and give the last one of them as another process has it that can't import them."""

    def write_and_send(text: str, **others: str) -> Any:
        modules = [write(name, other) for name, other in others.items()]
        encoded = encode_definitions([*modules, write("sent", text)], NAMED)
        return arrived(encoded)["sent"]

    return write_and_send
