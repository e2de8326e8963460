"""A program whose open run can be killed: `durable_open_run.py JOURNAL LOG N` prints the result, and what was reused.

Each call leaves its number in the log when it has done its work. Once N of them are known to be done, stderr says so.
"""

import asyncio
import sys

import handoff_actors as handoff
from tests.processes.durable import report_after
from tests.processes.durable_growth import add, work

CALLS = 200
RESULT = sum(range(CALLS))
#: Each number, and each sum of two.
EXECUTED = 2 * CALLS - 1


def name_in_log(function_id: str) -> str:
    """Return what a function writes to the log when it has worked."""
    kind, _, number = function_id.rpartition("-")
    return {"work": f"call-{int(number) - 1}", "add": f"add-{number}"}[kind]


async def main(journal: str, log: str, count: int) -> None:
    reused: list[object] = []
    report = report_after(count)

    def on_event(event: handoff.RunEvent) -> None:
        report(event)
        if event.kind == "reused":
            reused.append(event.function_id)

    async with handoff.open_run(journal=journal, on_event=on_event) as run:
        total = run.call(work, "call-0", 0, log)
        for number in range(1, CALLS):
            value = run.call(work, f"call-{number}", number, log)
            total = run.call(add, str(number), total, value, log)
        result = await total
    print(result, *reused)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
