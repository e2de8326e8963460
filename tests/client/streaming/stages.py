"""The functions of the pipelines of these tests. The module is lean, since each worker imports it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import handoff_actors as handoff


def increment(number: int) -> int:
    return number + 1


def double(number: int) -> int:
    return 2 * number


async def double_later(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


def add(*numbers: int) -> int:
    return sum(numbers)


def same(value: Any) -> Any:
    return value


def slow(number: int) -> int:
    time.sleep(0.02)
    return number


def uneven(number: int) -> int:
    """Even items take longer than odd ones."""
    time.sleep(0.0 if number % 2 else 0.03)
    return number


def fail_on_multiples_of_three(number: int) -> int:
    if number % 3 == 0:
        raise ValueError(f"{number} is a multiple")
    return number


def keep_even(number: int) -> Any:
    return number if number % 2 == 0 else handoff.SKIP


def up_to(number: int) -> Iterator[int]:
    yield from range(number)


def sums(pairs: list[tuple[int]]) -> list[int]:
    """Give each item with the size of its batch."""
    return [1000 * len(pairs) + number for (number,) in pairs]


def pid_of(number: int) -> tuple[int, int]:
    return number, os.getpid()


def pid_slowly(number: int) -> tuple[int, int]:
    time.sleep(0.01)
    return number, os.getpid()


def start_counting(start: int = 100) -> int:
    return start


def count(total: int, number: int) -> tuple[int, int]:
    return total + number, total + number


def minus(minuend: int, subtrahend: int) -> int:
    return minuend - subtrahend


def count_without(total: int, number: int, *, left_out: int) -> tuple[int, int]:
    return total + number - left_out, total


def scaled(batch: list[tuple[int]], factor: int, summand: int) -> list[int]:
    return [factor * number + summand for (number,) in batch]


def shown_devices(_number: int) -> str | None:
    time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def wait_for_file(number: int, path: str) -> int:
    deadline = time.monotonic() + 10
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return number


def touch_at(number: int, last: int, path: str) -> int:
    if number == last:
        Path(path).touch()
    return number


def total_at_last(total: int) -> list[int]:
    return [-total]


def fail_to_start() -> None:
    raise RuntimeError("no model")


def with_state(_state: None, number: int) -> tuple[int, None]:
    return number, None


def large(fill: int) -> bytes:
    return bytes([fill]) * 500_000


def check_large(data: bytes) -> int:
    assert len(data) == 500_000
    return data[0]


def megabyte(number: int) -> bytes:
    return bytes([number % 256]) * 1_000_000


def turned(data: bytes) -> bytes:
    return data[::-1]


def first_of_megabyte(data: bytes) -> int:
    assert len(data) == 1_000_000
    return data[0]


def die_once_at(number: int, at: int, marker: str) -> int:
    if number == at and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_or_skip(number: int) -> Any:
    if number % 50 == 7:
        raise ValueError(number)
    return handoff.SKIP if number % 20 == 3 else number


def up_to_dying_once(number: int, marker: str) -> Iterator[int]:
    for each in range(number):
        yield die_once_at(each, 25, marker)


def seen_before(seen: list[int], number: int, marker: str) -> tuple[list[int], list[int]]:
    """Give the items before this one. The worker dies at the third."""
    before = list(seen)
    seen.append(die_once_at(number, 2, marker))
    return before, seen


def die_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep_once(number: int, marker: str) -> int:
    if number == 10 and not Path(marker).exists():
        Path(marker).touch()
        time.sleep(1000)
    return number


def sleep_for_ever(_number: int) -> None:
    time.sleep(1000)


def fail_twice(number: int, path: str) -> int:
    record(number, path)
    if Path(path).read_text(encoding="utf-8").count(f"{number}\n") < 3:
        raise ValueError("not yet")
    return number


def slow_on_three(number: int) -> int:
    time.sleep(0.8 if number == 3 else 0)
    return number


def generator_for_two(number: int) -> Any:
    return (each for each in range(3)) if number == 2 else number


def environment(name: str) -> tuple[str | None, str]:
    return os.environ.get(name), str(Path.cwd())


async def stream_within(numbers: list[int]) -> list[int]:
    dag = handoff.DAG()
    dag.call(increment, dag.call(None, type="input", id="in"))
    async with handoff.stream(dag) as pipeline:
        return [item async for item in pipeline.map(numbers)]


def record(number: int, path: str) -> int:
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - few imports
        file.write(f"{number}\n")
    return number


def large_sometimes(number: int) -> Any:
    return (number, bytes(200_000)) if number % 5 == 0 else number


def undo_sometimes(value: int | tuple[int, bytes]) -> int:
    return value[0] if isinstance(value, tuple) else value
