"""State that code by value captures is each call's own, and its globals are the worker's, in real workers."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import handoff_actors as handoff
from tests.daemons import Daemons
from tests.processes.app import App, single

pytestmark = pytest.mark.processes


class Queue:
    def __init__(self) -> None:
        self.left = [1, 2, 3]

    def take(self) -> list[int]:
        return [self.left.pop(0) for _ in range(len(self.left))]


def taking(path: Path | None = None) -> Callable[[], list[int]]:
    left = [1, 2, 3]

    def take() -> list[int]:
        taken = [left.pop(0), left.pop(0)]
        if path is not None and not path.exists():
            path.touch()
            raise OSError("the first attempt ends here")
        return taken + left

    return take


async def test_retry_starts_from_what_was_captured(app: App, tmp_path: Path) -> None:
    assert await app.call(taking(tmp_path / "tried"), max_retries=1) == [1, 2, 3]


async def test_runs_do_not_share_what_was_captured(app: App) -> None:
    take, queue = taking(), Queue()

    assert [await app.call(take) for _ in range(3)] == [[1, 2, 3]] * 3
    assert [await app.call(queue.take) for _ in range(3)] == [[1, 2, 3]] * 3


async def test_coroutines_do_not_share_what_was_captured(app: App) -> None:
    seen: list[int] = []

    async def collect(number: int) -> list[int]:
        seen.append(number)
        return list(seen)

    dag = handoff.new()
    for number in range(4):
        dag.call(collect, number, id=number)

    assert dict((await app.run(dag)).results) == {number: [number] for number in range(4)}


def test_calls_of_an_executor_do_not_share_what_was_captured() -> None:
    queue = Queue()

    with handoff.Executor(1) as executor:
        futures = [executor.submit(queue.take) for _ in range(3)]

        assert [future.result() for future in futures] == [[1, 2, 3]] * 3


SCRIPT = """
import functools, multiprocessing, handoff_actors as handoff
from concurrent.futures import ProcessPoolExecutor

factor, model = 3, None

def init(value):
    global model
    model = value

def predict(x): return model * x

def load():
    global model
    first, model = model is None, "loaded"
    return first

@functools.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(self) is type(other) and self.x == other.x
    def times(self, y): return Point(self.x * y)
    def __call__(self, y): return self.x + y

def scaled(x): return x * factor
def add(a, b): return a + b
def put(queue): queue.put(Point(9))

def pooled(method):
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        out = [pool.map(f, [1, 2]) for f in (scaled, functools.partial(add, 5), Point(2), Point(2).__call__, fib)]
        out.append(pool.map(Point(2).times, [3]) == [Point(6)])
        out.append(pool.map(lambda x: x * factor, [2]))
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        out.append(list(executor.map(scaled, [7])))
    queue = context.Queue()
    process = context.Process(target=put, args=(queue,))
    process.start()
    out.append(queue.get() == Point(9))
    process.join()
    return out

def also_pooled(method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return sum(pool.map(scaled, range(4)))

def child(n):
    dag = handoff.new()
    parts = [dag.call(Point(k).times, 2) for k in range(n)]
    dag.call(sum_of, *parts, argument_inclusion="as_list", id="sum")
    return handoff.run_sync(dag, progress=False).results["sum"]

def sum_of(points): return sum(point.x for point in points)
"""
POOLED = "[[3, 6], [6, 7], [3, 4], [3, 4], [1, 1], True, [6], [21], True]"


def run_script(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + body, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=50, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_functions_of_a_script_use_process_pools(tmp_path: Path, method: str) -> None:
    printed = run_script(
        tmp_path,
        "dag = handoff.new()\n"
        f"for number in range(2): dag.call(pooled, {method!r}, id=number); dag.call(also_pooled, {method!r}, id=number + 2)\n"
        "run = handoff.run_sync(dag, progress=False)\n"
        "for number in range(4): print(run.results[number])\n",
    )

    assert printed == [POOLED, POOLED, "18", "18"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_a_program_run_graphs(tmp_path: Path, method: str) -> None:
    printed = run_script(
        tmp_path,
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool: print(pool.map(child, [4]))\n",
    )

    assert printed == ["[12]"]


def test_initializer_sets_what_functions_of_a_script_see(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        "for value in (10, 20):\n"
        "    with handoff.Executor(2, initializer=init, initargs=(value,)) as executor:\n"
        "        print(list(executor.map(predict, range(4))))\n",
    )

    assert printed == ["[0, 10, 20, 30]", "[0, 20, 40, 60]"]


async def test_sessions_share_a_worker_and_no_globals(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--workers", "1")
    main = ModuleType("__main__")
    exec(SCRIPT, vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)

    async def first(session: handoff.Session) -> list[bool]:
        return [
            (await session.execute_distributed(single(vars(main)["load"]))).results["only"] for _ in range(2)
        ]

    async with handoff.Session(seeds=[node.address]) as one, handoff.Session(seeds=[node.address]) as other:
        assert await first(one) == [True, False]
        assert await first(other) == [True, False]
        assert await first(one) == [False, False]


async def test_concurrent_runs_have_the_globals_that_they_began_with(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ModuleType("__main__")
    exec(SCRIPT, vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    runs = []
    for factor in (2, 3, 4):
        vars(main)["factor"] = factor
        dag = handoff.new()
        for number in range(50):
            dag.call(vars(main)["scaled"], number, id=number)
        runs.append(asyncio.create_task(app.run(dag)))
        # Code is encoded when the run begins.
        await asyncio.sleep(0)

    results = [dict(run.results) for run in await asyncio.gather(*runs)]

    assert results == [{number: number * factor for number in range(50)} for factor in (2, 3, 4)]


def test_globals_of_a_script_last_in_a_worker(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        "with handoff.Executor(1) as executor:\n"
        "    print([executor.submit(load).result() for _ in range(3)], executor.submit(fib, 30).result())\n"
        "print(model)\n",
    )

    assert printed == ["[True, False, False] 832040", "None"]
