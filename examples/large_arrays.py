"""Statistics of numpy arrays of 100 MB, block by block, round after round.

Shows that large arrays are written once into shared memory, where all functions on the node that take them map them
without a copy; that they stay there until they are awaited; and that memory stays flat, because they go with their run.

pip install '.[examples]'
python examples/large_arrays.py                                  on this machine's cores
HANDOFF_SEEDS=tcp://HOST:PORT python examples/large_arrays.py    on the cluster of that member

Nodes need numpy.
"""

import argparse
import asyncio
import shutil
import time
from functools import reduce

import numpy as np
import psutil
from numpy.typing import NDArray

import handoff_actors as handoff

Array = NDArray[np.float64]
#: Number of values, their mean, and the sum of the squares of their distances from it.
Moments = tuple[int, float, float]

ARRAYS, BLOCKS = 2, 4
CORE = {"cpu": 1}


# --- Functions that run on the nodes


def make(number: int, megabytes: int) -> Array:
    return np.random.default_rng(number).normal(loc=number, scale=2, size=megabytes * 125_000)


def moments(array: Array, block: int) -> Moments:
    """Compute the moments of one block. The array is a read-only view of shared memory, and so is the block."""
    values = np.array_split(array, BLOCKS)[block]
    return values.size, float(values.mean()), float(values.var()) * values.size


def combine(*blocks: Moments) -> Moments:
    return reduce(combine_two, blocks)


def combine_two(left: Moments, right: Moments) -> Moments:
    """Combine the moments of two blocks, exactly. Source: Chan, Golub, LeVeque 1979."""
    (n, mean, squares), (other_n, other_mean, other_squares) = left, right
    size, distance = n + other_n, other_mean - mean
    return size, mean + distance * other_n / size, squares + other_squares + distance**2 * n * other_n / size


def standardize(array: Array, total: Moments) -> Array:
    """Make a new array of mean 0 and deviation 1, as the one passed in can't be written to."""
    size, mean, squares = total
    result = array - mean
    result /= (squares / size) ** 0.5
    return result


def largest(array: Array) -> float:
    return float(np.abs(array).max())


# --- The app


def statistics(megabytes: int) -> handoff.DAG:
    dag = handoff.new()
    for number in range(ARRAYS):
        array = dag.call(make, number, megabytes, id=f"array-{number}", cost=CORE)
        blocks = [dag.call(moments, array, block, cost=CORE) for block in range(BLOCKS)]
        total = dag.call(combine, *blocks, id=f"total-{number}")
        standard = dag.call(standardize, array, total, id=f"standard-{number}", cost=CORE)
        dag.call(largest, standard, id=f"largest-{number}", cost=CORE)
    return dag


async def one_round(session: handoff.Session, megabytes: int) -> None:
    run = await session.execute_distributed(statistics(megabytes))
    for number in range(ARRAYS):
        size, mean, squares = run.results[f"total-{number}"]
        print(
            f"  array {number}: mean {mean:.3f}, deviation {(squares / size) ** 0.5:.3f},"
            f" the farthest value {run.results[f'largest-{number}']:.1f} deviations away"
        )
    # The arrays themselves are still on the nodes. Awaiting one fetches it.
    stored = run.results["standard-1"]
    started = time.perf_counter()
    array: Array = await stored
    took_ms = (time.perf_counter() - started) * 1000
    print(f"  {stored}: here after {took_ms:.0f} ms, its mean is {abs(array.mean()):.3f}")
    print(f"  memory: {private_mb():.0f} MB private, {shared_mb():.0f} MB shared")
    # Values are dropped with the last reference to their run. To wait for that, release the run:
    await run.release()


def private_mb() -> float:
    """Return the private memory of this process and its workers."""
    own = psutil.Process()
    memory = [process.memory_info() for process in (own, *own.children(recursive=True))]
    return float(sum(each.rss - each.shared for each in memory)) / 1e6


def shared_mb() -> float:
    """Return the use of this machine's shared memory, by all processes."""
    return shutil.disk_usage("/dev/shm").used / 1e6  # noqa: S108 - it is only looked at


async def main(megabytes: int, rounds: int) -> None:
    print(f"before: {shared_mb():.0f} MB shared")
    async with handoff.Session() as session:
        for number in range(1, rounds + 1):
            print(f"round {number}")
            await one_round(session, megabytes)
    print(f"after: {shared_mb():.0f} MB shared")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compute statistics of large arrays.")
    parser.add_argument("--megabytes", type=int, default=100, help="size of each array")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.megabytes, arguments.rounds))
