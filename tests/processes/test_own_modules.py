"""Modules of an app's own go to nodes that lack them by themselves, and are never run in the form of before a reload."""

import asyncio
import importlib
import operator
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app import own_modules
from tests.daemons import Daemons
from tests.processes.app import single

pytestmark = pytest.mark.processes

HELPER = """
import functools
import json
import threading

MARGIN = 1
LOCK = threading.Lock()
STREAM = (number for number in range(3))
model = None

class Size:
    def __init__(self, number):
        self.number = number

    def grown(self):
        return Size(self.number + MARGIN)

class Refused(ValueError):
    def __init__(self, number, why):
        super().__init__(number, why)

@functools.lru_cache
def text(number):
    return json.dumps(number)

def load():
    global model
    with LOCK:
        if model is None:
            model = []
        model.append(1)
    return len(model)
"""
APP = """
import own_helper
from own_helper import Refused, Size
from own_package import parts

# What only an app can have.
server = (number for number in range(3))

def double(number):
    return 2 * number

def grown(size):
    return size.grown()

def text(number):
    return own_helper.text(parts.half(number))

def refuse(number):
    raise Refused(number, "too small")

def imports(number):
    import own_package.parts
    return own_package.parts.half(number)

def serve():
    return server.send(None)

async def twice(number):
    return double(number)

def state():
    return own_helper.load()

def in_processes(method, numbers):
    import multiprocessing
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.map(grown, [Size(number) for number in numbers])

def nested(number):
    import handoff_actors as handoff
    dag = handoff.new()
    call = dag.call(double, number)
    return handoff.run_sync(dag).results[call.id]
"""
PARTS = """
from . import __name__ as package

def half(number):
    return number / 2
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Write a module, and import it, or reload it, in this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_and_load(name: str, text: str) -> ModuleType:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        name = name.removesuffix(".__init__")
        return importlib.reload(sys.modules[name]) if name in sys.modules else importlib.import_module(name)

    yield write_and_load
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.fixture
def app(write: Callable[[str, str], ModuleType]) -> Any:
    """An app of several modules of its own, as uvicorn or celery import them."""
    write("own_package.__init__", "")
    write("own_package.parts", PARTS)
    write("own_helper", HELPER)
    return write("own_app", APP)


@pytest.fixture
async def session(daemons: Daemons) -> AsyncIterator[handoff.Session]:
    node = daemons.start("--name", "n1", "--cpu", "1", "--workers", "1")
    async with handoff.Session(seeds=[node.address]) as session:
        yield session


async def result(session: handoff.Session, code: Any, *args: Any) -> Any:
    return (await session.execute_distributed(single(code, *args), max_retries=0)).results["only"]


async def test_functions_of_an_app_run_on_nodes_that_lack_its_modules(
    session: handoff.Session, app: Any
) -> None:
    assert await result(session, app.double, 4) == 8
    assert await result(session, app.text, 4) == "2.0"
    assert await result(session, app.twice, 4) == 8


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_process_pools_find_the_modules_of_an_app(
    session: handoff.Session, app: Any, method: str
) -> None:
    grown = await result(session, app.in_processes, method, [1, 2])

    assert [(type(size), size.number) for size in grown] == [(app.Size, 2), (app.Size, 3)]


async def test_what_nodes_return_is_of_the_classes_of_the_app(session: handoff.Session, app: Any) -> None:
    grown = await result(session, app.grown, app.Size(1))

    assert type(grown) is app.Size
    assert grown.number == 2
    with pytest.raises(handoff.FunctionFailed) as caught:
        await result(session, app.refuse, 3)
    assert type(caught.value.__cause__) is app.Refused


async def test_results_of_an_app_are_arguments_on_every_node(daemons: Daemons, app: Any) -> None:
    first = daemons.start("--name", "n1", "--cpu", "1")
    second = daemons.start("--name", "n2", "--cpu", "1", "--join", first.address)
    dag = handoff.new()
    made = dag.call(app.Size, 1, node="n1")
    dag.call(app.Size.grown, made, id="grown", node="n2")
    dag.call(str.upper, "text", id="other", node="n2")
    async with handoff.Session(seeds=[second.address]) as session:
        run = await session.execute_distributed(dag)

    assert type(run.results["grown"]) is app.Size


async def test_module_that_a_function_imports_while_it_runs_goes_along(
    session: handoff.Session, app: Any
) -> None:
    assert await result(session, app.imports, 4) == 2


async def test_module_of_a_rule_for_retries_goes_along(
    session: handoff.Session, write: Callable[[str, str], ModuleType]
) -> None:
    module = write("own_rules", "def never(error):\n    return False\n")

    with pytest.raises(handoff.FunctionFailed) as caught:
        await session.call(int, "seven", max_retries=2, retry_on=module.never)

    assert "its retry_on is against it" in str(caught.value)


async def test_module_that_a_script_uses_goes_along(session: handoff.Session, app: Any) -> None:
    def use(number: int) -> Any:
        return app.own_helper.Size(number).grown().number

    assert await result(session, use, 1) == 2


async def test_function_of_an_app_begins_a_run_of_its_own(session: handoff.Session, app: Any) -> None:
    assert await result(session, app.nested, 4) == 8


async def test_name_that_only_the_app_can_have_says_so_when_it_is_used(
    session: handoff.Session, app: Any
) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await result(session, app.serve)

    assert "'server' of module 'own_app'" in str(caught.value)
    assert "generator" in str(caught.value)


async def test_globals_of_modules_last_as_long_as_their_session(
    session: handoff.Session, app: Any, daemons: Daemons
) -> None:
    counts = [await result(session, app.state), await result(session, app.own_helper.load)]
    node = (await session.discover_nodes()).keys()
    assert list(node) == ["n1"]

    assert counts == [1, 2]


async def test_another_app_has_modules_of_its_own(
    session: handoff.Session, write: Callable[[str, str], Any], daemons: Daemons
) -> None:
    module = write("own_single", "def version():\n    return 1\n")
    first = await result(session, module.version)
    module = write("own_single", "def version():\n    return 2\n")

    assert [first, await result(session, module.version)] == [1, 2]
    with pytest.raises(handoff.FunctionFailed):
        await result(session, importlib.import_module, "own_single_of_nobody")


@pytest.mark.parametrize("where", ["embedded", "elsewhere"])
async def test_reloaded_module_is_never_run_in_its_old_form(
    write: Callable[[str, str], Any], session: handoff.Session, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "embedded":
        monkeypatch.delenv("HANDOFF_SEEDS", raising=False)
    write("own_inner", "def factor():\n    return 1\n")
    source = (
        "import own_inner\nclass Old: pass\ndef f(old):\n    return ({0}, own_inner.factor(), type(old))\n"
    )
    module = write("own_reloaded", source.format(0))
    async with handoff.Session(local_node={"cpu": 1}, seeds=()) as embedded:
        chosen = embedded if where == "embedded" else session
        found = []
        for version in range(3):
            module = write("own_reloaded", source.format(version))
            found.append(await result(chosen, module.f, module.Old()))
            assert found[-1] == (version, 1, module.Old)
        write("own_inner", "def factor():\n    return 2\n")

        assert await result(chosen, module.f, module.Old()) == (2, 2, module.Old)


async def test_script_sees_the_reloaded_module(write: Callable[[str, str], Any]) -> None:
    module = write("own_used", "def f():\n    return 0\n")
    # As in a notebook: globals of code by value outlive the run.
    main = sys.modules["__main__"]
    exec("def own_call():\n    return own_used.f()\n", vars(main))
    vars(main)["own_used"] = module
    try:
        async with handoff.Session(local_node={"cpu": 1}, seeds=()) as session:
            for version in range(3):
                write("own_used", f"def f():\n    return {version}\n")
                assert await result(session, vars(main)["own_call"]) == version
    finally:
        del vars(main)["own_call"], vars(main)["own_used"]


async def test_module_that_was_imported_anew_counts_as_reloaded(write: Callable[[str, str], Any]) -> None:
    async with handoff.Session(local_node={"cpu": 1}, seeds=()) as session:
        for version in range(3):
            module = write("own_again", f"def f():\n    return {version}\n")
            assert await result(session, module.f) == version
            del sys.modules["own_again"]


async def test_module_that_was_edited_and_not_reloaded_runs_as_the_app_has_it(
    write: Callable[[str, str], Any], tmp_path: Path
) -> None:
    module = write("own_edited", "def f():\n    return 'before'\n")
    async with handoff.Session(local_node={"cpu": 1}, seeds=()) as session:
        assert await result(session, module.f) == "before"
    (tmp_path / "own_edited.py").write_text("def f():\n    return 'after'\n", encoding="utf-8")

    async with handoff.Session(local_node={"cpu": 1}, seeds=()) as session:
        assert await result(session, module.f) == "before"
        assert await result(session, module.f) == "before"


async def test_module_that_was_edited_before_its_first_run_runs_as_the_app_has_it(
    write: Callable[[str, str], Any], tmp_path: Path
) -> None:
    module = write("own_early", "def f():\n    return 'before'\n")
    (tmp_path / "own_early.py").write_text("def f():\n    return 'after'\n", encoding="utf-8")

    async with handoff.Session(local_node={"cpu": 1}, seeds=()) as session:
        assert await result(session, module.f) == "before"


async def test_nodes_that_have_the_module_import_it(
    write: Callable[[str, str], Any], daemons: Daemons, tmp_path: Path
) -> None:
    module = write("own_there", "import os\nIMPORTED_BY = os.getpid()\ndef f():\n    return IMPORTED_BY\n")
    node = daemons.start(
        "--name",
        "n1",
        "--cpu",
        "1",
        variables={"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"},
    )

    async with handoff.Session(seeds=[node.address]) as session:
        imported_by = await result(session, module.f)

    assert imported_by != os.getpid()


async def test_many_runs_at_once_share_what_was_sent(session: handoff.Session, app: Any) -> None:
    results = await asyncio.gather(*(result(session, app.double, number) for number in range(20)))

    assert results == [2 * number for number in range(20)]


async def test_calls_go_to_nodes_that_come_later(daemons: Daemons, app: Any) -> None:
    first = daemons.start("--name", "n1", "--cpu", "1")
    async with handoff.Session(seeds=[first.address]) as session:
        # The functions of the first are forgotten by then.
        assert [await session.call(app.double, number, node="n1") for number in range(3)] == [0, 2, 4]
        daemons.start("--name", "n2", "--cpu", "1", "--join", first.address)

        assert await session.call(app.double, 4, node="n2") == 8


async def test_results_of_calls_are_arguments_of_functions_that_do_not_name_their_module(
    session: handoff.Session, app: Any
) -> None:
    async with session.open_run() as run:
        size = run.call(app.Size, 1)
        # So that the two are not added together.
        await size

        assert await run.call(operator.attrgetter("number"), size) == 1


async def test_globals_that_only_a_later_function_names_come_with_it(
    session: handoff.Session, write: Callable[[str, str], ModuleType]
) -> None:
    module: Any = write("own_rates", "RATES = {'low': 1}\ndef double(number):\n    return 2 * number\n")

    assert await session.call(lambda: module.double(1)) == 2
    assert await session.call(lambda: module.RATES["low"]) == 1


async def test_values_on_nodes_are_arguments_of_functions_that_do_not_name_their_module(
    session: handoff.Session, app: Any
) -> None:
    number = operator.attrgetter("number")
    dag = handoff.new()
    made = dag.call(app.Size, bytes(100_000))
    dag.call(len, [made])
    earlier = await session.execute_distributed(dag)
    put = await session.put(app.Refused(1, "too small"))

    assert await result(session, number, earlier.results[made]) == bytes(100_000)
    assert await result(session, operator.attrgetter("args"), put) == (1, "too small")


async def test_calls_like_earlier_ones_run_a_reloaded_module_as_it_is(
    session: handoff.Session, write: Callable[[str, str], Any]
) -> None:
    for version in range(3):
        module = write("own_called", f"def f(number):\n    return {version}, number\n")

        found = [await session.call(module.f, number) for number in range(3)]

        assert found == [(version, number) for number in range(3)]


async def test_function_whose_place_another_one_has_taken_is_called_as_it_is(
    session: handoff.Session,
    write: Callable[[str, str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_modules, "_LOOKS_EVERY_S", 0.0)
    module = write("own_place", "def f(number):\n    return 1, number\n")
    first = module.f
    assert [await session.call(first, number) for number in range(2)] == [(1, 0), (1, 1)]

    # As IPython's autoreload does it.
    second = "def f(number):\n    return 2, number\n# later\n"
    (tmp_path / "own_place.py").write_text(second, encoding="utf-8")
    exec(compile(second, module.__file__, "exec"), vars(module))

    for number in range(2):
        assert await session.call(first, number) == (1, number)
        assert await session.call(module.f, number) == (2, number)


async def test_module_that_is_imported_between_calls_goes_along_from_then_on(
    session: handoff.Session, write: Callable[[str, str], Any]
) -> None:
    write("own_package.__init__", "")
    module = write("own_package.early", "def f():\n    from . import late\n    return late.number\n")
    for _ in range(2):
        with pytest.raises(handoff.FunctionFailed, match="late"):
            await session.call(module.f)

    write("own_package.late", "number = 1\n")

    assert [await session.call(module.f) for _ in range(2)] == [1, 1]


async def test_arguments_of_own_classes_bring_their_modules_to_calls_like_earlier_ones(
    session: handoff.Session, write: Callable[[str, str], Any]
) -> None:
    assert [await session.call(repr, number) for number in range(2)] == ["0", "1"]

    module = write("own_class", "class Own:\n    def __repr__(self):\n        return 'own'\n")

    assert [await session.call(repr, module.Own()) for _ in range(2)] == ["own", "own"]
    assert await session.call(repr, 2) == "2"
