"""Loading of the DAG that MODULE:DAG names."""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
import cloudpickle

from handoff_actors.graph.dag import DAG


def load_dag(target: str, *, for_cluster: bool) -> DAG:
    """Import the module, or the .py file, and return its DAG, or the one that its callable returns.

    Nodes of a cluster needn't have the module: with `for_cluster` its functions go there by value.
    Raises click.BadParameter, and any error that the module itself raises.
    """
    module_name, colon, attribute = target.rpartition(":")
    if not (colon and module_name and attribute):
        raise click.BadParameter(
            f"{target!r} is not MODULE:DAG; one looks like jobs:dag or path/to/jobs.py:dag"
        )
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_name(module_name)
    if for_cluster:
        cloudpickle.register_pickle_by_value(module)
    return _dag_of(module, attribute)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise click.BadParameter(f"there is no file {path}")
    # As Python does for a script, so that modules beside it can be imported, here and by an embedded node's workers.
    sys.path.insert(0, str(path.resolve().parent))
    module = import_module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or not path.samefile(found):
        raise click.BadParameter(f"{path} bears the name of another module, {path.stem!r}; rename it")
    return module


def _import_name(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise click.BadParameter(f"there is no module {name!r} here, nor among what is installed") from error


def _dag_of(module: ModuleType, attribute: str) -> DAG:
    found = getattr(module, attribute, None)
    if found is None:
        raise click.BadParameter(f"module {module.__name__!r} has no {attribute!r}")
    dag = found() if callable(found) else found
    if not isinstance(dag, DAG):
        raise click.BadParameter(
            f"{attribute!r} is not a DAG, nor does it return one, but {type(dag).__name__}"
        )
    return dag
