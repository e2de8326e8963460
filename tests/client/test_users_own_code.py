"""Tests that callbacks, streams, policies and ids of a user's own harm neither a run, nor the others of its session."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.client import instrumentation
from handoff_actors.events import OnEvent

pytestmark = pytest.mark.processes


@pytest.fixture
async def session() -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=(), local_node={"cpu": 1}, progress=False) as opened:
        yield opened


def say(line: str) -> str:
    print(line)
    return line


def chain(*lines: str) -> handoff.DAG:
    dag = handoff.DAG("dag")
    for line in lines:
        dag.call(say, line, id=line)
    return dag


class Tee:
    """As scripts put it in the place of sys.stdout: without `flush`."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


async def test_a_run_that_prints_into_a_stream_without_flush_ends(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    tee = Tee()
    monkeypatch.setattr(sys, "stdout", tee)

    run = await session.execute_distributed(chain("one", "two"))

    assert dict(run.results) == {"one": "one", "two": "two"}
    assert sorted(line.split("] ")[1] for line in tee.text.splitlines()) == ["one", "two"]


class BadId:
    """An id that can be a key, and no more."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def test_a_function_whose_id_has_no_text_prints_and_fails_like_others(
    session: handoff.Session, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = BadId(), BadId()
    dag = handoff.DAG(BadId())
    dag.call(say, "here", id=first)

    run = await session.execute_distributed(dag)
    dag.call(divmod, 1, 0, id=second, max_retries=0)
    with pytest.raises(handoff.FunctionFailed, match="<BadId whose repr raises RuntimeError>") as failed:
        await session.execute_distributed(dag)

    assert run.results[first] == "here"
    assert failed.value.function_id is second
    assert "here" in capfd.readouterr().out


@pytest.mark.parametrize("kind", [LookupError, asyncio.CancelledError])
async def test_on_result_that_raises_ends_the_run_and_names_the_function(
    session: handoff.Session, kind: type[BaseException]
) -> None:
    def refuse(function_id: object, value: object) -> NoReturn:
        raise kind(f"no row for {value}")

    with pytest.raises(
        handoff.HandoffError, match=rf"on_result .* 'one': {kind.__name__}.*no row for one"
    ) as error:
        await session.execute_distributed(chain("one"), on_result=refuse)

    assert isinstance(error.value.__cause__, kind)
    assert (await session.execute_distributed(chain("two"))).results["two"] == "two"


class Exits:
    def __repr__(self) -> str:
        raise SystemExit

    def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> Any:
        raise SystemExit(self)


class ChoosesItself(Exits):
    def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> Any:
        return self


@pytest.mark.parametrize("policy", [Exits(), ChoosesItself()])
async def test_a_policy_that_misbehaves_ends_the_run_and_names_the_function(
    session: handoff.Session, policy: handoff.Policy
) -> None:
    with pytest.raises(handoff.HandoffError, match="function 'one'"):
        await session.execute_distributed(chain("one"), allocation_strategy=policy)

    assert (await session.execute_distributed(chain("two"))).results["two"] == "two"


async def test_an_integration_that_raises_harms_no_run(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(instrumentation.RunInstrumentation):
        def observer(self, on_event: OnEvent | None) -> OnEvent | None:
            def observe(event: events.RunEvent) -> NoReturn:
                raise RuntimeError("the exporter is broken")

            return observe

    monkeypatch.setattr(instrumentation, "_watches", [*instrumentation._watches, Faulty])

    run = await session.execute_distributed(chain("one"))

    assert run.results["one"] == "one"
    assert [record.levelname for record in caplog.records if "integration" in record.getMessage()] == [
        "ERROR"
    ]
