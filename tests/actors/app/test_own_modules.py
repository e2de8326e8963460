"""Which of an app's own modules a run needs, and how edits and reloads of them are told from what is in memory."""

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from handoff_actors.actors.app.own_modules import LoadedModules
from handoff_actors.wire.code.sources import digest_of_source
from handoff_actors.workers.child.own_modules import Imports

Write = Callable[[str, str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module, and import or reload it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_and_load(name: str, text: str) -> ModuleType:
        edit(tmp_path, name, text)
        name = name.removesuffix("/__init__").replace("/", ".")
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    yield write_and_load
    for name in [name for name in sys.modules if name.startswith("mine")]:
        del sys.modules[name]


def edit(directory: Path, name: str, text: str) -> None:
    path = directory / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    # A file system's clock may stand still for some milliseconds, and editors don't write twice meanwhile.
    written = max(path.stat().st_mtime_ns, before + 1)
    os.utime(path, ns=(written, written))
    importlib.invalidate_caches()


class Looking:
    """The own modules of this process, whose files are looked at each time."""

    def __init__(self) -> None:
        self._modules = LoadedModules()

    def sources(self, *roots: str, left_out: str = "") -> dict[str, bytes]:
        self._modules._looked_at = float("-inf")
        self._modules.names()
        found = self._modules.set_of(roots, lambda name: name == left_out)
        return {} if found is None else found.sources

    def named_in(self, value: object) -> set[str]:
        self._modules.names()
        return self._modules.named_in(pickle.dumps(value))


@pytest.mark.parametrize(
    "use",
    [
        "import mine_other",
        "from mine_other import f",
        "from mine_other import C\nx = C()",
        "from mine_other import cached",
        "import mine_other as m\ncalls = {'a': m.f}\ndel m",
        "def f():\n    import mine_other",
        "class C:\n    @property\n    def p(self):\n        import mine_other\n    @staticmethod\n    def s():\n        return lambda: __import__('x') or mine_other",
    ],
)
def test_own_modules_that_a_module_refers_to_are_found(write: Write, use: str) -> None:
    other = "import functools\ndef f(): pass\nclass C: pass\n@functools.lru_cache\ndef cached(): pass\n"
    write("mine_other", other)
    write("mine", f"import json, pytest\n{use}\n")

    sources = Looking().sources("mine")

    assert sources.keys() == {"mine", "mine_other"}
    assert sources["mine_other"] == digest_of_source(other.encode())


def test_packages_come_with_their_modules_and_modules_with_their_packages(write: Write) -> None:
    write("mine/__init__", "")
    write("mine/one", "def f():\n    from . import two\n")
    looking = Looking()
    assert looking.sources("mine.one").keys() == {"mine", "mine.one"}

    write("mine/two", "")

    assert looking.sources("mine.one").keys() == {"mine", "mine.one", "mine.two"}
    assert looking.sources("mine.one", left_out="mine.two").keys() == {"mine", "mine.one"}


def test_installed_and_made_up_modules_are_no_own_ones(write: Write) -> None:
    made_up = ModuleType("mine_made_up")
    sys.modules["mine_made_up"] = made_up

    assert Looking().sources("json", "pytest", "handoff_actors", "mine_made_up", "nothing", "__main__") == {}


def test_pickle_names_its_modules_whole(write: Write) -> None:
    module: Any = write("mine", "class C: pass")
    write("mine_more", "")

    looking = Looking()

    assert looking.named_in([module.C(), "text"]) == {"mine"}
    assert looking.named_in("mine_more") == {"mine_more"}
    assert looking.named_in(["mine_", "mine_more_"]) == set()


def test_reload_shows_and_an_edit_alone_does_not(write: Write, tmp_path: Path) -> None:
    looking, first, second = Looking(), "def f(): return 1\n", "def f(): return 2\n"
    write("mine", first)
    before = looking.sources("mine")

    edit(tmp_path, "mine", second)
    edited = looking.sources("mine")
    write("mine", second)
    reloaded = looking.sources("mine")

    assert before == edited == {"mine": digest_of_source(first.encode())}
    assert reloaded == {"mine": digest_of_source(second.encode())}


def test_edit_before_the_first_look_makes_a_source_that_no_node_can_have(
    write: Write, tmp_path: Path
) -> None:
    write("mine", "def f(): return 1\n")
    edit(tmp_path, "mine", "def f(): return 2\n")
    looking = Looking()

    sources = looking.sources("mine")

    assert sources["mine"] != digest_of_source(b"def f(): return 2\n")
    assert looking.sources("mine") == sources


def test_functions_that_a_tool_has_brought_up_to_date_show(write: Write, tmp_path: Path) -> None:
    """As IPython's autoreload does it, without a reload."""
    looking, second = Looking(), "def f(): return 2\n"
    module: Any = write("mine", "def f(): return 1\n")
    before = looking.sources("mine")
    edit(tmp_path, "mine", second)
    assert looking.sources("mine") == before

    module.f.__code__ = compile(second, str(tmp_path / "mine.py"), "exec").co_consts[0]
    after = looking.sources("mine")
    module.f.__code__ = module.f.__code__.replace(co_name="neither_of_both")
    neither = looking.sources("mine")

    assert after == {"mine": digest_of_source(second.encode())}
    assert neither == after


def test_half_updated_module_is_no_source_of_any_node(write: Write, tmp_path: Path) -> None:
    looking = Looking()
    module: Any = write("mine", "def f(): return 1\n")
    before = looking.sources("mine")
    edit(tmp_path, "mine", "def f(: broken")
    module.f.__code__ = module.f.__code__.replace(co_name="neither_of_both")

    assert looking.sources("mine") != before


def test_module_whose_file_is_gone_stays_what_it_was(write: Write, tmp_path: Path) -> None:
    looking = Looking()
    write("mine", "def f(): return 1\n")
    before = looking.sources("mine")

    (tmp_path / "mine.py").unlink()

    assert looking.sources("mine") == before


def test_old_file_is_not_compiled(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    os.utime(tmp_path / "mine.py", (0, 0))
    importlib.import_module("mine")
    monkeypatch.setattr("builtins.compile", None)

    assert Looking().sources("mine") == {"mine": digest_of_source(b"")}


def test_objects_of_users_are_not_asked(write: Write) -> None:
    """Some answer to each name, others raise."""
    text = """
class Liar:
    def __getattr__(self, name):
        raise RuntimeError(name)
    @property
    def __class__(self):
        raise RuntimeError
    @property
    def __dict__(self):
        raise RuntimeError
liar = Liar()
liars = [liar, {}, ()]
"""
    write("mine", text)

    assert Looking().sources("mine").keys() == {"mine"}


def test_worker_that_begins_runs_sees_the_file_of_what_it_has_imported(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [Imports(), *sys.meta_path])
    looking, second = Looking(), "def f(): return 2\n"
    module: Any = write("mine", "def f(): return 1\n")
    looking.sources("mine")
    edit(tmp_path, "mine", second)

    module.f.__code__ = compile(second, str(tmp_path / "mine.py"), "exec").co_consts[0]

    assert looking.sources("mine") == {"mine": digest_of_source(second.encode())}
