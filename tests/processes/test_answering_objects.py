"""Objects that answer to every attribute travel like any others: special methods are looked up on their types."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.graph.naming import code_name
from handoff_actors.integrations.background import BackgroundSession
from handoff_actors.integrations.continuation import Continued
from handoff_actors.wire.digest import Digester
from handoff_actors.wire.payload import encode_code
from tests.processes import answering

pytestmark = pytest.mark.processes

each_object = pytest.mark.parametrize("value", answering.OBJECTS, ids=lambda value: type(value).__name__)


@pytest.fixture(scope="module")
def session() -> Iterator[BackgroundSession]:
    with BackgroundSession((), {"cpu": 1}, progress=False) as session:
        yield session


def outcome(session: BackgroundSession, code: Callable[..., Any], *args: object) -> Any:
    dag = handoff.new()
    dag.call(code, *args, id="f", max_retries=0)
    return session.execute(dag).results["f"]


@each_object
@pytest.mark.parametrize(
    "code", [answering.same, answering.same_later, Continued(answering.same, as_list=False)]
)
def test_object_is_an_argument_and_a_result(session: BackgroundSession, code: Any, value: object) -> None:
    carrier: tuple[object, ...] = ({}, None) if isinstance(code, Continued) else ()

    returned = outcome(session, code, *carrier, value)

    assert type(returned) is type(value)
    assert not isinstance(value, dict) or returned == value


@each_object
def test_object_is_code(session: BackgroundSession, value: Any) -> None:
    assert outcome(session, value, 1) == 2
    assert encode_code(value)[1] is False


def test_objects_are_globals_of_code(session: BackgroundSession) -> None:
    assert outcome(session, lambda: answering.rates()) == [0.1, 0.1, ("rate", ())]  # noqa: PLW0108 - by value


def test_class_of_awaitables_is_a_result(session: BackgroundSession) -> None:
    assert outcome(session, answering.same, answering.Awaitable) is answering.Awaitable


@pytest.mark.parametrize("kind", [answering.AnsweringError, answering.FrozenError])
def test_exception_comes_back_with_its_text_and_traceback(
    session: BackgroundSession, kind: type[Exception]
) -> None:
    with pytest.raises(handoff.FunctionFailed, match="no way") as caught:
        outcome(session, answering.fail, kind, "no way")

    assert type(caught.value.__cause__) is kind
    assert "answering.py" in str(caught.value.__cause__.__cause__)
    with handoff.Executor(session=session) as executor, pytest.raises(kind) as raised:
        executor.submit(answering.fail, kind, "no way").result(10)
    assert str(raised.value) == "no way"


@each_object
def test_object_has_the_name_of_its_type(value: object) -> None:
    assert code_name(value) == type(value).__name__
    assert code_name(answering.Bunch(rate=1).__call__) == "Bunch.__call__"


@each_object
def test_object_in_a_class_does_not_count_as_one_of_its_methods(value: object) -> None:
    def settings(value: object) -> type:
        return type("Settings", (), {"value": value, "__module__": __name__})

    assert Digester().definition(settings(value)) == Digester().definition(settings(object()))
