"""Objects of `per_worker`, in real workers: made once, kept for as long as they may, made again where that is needed."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.ids import Resources
from tests.processes.app import App

pytestmark = pytest.mark.processes

NBYTES = 20_000_000


class Model:
    """What is loaded: its size, the process that has it, and how many it has."""

    loaded = 0

    def __init__(self, nbytes: int) -> None:
        type(self).loaded += 1
        self.weights = bytearray(b"w" * nbytes)
        self.number = type(self).loaded
        self.pid = os.getpid()


def load(nbytes: int, _name: str = "") -> Model:
    return Model(nbytes)


async def load_slowly() -> Model:
    await asyncio.sleep(0.05)
    return Model(1)


def predict(model: Any, _: object = None) -> tuple[int, int, int]:
    """Where it runs, where its model was loaded, and the how manieth of that process that is."""
    return os.getpid(), model.pid, model.number


async def predict_soon(model: Model, _: object = None) -> tuple[int, int, int]:
    await asyncio.sleep(0.001)
    return predict(model)


def predict_from(models: dict[str, list[Model]], *, best: Model) -> bool:
    return models["all"][0] is best


def pid(*_: object) -> int:
    return os.getpid()


def fail_once(marker: str) -> Model:
    path = Path(marker)
    if not path.exists():
        path.touch()
        raise OSError("the file of weights is being written")
    return Model(1)


def shown_devices(_: object) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


async def predictions(app: App, model: handoff.PerWorker[Model], count: int, code: Any = predict) -> Any:
    dag = handoff.DAG()
    handles = [dag.call(code, model, number) for number in range(count)]
    run = await app.run(dag)
    return {run.results[handle] for handle in handles}


def claimed(app: App) -> Resources:
    return app.node._machine.ledger.claimed


async def test_a_model_is_loaded_once_in_each_worker_over_several_runs(app: App) -> None:
    model = handoff.per_worker(load, NBYTES, cost={"memory": 100})

    first = await predictions(app, model, 40)
    # It is the fingerprint that counts, not the object.
    later = await predictions(app, handoff.per_worker(load, NBYTES, cost={"memory": 100}), 40)

    assert 1 <= len(first) <= 2
    assert all(runs_in == loaded_in and number == 1 for runs_in, loaded_in, number in first | later)
    assert len(first | later) <= 2
    assert claimed(app)["memory"] == 100 * len(first | later)
    await app.until_idle()
    [copies] = app.node.advert().warm
    assert (copies.name, copies.copies) == ("load(20000000)", len(first | later))
    # While it is made there are two of it, and the heap may keep the room of the other one.
    assert NBYTES * 0.9 < copies.nbytes / copies.copies < NBYTES * 3


async def test_other_arguments_make_another_object(app: App) -> None:
    one, other = handoff.per_worker(load, 1, "one"), handoff.per_worker(load, 1, "other")
    dag = handoff.DAG()
    both = dag.call(list.__len__, [one, other, one])

    assert (await app.run(dag)).results[both] == 3
    assert len(app.node._machine.advertisement().warm) == 2


async def test_it_stands_for_the_object_within_containers(app: App) -> None:
    model = handoff.per_worker(load, 1)
    dag = handoff.DAG()
    is_same = dag.call(predict_from, {"all": [model]}, best=model)

    assert (await app.run(dag)).results[is_same]


async def test_coroutines_share_an_object_that_is_made_once(app: App) -> None:
    model = handoff.per_worker(load_slowly)

    [(runs_in, loaded_in, number)] = await predictions(app, model, 50, predict_soon)

    assert (runs_in, number) == (loaded_in, 1)
    assert await predictions(app, model, 5, predict_soon) == {(runs_in, loaded_in, 1)}


async def test_a_worker_that_dies_takes_its_object_along(app: App) -> None:
    model = handoff.per_worker(load, 1, cost={"memory": 1})
    [(victim, _, _)] = await predictions(app, model, 1)

    os.kill(victim, signal.SIGKILL)
    await app.until(lambda: not app.node.advert().warm)
    [(runs_in, loaded_in, _)] = await predictions(app, model, 1)

    assert runs_in == loaded_in != victim
    assert claimed(app)["memory"] == 1


async def test_a_function_whose_worker_is_killed_gets_the_object_in_another(app: App, tmp_path: Path) -> None:
    model = handoff.per_worker(load, 1)
    dag = handoff.DAG()
    handle = dag.call(kill_once, model, str(tmp_path / "killed"))

    runs_in, loaded_in, _ = (await app.run(dag, max_retries=0)).results[handle]

    assert runs_in == loaded_in != int((tmp_path / "killed").read_text())


def kill_once(model: Model, marker: str) -> tuple[int, int, int]:
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return predict(model)


async def test_an_object_goes_once_it_was_idle(app: App) -> None:
    model = handoff.per_worker(load, 1, cost={"memory": 500}, idle=0.2)
    [(loaded_in, _, _)] = await predictions(app, model, 1)

    await app.until(lambda: claimed(app)["memory"] == 0)

    assert not psutil.pid_exists(loaded_in)
    assert app.node.advert().warm == []


async def test_an_idle_object_makes_room_for_a_function(app: App) -> None:
    model = handoff.per_worker(load, 1, cost={"memory": 6000})
    [(loaded_in, _, _)] = await predictions(app, model, 1)
    dag = handoff.DAG()
    handle = dag.call(pid, cost={"memory": 5000})

    run = await app.run(dag)

    assert run.results[handle] != loaded_in
    assert not psutil.pid_exists(loaded_in)
    assert claimed(app)["memory"] == 0


async def test_an_error_of_the_loader_is_that_of_the_function(app: App, tmp_path: Path) -> None:
    model = handoff.per_worker(fail_once, str(tmp_path / "marker"))
    dag = handoff.DAG()
    handle = dag.call(predict, model)

    with pytest.raises(handoff.FunctionFailed, match="is being written") as caught:
        await app.run(dag, max_retries=0)

    assert isinstance(caught.value.__cause__, OSError)
    assert "per_worker" in caught.value.__cause__.__notes__[0]
    assert claimed(app) == {"cpu": 0, "memory": 0}
    assert app.node._machine.advertisement().warm == []
    # It is not remembered.
    assert (await app.run(dag)).results[handle][2] == 1


async def test_functions_see_the_gpu_of_their_model() -> None:
    async with handoff.Session(seeds=()) as session:
        await session.register_local_node({"cpu": 1, "gpu": 2})
        dag = handoff.DAG()
        handle = dag.call(shown_devices, handoff.per_worker(load, 1, cost={"gpu": 1}))

        assert (await session.execute_distributed(dag)).results[handle] == "0"


async def test_where_it_is_not_found_it_says_what_to_do(app: App) -> None:
    model = handoff.per_worker(load, 1)

    with pytest.raises(handoff.SerializationError, match="pass it as an argument"):
        await app.call(lambda: predict(model))


def graph_of_predictions(count: int, nbytes: int) -> "handoff.Subgraph[list[tuple[int, int, int]]]":
    model = handoff.per_worker(load, nbytes, cost={"memory": 100})
    dag = handoff.DAG()
    predicted = [dag.call(predict, model, number) for number in range(count)]
    return handoff.Subgraph(dag, result=dag.call(list_of, *predicted))


def list_of(*values: Any) -> list[Any]:
    return list(values)


async def test_functions_that_others_add_share_an_object(app: App) -> None:
    model = handoff.per_worker(load, NBYTES, cost={"memory": 100})
    seen: set[tuple[int, int, int]] = set()

    for _ in range(3):
        seen.update(await app.call(graph_of_predictions, 20, NBYTES))
        dag = handoff.DAG()
        mapped = dag.map(predict_number, over=dag.call(list, range(20)), model=model)
        seen.update((await app.run(dag)).results[mapped])

    assert 1 <= len(seen) <= 2
    assert all(runs_in == loaded_in and number == 1 for runs_in, loaded_in, number in seen)
    assert claimed(app)["memory"] == 100 * len(seen)
    assert len(app.node._machine.advertisement().warm) == 1


def predict_number(_: int, *, model: Model) -> tuple[int, int, int]:
    return predict(model)


async def test_calls_of_an_open_run_share_an_object(app: App) -> None:
    model = handoff.per_worker(load, 1)

    async with app.session.open_run() as run:
        first = await asyncio.gather(*(run.call(predict, model, number) for number in range(20)))
    one = await app.session.call(predict, model)
    many = [where async for where in app.session.map(partial(predict, model), range(10))]

    assert all(runs_in == loaded_in and number == 1 for runs_in, loaded_in, number in [*first, one, *many])
