"""A large CSV file, cleaned and added up while it is read: it never is in memory as a whole.

Shows back-pressure, which reaches the reader of the file; workers that clean blocks of lines side by side, in order; and a stage
with a state: `init` makes it, each block adds to it, and `finish` gives the totals when all is through.

pip install '.[examples]'
python examples/clean_csv.py                                      100,000 rows, made up
python examples/clean_csv.py --rows 1000000                       a million
HANDOFF_SEEDS=tcp://HOST:PORT python examples/clean_csv.py        on the cluster of that member
"""

import argparse
import asyncio
import csv
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import handoff_actors as handoff

#: A row by itself is too little work to be sent.
LINES_PER_BLOCK = 1000
CITIES = ("Accra", "Bogotá", "Kyoto", "Oslo", "Quito")


class Sale(NamedTuple):
    city: str
    cents: int


class Totals(NamedTuple):
    """All sales of a city."""

    city: str
    sales: int
    cents: int


# --- Functions that run on the nodes


def clean(lines: list[str]) -> list[Sale]:
    """Parse a block of lines; leave out those without a city, or with an amount that is none."""
    sales = []
    for row in csv.DictReader(lines, ("number", "city", "amount")):
        city = (row["city"] or "").strip().title()
        amount = (row["amount"] or "").replace("$", "").strip()
        if city in CITIES and amount.replace(".", "", 1).isdigit():
            sales.append(Sale(city, round(float(amount) * 100)))
    return sales


def add_up(totals: dict[str, tuple[int, int]], sales: list[Sale]) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Add a block to the state. A block by itself has no result: what comes out comes at the end."""
    for city, cents in sales:
        count, sum_of_cents = totals.get(city, (0, 0))
        totals[city] = count + 1, sum_of_cents + cents
    return handoff.SKIP, totals


def all_totals(totals: dict[str, tuple[int, int]]) -> Iterator[Totals]:
    for city in sorted(totals):
        yield Totals(city, *totals[city])


# --- The app


def stages() -> handoff.DAG:
    dag = handoff.DAG("sales")
    sales = dag.call(clean, dag.call(None, type="input", id="lines"), id="clean", parallelism=2)
    # The state is data: without it, the totals would be wrong.
    dag.call(add_up, sales, id="add up", init=dict, finish=all_totals, on_state_loss="fail")
    return dag


def make_up(path: Path, rows: int) -> dict[str, tuple[int, int]]:
    """Write a file as exports are, one row in ten of no use. Return what the totals are."""
    random = Random(0)
    totals = dict.fromkeys(CITIES, (0, 0))
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            city, cents = random.choice(CITIES), random.randrange(100, 100_000)
            if random.random() < 0.1:
                file.write(random.choice([f"{number},,{cents}\n", f"{number},{city},n/a\n"]))
                continue
            file.write(f"{number}, {random.choice([city, city.upper()])} ,${cents / 100:.2f}\n")
            count, sum_of_cents = totals[city]
            totals[city] = count + 1, sum_of_cents + cents
    return {city: total for city, total in totals.items() if total[0]}


def blocks_of(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as file:
        while block := list(islice(file, LINES_PER_BLOCK)):
            yield block


async def push_all(pipeline: handoff.Pipeline, path: Path) -> None:
    for block in blocks_of(path):
        # This waits while the stages have enough to do, and so no more of the file is read.
        await pipeline.push(block)
    await pipeline.drain()


async def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sales.csv")
        expected = make_up(path, rows)
        began_at = time.perf_counter()
        found: dict[str, tuple[int, int]] = {}
        async with (
            handoff.stream(stages(), in_flight=16, errors="raise") as pipeline,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(push_all(pipeline, path))
            async for totals in pipeline:
                print(f"{totals.city:8} {totals.sales:8,} sales {totals.cents / 100:16,.2f}")
                found[totals.city] = totals.sales, totals.cents
        took_s = time.perf_counter() - began_at
    print("as it should be" if found == expected else f"WRONG: it should be {expected}")
    print(f"{rows:,} rows, {rows / took_s:,.0f} rows/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Clean a CSV file, and add it up.")
    parser.add_argument("--rows", type=int, default=100_000, help="number of rows")
    asyncio.run(main(parser.parse_args().rows))
