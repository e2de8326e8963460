"""Which modules are a user's own, and where a process would find their sources."""

import importlib
import json
import sys
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import handoff_actors
from handoff_actors.wire.code.sources import (
    digest_of_source,
    file_state,
    find_spec,
    is_own,
    sent_digest,
    source_of,
)
from tests import daemons


def test_modules_of_python_of_libraries_and_of_this_one_are_not_own() -> None:
    others = [
        sys,
        json,
        pytest,
        handoff_actors,
        importlib.import_module("handoff_actors.wire"),
        ModuleType("made_up"),
    ]

    assert not any(map(is_own, others))
    assert is_own(daemons)
    assert is_own(importlib.import_module("tests"))


def test_package_without_a_source_is_own_where_its_parts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_package").mkdir()
    (tmp_path / "plain_package" / "part.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    package = importlib.import_module("plain_package")

    assert is_own(package)
    assert package.__spec__ is not None
    assert source_of(package.__spec__) == b""
    found = find_spec("plain_package.part", [str(tmp_path / "nothing"), str(tmp_path)])
    assert found is not None
    assert found.origin == str(tmp_path / "plain_package" / "part.py")
    assert "plain_package.part" not in sys.modules
    del sys.modules["plain_package"]


def test_extension_module_is_not_own(tmp_path: Path) -> None:
    module = ModuleType("compiled")
    spec = module.__spec__ = ModuleSpec("compiled", None, origin=str(tmp_path / "compiled.so"))
    spec.has_location = True

    assert not is_own(module)


def test_module_that_has_come_as_definitions_is_own() -> None:
    module = ModuleType("came")
    assert sent_digest(module.__spec__) is None
    spec = module.__spec__ = ModuleSpec("came", None)
    assert not is_own(module)

    spec.loader_state = b"digest"

    assert is_own(module)
    assert sent_digest(spec) == b"digest"


def test_module_is_found_in_archives_and_packages_without_being_imported(tmp_path: Path) -> None:
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("packed/__init__.py", "raise SystemExit")
        written.writestr("packed/inner.py", "text = 1")

    spec = find_spec("packed.inner", [str(archive)])

    assert spec is not None
    assert source_of(spec) == b"text = 1"
    assert digest_of_source(source_of(spec)) == digest_of_source(b"text = 1")
    assert find_spec("packed.nothing", [str(archive)]) is None
    assert find_spec("nothing.at.all", [str(archive), str(tmp_path / "nothing")]) is None
    assert "packed" not in sys.modules


def test_editable_install_is_found_by_its_finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edited.py").write_text("x = 1", encoding="utf-8")

    class Finder:
        """As setuptools makes it."""

        @classmethod
        def find_spec(cls, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
            return find_spec(name, [str(tmp_path)]) if name == "edited" else None

    Finder.__module__ = "__editable___project_1_0_finder"
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])

    spec = find_spec("edited", [])

    assert spec is not None
    assert source_of(spec) == b"x = 1"
    assert find_spec("other", []) is None


def test_state_of_a_file_changes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    states = [file_state(str(file))]
    for text in ("one", "longer"):
        file.write_text(text, encoding="utf-8")
        states.append(file_state(str(file)))

    assert states[0] == (0, 0)
    assert len(set(states)) == len(states)
