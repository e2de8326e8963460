"""Turns a plan into the bytes that a run sends: code, constants and values, each encoded once."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from handoff_actors.core.program import Program
from handoff_actors.errors import SerializationError
from handoff_actors.graph.plan import Plan, TemplateSpec
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages import Ref, Template
from handoff_actors.wire.payload import Payload, encode, encode_call, encode_code

#: So much is encoded before the app's loop gets its turn.
SLICE = 500

T = TypeVar("T")


async def encode_program(
    plan: Plan, inline_limit: int, log_level: int | None = None
) -> tuple[Program, dict[Index, bytes | memoryview]]:
    """The program of a plan, and the large constants that the app itself holds, by index.

    Raises SerializationError, which names the function.
    """
    large: dict[Index, bytes | memoryview] = {}

    def place(encoded: bytes) -> bytes | Ref:
        if len(encoded) <= inline_limit:
            return encoded
        index = plan.size + len(large)
        large[index] = encoded
        return Ref(index, len(encoded), [""])

    codes: dict[int, tuple[bytes, bool, bytes]] = {}
    templates: list[Template] = []
    for number, spec in enumerate(plan.templates):
        key = id(spec.code)
        if key not in codes:
            codes[key] = _named(
                partial(_first, plan, plan.template_of, number), "its code", encode_code, spec.code
            )
        templates.append(_template(number, spec, codes[key], log_level))
        await breathe(number)
    constants: list[bytes | Ref] = []
    for number, (extra_args, kwargs) in enumerate(plan.constants):
        owner = partial(_first, plan, plan.constants_of, number)
        encoded = _named(owner, "its extra_args or kwargs", encode_call, extra_args, kwargs)
        constants.append(place(encoded))
        await breathe(number)
    values: list[bytes | Ref] = []
    for number, value in enumerate(plan.values):
        payload: Payload = _named(
            partial(_first_with_value, plan, number), "one of its arguments", encode, value
        )
        values.append(place(payload.to_bytes()))
        await breathe(number)
    return Program(plan, templates, constants, values), large


def _template(
    number: int, spec: TemplateSpec, code: tuple[bytes, bool, bytes], log_level: int | None
) -> Template:
    digest, by_reference, encoded = code
    return Template(
        number, digest, by_reference, encoded, spec.is_async, spec.as_list, spec.cost, spec.timeout, log_level
    )


def _named(owner: Callable[[], FunctionId], what: str, encode_it: Callable[..., T], *parts: object) -> T:
    try:
        return encode_it(*parts)
    except SerializationError as error:
        function_id = owner()
        raise SerializationError(
            f"function {function_id!r}: {what} can't be sent to a node: {error}", function_id
        ) from error


def _first(plan: Plan, numbers: list[int], number: int) -> FunctionId:
    """A function to blame. What none has itself belongs to an inline function or to a hook within one."""
    return plan.ids[numbers.index(number)] if number in numbers else None


def _first_with_value(plan: Plan, number: int) -> FunctionId:
    return next((plan.ids[index] for index, args in enumerate(plan.args) if ~number in args), None)


async def breathe(number: int) -> None:
    """Give the loop its turn, now and then. `number` counts what has been done."""
    if number % SLICE == SLICE - 1:
        await asyncio.sleep(0)
