"""A fresh notebook on a machine with one core, as a program: runs cells from stdin in one event loop, and answers with their output.

Cells and answers are JSON, one to a line. Nothing of this program can be seen from a cell.
"""

import ast
import asyncio
import io
import json
import os
import sys
import traceback
from contextlib import redirect_stdout
from typing import Any


async def main() -> None:
    # Not the same core for all tests that run at a time.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    # Functions belong to `__main__` as in a notebook, and so travel by value.
    names: dict[str, Any] = {"__name__": "__main__"}
    answers = sys.stdout
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await run_cell(json.loads(line), names)
        print(json.dumps(answer), file=answers, flush=True)
    if "handoff_actors" in sys.modules:
        await sys.modules["handoff_actors"].shutdown()


async def run_cell(cell: str, names: dict[str, Any]) -> dict[str, str]:
    """Run a cell, in which `await` may stand anywhere; return its output, or the traceback of its error."""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            code = compile(cell, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if running is not None:
                await running
        except Exception:  # noqa: BLE001 - a cell raises what it likes
            return {"error": traceback.format_exc()}
    return {"printed": printed.getvalue()}


if __name__ == "__main__":
    asyncio.run(main())
