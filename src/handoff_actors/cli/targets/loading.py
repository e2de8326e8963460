"""Loading of the DAG that MODULE:DAG names."""

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import click
import cloudpickle

from handoff_actors.cli.targets.arguments import bind
from handoff_actors.cli.targets.user_errors import users_code
from handoff_actors.escaping import escape_name
from handoff_actors.graph.dag import DAG
from handoff_actors.text import repr_of

#: Names of a module that an error lists.
_MOST_NAMES: Final = 8


def load_dag(target: str, words: Sequence[str] = (), *, for_cluster: bool) -> DAG:
    """Import the module, or the .py file, and return its DAG, or the one that its function returns for these arguments.

    Nodes of a cluster needn't have the module: with `for_cluster` its functions go there by value.
    Raises click.UsageError, and TracedFailure for any error that the module or the function raises.
    """
    module_name, colon, attribute = target.rpartition(":")
    if not (colon and module_name and attribute):
        raise click.BadParameter(
            f"{target!r} is not MODULE:DAG; one looks like jobs:dag or path/to/jobs.py:dag"
        )
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_name(module_name)
    if for_cluster:
        cloudpickle.register_pickle_by_value(module)
    return _made(target, _found(module, attribute), words)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.BadParameter(f"there is no file {path}")
    # As Python does for a script, so that modules beside it can be imported, here and by an embedded node's workers.
    sys.path.insert(0, str(path.resolve().parent))
    with users_code(f"{path} can't be imported"):
        module = import_module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise click.BadParameter(f"{path} bears the name of another module, {path.stem!r}; rename it")
    return module


def _import_name(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    missing: ModuleNotFoundError | None = None
    with users_code(f"module {name!r} can't be imported"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            missing = error
    raise click.BadParameter(f"there is no module {name!r} here, nor among what is installed") from missing


def _found(module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = _candidates(module)
            hint = f"; there are {', '.join(names)}" if names else ""
            raise click.BadParameter(f"module {module.__name__!r} has no {path!r}{hint}") from None
    return found


def _candidates(module: ModuleType) -> list[str]:
    """Name the DAGs of a module, and its public functions."""
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, DAG)
        or (inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_")
    ]
    return [*names[:_MOST_NAMES], *(["..."] if len(names) > _MOST_NAMES else [])]


def _made(target: str, found: object, words: Sequence[str]) -> DAG:
    if isinstance(found, DAG):
        if words:
            raise click.UsageError(
                f"{target} is a DAG, and no function that makes one: it takes no arguments, such as {words[0]!r}"
            )
        return found
    if not callable(found):
        raise click.BadParameter(
            f"{target} is not a DAG, nor a function that returns one, but {_kind(found)}"
        )
    arguments = bind(target, found, words)
    with users_code(f"{target} has failed"):
        made = found(*arguments.positional, **arguments.named)
        if isinstance(made, Awaitable):
            made = asyncio.run(_awaited(made))
    if not isinstance(made, DAG):
        raise click.BadParameter(f"{target} is not a DAG, nor does it return one, but {_kind(made)}")
    return made


async def _awaited(made: Awaitable[object]) -> object:
    return await made


def _kind(value: object) -> str:
    return "None" if value is None else escape_name(f"{type(value).__name__} {repr_of(value, 80)}")
