"""A call runs its code as it is when it is made, however many calls like it came before."""

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import Session

pytestmark = pytest.mark.processes


class Counter:
    """Callable, and has a method, and both tell its state."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int) -> tuple[int, int]:
        return self.count, number

    def told(self, number: int) -> tuple[int, int]:
        return self(number)


def first_of(state: list[int], number: int) -> tuple[int, int]:
    return state[0], number


def variable(name: str) -> Any:
    return os.environ.get(name)


def with_partial() -> tuple[Any, Callable[[int], None]]:
    state = [0]
    return partial(first_of, state), partial(state.__setitem__, 0)


def with_closure() -> tuple[Any, Callable[[int], None]]:
    state = [0]
    return lambda number: (state[0], number), partial(state.__setitem__, 0)


def with_method() -> tuple[Any, Callable[[int], None]]:
    counter = Counter()
    return counter.told, partial(setattr, counter, "count")


def with_object() -> tuple[Any, Callable[[int], None]]:
    counter = Counter()
    return counter, partial(setattr, counter, "count")


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with Session(local_node={"cpu": 2.0}, seeds=(), progress=False) as session:
        yield session


@pytest.mark.parametrize("make", [with_partial, with_closure, with_method, with_object])
async def test_state_of_code_is_that_of_the_moment_of_the_call(
    session: Session, make: Callable[[], tuple[Any, Callable[[int], None]]]
) -> None:
    code, change = make()

    for state in range(3):
        change(state)

        assert [await session.call(code, number) for number in range(3)] == [
            (state, 0),
            (state, 1),
            (state, 2),
        ]


async def test_options_are_those_of_each_call(session: Session) -> None:
    all_options: list[dict[str, Any]] = [
        {},
        {},
        {"env_vars": {"HANDOFF_TEST_VARIABLE": "a"}},
        {"cost": {"cpu": 2}},
    ]
    all_options += all_options

    found = [await session.call(variable, "HANDOFF_TEST_VARIABLE", **options) for options in all_options]

    assert found == 2 * [None, None, "a", None]


async def test_calls_by_another_class_of_argument_are_told_apart(session: Session) -> None:
    found = [await session.call(repr, value) for value in (1, True, 1.0, 1, None, "1", b"1")]

    assert found == ["1", "True", "1.0", "1", "None", "'1'", "b'1'"]


async def test_rules_of_retries_are_those_of_each_call(session: Session) -> None:
    for rule, attempts in 2 * [(None, 1), (TypeError, 2), (ValueError, 1)]:
        with pytest.raises(handoff.FunctionFailed, match=f"after {attempts} attempt"):
            await session.call(len, 1, retry_on=rule, max_retries=1)
