"""Functions that tests of environments run in workers: importable by name, so that only their environment differs."""

import asyncio
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path


def look(*names: str) -> tuple[str, dict[str, str | None], int]:
    """Return the working directory, the variables of these names, and the process id."""
    return str(Path.cwd()), {name: os.environ.get(name) for name in names}, os.getpid()


async def look_later(*names: str) -> tuple[str, dict[str, str | None], int]:
    await asyncio.sleep(0)
    return look(*names)


def determined_by_variables() -> tuple[int, str]:
    """Return the time zone, in seconds west of UTC, and the directory of temporary files."""
    return time.timezone, tempfile.gettempdir()


def version_of(module: str) -> int:
    """Return the version of a module that is only in the working directory."""
    version: int = importlib.import_module(module).VERSION
    return version


def read(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


def python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def made_here() -> object:
    """Something with code by value in it."""
    return [lambda: 1]


def call(made: list[object]) -> object:
    return made[0]()  # type: ignore[operator]
