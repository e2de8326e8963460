"""The service is run by a real server in a process of its own, and its clients hang up as real ones do."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.daemons import Daemons
from tests.examples.programs import EXAMPLES, Program, running, running_python

pytestmark = pytest.mark.processes

#: This many samples take longer than any client waits.
ENDLESS = {"samples": 10**15}
SHORT = {"samples": 20_000}
#: A second or so.
LONG = {"samples": 4_000_000, "parts": 32}


def address_of(service: Program) -> str:
    """Wait until the service listens, and return its address."""
    listens = re.compile(r"Uvicorn running on (http://\S+)")
    service.wait_until(lambda: listens.search(service.output()) is not None)
    found = listens.search(service.output())
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(
        "fastapi_service.py", "--port", "0", directory=tmp_path_factory.mktemp("service")
    ) as program:
        yield address_of(program)


@pytest.fixture
async def client(service: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service, timeout=20) as made:
        yield made


async def until_idle(client: httpx.AsyncClient, *, is_idle: bool) -> None:
    """Return once every node has nothing to do, or has something."""
    while {node["is_idle"] for node in (await client.get("/nodes")).json().values()} != {is_idle}:
        pass


async def start_job(client: httpx.AsyncClient, order: dict[str, int]) -> str:
    answer = await client.post("/jobs", json=order)
    assert answer.status_code == 202
    return f"/jobs/{answer.json()['id']}"


async def until_over(client: httpx.AsyncClient, job: str) -> dict[str, object]:
    while (status := (await client.get(job)).json())["state"] == "running":
        pass
    return dict(status)


async def test_a_request_gets_its_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/estimates", json=SHORT)

    assert answer.status_code == 200
    assert answer.json()["answer"] == pytest.approx(3.14, abs=0.1)


async def test_a_wrong_order_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/estimates", json={"samples": 0})).status_code == 422


async def test_a_job_goes_on_when_its_client_has_gone(client: httpx.AsyncClient, service: str) -> None:
    async with httpx.AsyncClient(base_url=service) as leaving:
        job = await start_job(leaving, LONG)

    assert (await client.get(job)).json()["state"] == "running"
    status = await until_over(client, job)
    assert status == {"state": "done", "answer": pytest.approx(3.14, abs=0.01)}


async def test_a_client_that_hangs_up_takes_its_run_along_and_no_other(
    client: httpx.AsyncClient, service: str
) -> None:
    async with httpx.AsyncClient(base_url=service, timeout=None) as leaving, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(leaving.post("/estimates", json=ENDLESS))
        await until_idle(client, is_idle=False)
        # This job waits for the cores of the other one.
        job = await start_job(client, SHORT)
        waiting.cancel()

    assert (await until_over(client, job))["state"] == "done"
    await until_idle(client, is_idle=True)


async def test_a_client_that_hangs_up_frees_the_cores_for_others(
    client: httpx.AsyncClient, service: str
) -> None:
    async with httpx.AsyncClient(base_url=service, timeout=0.5) as leaving:
        with pytest.raises(httpx.ReadTimeout):
            await leaving.post("/estimates", json=ENDLESS)

    await until_idle(client, is_idle=True)


async def test_a_cancelled_job_is_over(client: httpx.AsyncClient) -> None:
    job = await start_job(client, ENDLESS)
    await until_idle(client, is_idle=False)

    assert (await client.delete(job)).status_code == 204
    assert (await client.get(job)).json() == {"state": "cancelled"}
    await until_idle(client, is_idle=True)


async def test_an_unknown_job_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/jobs/none")).status_code == 404
    assert (await client.delete("/jobs/none")).status_code == 404


async def test_a_service_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with running("fastapi_service.py", "--port", "0", directory=tmp_path) as program:
        async with httpx.AsyncClient(base_url=address_of(program), timeout=20) as client:
            await start_job(client, ENDLESS)
            await until_idle(client, is_idle=False)
        program.wait_until(program.owns_stores)

        # uvicorn ends in good order, and then by the signal that it was sent.
        assert program.terminate() == -signal.SIGTERM
        assert program.leftovers() == []
        assert "Traceback" not in program.output()


async def test_a_service_that_uvicorn_imports_uses_nodes_that_cannot(
    daemons: Daemons, tmp_path: Path
) -> None:
    node = daemons.start("--name", "elsewhere", "--cpu", "1")
    launch = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "fastapi_service:app")
    with running_python(*launch, directory=tmp_path, HANDOFF_SEEDS=node.address) as program:
        async with httpx.AsyncClient(base_url=address_of(program), timeout=20) as client:
            answer = await client.post("/estimates", json=SHORT)
            nodes = (await client.get("/nodes")).json()

        assert answer.json()["answer"] == pytest.approx(3.14, abs=0.1)
        assert nodes.keys() == {"elsewhere"}
        assert program.terminate() == -signal.SIGTERM
        assert "Traceback" not in program.output()
