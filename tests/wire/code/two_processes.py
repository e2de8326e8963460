"""One process as two: what an app's modules and globals are, and what a worker's."""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import cloudpickle

from handoff_actors.wire.code import namespaces
from handoff_actors.wire.code.namespaces import MAIN, OwnNamespaces
from handoff_actors.wire.code.sent_modules import load_definitions

#: Names that tests use as code by value would.
NAMED = {"left", "both", "alias", "registry"}


def enter_own(main: ModuleType) -> None:
    namespaces._Current.namespaces = OwnNamespaces()
    sys.modules[MAIN] = main


def known_classes() -> tuple[Any, Any]:
    """The classes by value of this process, by cloudpickle's ids; an app and a worker have two sets of them."""
    return (
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID,
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS,
    )


def know_classes(by_id: Any, by_class: Any) -> None:
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID = by_id
    cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS = by_class


def arrived(encoded: bytes, known: Mapping[str, ModuleType] | None = None) -> dict[str, Any]:
    """The modules, in the place of those that they were made of, which can't be imported any more."""
    forget_sent()
    sys.path[:] = [path for path in sys.path if "pytest-" not in path]
    modules = load_definitions(encoded, known or {})
    sys.modules.update(modules)
    return dict(modules)


def forget_sent() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0].startswith(("sent", "other"))]:
        if name in sys.modules and not name.startswith("sent_modules"):
            del sys.modules[name]
