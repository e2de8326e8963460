"""The keys by which workers tell objects of `per_worker` apart."""

from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app.encoding import EncodingOptions, encode_program
from handoff_actors.graph.plan import Plan


def load(*_: object, **__: object) -> None: ...


def load_other() -> int:
    return 1


def predict(*_: object) -> None: ...


async def key_of(model: handoff.PerWorker[Any], session: str = "session", **options: Any) -> bytes:
    dag = handoff.DAG()
    dag.add_function(handoff.Function(0, [model], predict, **options))
    encoded = await encode_program(Plan.compile(dag), EncodingOptions(1000, session=session))
    [warm] = [template.warm for template in encoded.program.templates if template.warm is not None]
    return warm.key


async def test_equal_arguments_give_the_same_key() -> None:
    assert await key_of(handoff.per_worker(load, {"a": [1]}, x=2)) == await key_of(
        handoff.per_worker(load, {"a": [1]}, x=2)
    )


async def test_everything_that_makes_another_object_gives_another_key() -> None:
    model = handoff.per_worker(load, 1)
    keys = [
        await key_of(model),
        await key_of(handoff.per_worker(load, 2)),
        await key_of(handoff.per_worker(load, x=1)),
        await key_of(handoff.per_worker(load_other)),
        await key_of(handoff.per_worker(load, 1, cost={"gpu": 1})),
        await key_of(model, session="another"),
        await key_of(model, env_vars={"A": "1"}),
    ]

    assert len(set(keys)) == len(keys)


async def test_a_loader_that_can_not_be_sent_is_named() -> None:
    unsendable = (number for number in [1])

    with pytest.raises(handoff.SerializationError, match=r"the code of lambda\(\) can't be sent"):
        await key_of(handoff.per_worker(lambda: unsendable))
