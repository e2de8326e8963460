"""Modules that nodes lack: sent by value on request, and missed, if they are installed, with the ways to mend that."""

import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import handoff_actors as handoff
from tests.daemons import Daemons
from tests.processes.app import single

pytestmark = pytest.mark.processes

PACKAGE = {
    "__init__.py": "from ours_alone.inner.shapes import Square\n",
    "inner/__init__.py": "",
    "inner/shapes.py": """
from ours_alone.inner import sizes
from ours_alone.inner.sizes import double

class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side * self.side

def grown(square):
    return Square(double(square.side) + sizes.MARGIN)
""",
    "inner/sizes.py": """
MARGIN = 1

def double(number):
    return number * 2
""",
}
WAYS = ("install it there", "working_dir=", "PYTHONPATH", "modules_by_value=")


@pytest.fixture
def ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that this process can import, and no node."""
    for name, text in PACKAGE.items():
        file = tmp_path / "ours_alone" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("ours_alone")
    for name in [name for name in sys.modules if name.partition(".")[0] == "ours_alone"]:
        del sys.modules[name]


@pytest.fixture
async def session(daemons: Daemons) -> AsyncIterator[handoff.Session]:
    # Started before the package is there, and with a path of its own.
    node = daemons.start("--name", "n1", "--cpu", "2")
    async with handoff.Session(seeds=[node.address]) as session:
        yield session


def shapes_of(package: ModuleType) -> Any:
    return package.inner.shapes


@pytest.mark.parametrize("by_name", [True, False], ids=["name", "module"])
async def test_package_goes_along_with_its_submodules(
    session: handoff.Session, ours_alone: ModuleType, by_name: bool
) -> None:
    shapes = shapes_of(ours_alone)
    dag = handoff.DAG()
    dag.add_function(handoff.Function("square", [], shapes.Square, extra_args=[3]))
    dag.add_function(handoff.Function("grown", ["square"], shapes.grown))
    dag.add_function(handoff.Function("area", ["grown"], shapes.Square.area))
    dag.add_function(handoff.Function("given", [handoff.Constant(shapes.Square(2))], shapes.grown))

    run = await session.execute_distributed(
        dag, modules_by_value=["ours_alone" if by_name else ours_alone], fetch="all"
    )

    assert run.results["area"] == 49
    assert isinstance(run.results["grown"], shapes.Square)
    assert run.results["given"].side == 5
    assert not cloudpickle.list_registry_pickle_by_value()


async def test_session_has_modules_for_all_its_runs(daemons: Daemons, ours_alone: ModuleType) -> None:
    node = daemons.start("--name", "n1", "--cpu", "2")
    async with handoff.Session(seeds=[node.address], modules_by_value=["ours_alone"]) as session:
        run = await session.execute_distributed(single(ours_alone.inner.sizes.double, 4))

    assert run.results["only"] == 8


async def test_change_of_a_module_shows_in_the_next_run(
    session: handoff.Session, ours_alone: ModuleType
) -> None:
    shapes = shapes_of(ours_alone)
    areas = []
    for margin in (1, 2, 1):
        shapes.sizes.MARGIN = margin
        dag = handoff.DAG().add_function(
            handoff.Function("grown", [], shapes.grown, extra_args=[shapes.Square(1)])
        )
        run = await session.execute_distributed(dag, modules_by_value=[ours_alone])
        areas.append(run.results["grown"].area())

    assert areas == [9, 16, 9]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that is installed here, and on no node."""
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "installed_here.py").write_text(
        PACKAGE["inner/sizes.py"] + "class Size(int): pass", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(place))
    yield importlib.import_module("installed_here")
    del sys.modules["installed_here"]


async def test_missing_module_of_a_function_is_an_error_with_the_three_ways(
    session: handoff.Session, installed: ModuleType
) -> None:
    with pytest.raises(handoff.SerializationError) as caught:
        await session.execute_distributed(single(installed.double, 1))

    text = str(caught.value)
    assert "function 'only' on node 'n1'" in text
    assert "needs module 'installed_here'" in text
    assert all(way in text for way in WAYS)


async def test_missing_module_of_an_argument_is_an_error_with_the_three_ways(
    session: handoff.Session, installed: ModuleType
) -> None:
    with pytest.raises(handoff.SerializationError) as caught:
        await session.execute_distributed(single(str, installed.Size(1)))

    text = str(caught.value)
    assert "function 'only' on node 'n1'" in text
    assert "module 'installed_here'" in text
    assert all(way in text for way in WAYS)


async def test_missing_module_that_a_function_imports_is_an_error_with_the_three_ways(
    session: handoff.Session, installed: ModuleType
) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.execute_distributed(single(importlib.import_module, "installed_here"), max_retries=0)

    text = str(caught.value)
    assert "function 'only' failed on node 'n1'" in text
    assert "installed_here" in text
    assert all(way in text for way in WAYS)


async def test_missing_module_is_found_in_the_working_directory(
    session: handoff.Session, ours_alone: ModuleType, tmp_path: Path
) -> None:
    run = await session.execute_distributed(single(shapes_of(ours_alone).Square, 1), working_dir=tmp_path)

    assert isinstance(run.results["only"], ours_alone.Square)


async def test_what_is_no_module_is_refused() -> None:
    async with handoff.Session(seeds=()) as session:
        for wrong in ("ours_alone", [3]):
            with pytest.raises(TypeError, match="modules_by_value="):
                await session.execute_distributed(single(int), modules_by_value=wrong)  # type: ignore[arg-type]
        with pytest.raises(ModuleNotFoundError):
            await session.execute_distributed(single(int), modules_by_value=["no_such_module"])
