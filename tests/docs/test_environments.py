"""Every snippet of docs/environments.md is run, as it stands there."""

import ast
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.docs.pages import snippets

pytestmark = pytest.mark.processes

VARIABLES, DIRECTORY, MODULES = snippets("environments.md", "python")
SHAPES = """
class Square:
    def __init__(self, side):
        self.side = side

def area(square):
    return square.side * square.side
"""


async def run_snippet(source: str, **names: Any) -> None:
    code = compile(source, "environments.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, {"handoff": handoff, "os": os, **names})
    if running is not None:
        await running


def add_up(name: str) -> int:
    return sum(map(int, Path(name).read_text(encoding="utf-8").split()))


@pytest.fixture(autouse=True)
async def _session_ends_with_the_test() -> AsyncIterator[None]:
    yield
    await handoff.shutdown()


async def test_variables(capsys: pytest.CaptureFixture[str]) -> None:
    await run_snippet(VARIABLES)

    assert capsys.readouterr().out == "debug error\n"


async def test_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "numbers.txt").write_text("1 2 3", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    await run_snippet(DIRECTORY, add_up=add_up)

    assert capsys.readouterr().out == "6\n"


async def test_modules(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    await run_snippet(MODULES)

    assert capsys.readouterr().out == "9\n"
    del sys.modules["shapes"]
