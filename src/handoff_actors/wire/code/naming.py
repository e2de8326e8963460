"""The names by which classes and functions are found, here and where they arrive."""

import sys
from typing import Any, Final

import cloudpickle

from handoff_actors.wire.code.namespaces import MAIN, GlobalName, definition_at

#: The module that the program was started as, also in the children of multiprocessing.
MAINS: Final = frozenset({MAIN, "__mp_main__"})


def travels_by_value(module: str) -> bool:
    """True if others can't import a module: the one that the program was started as, and those that users have registered."""
    return module in MAINS or is_registered(module)


def is_registered(module: str) -> bool:
    """True if the user has registered a module with cloudpickle, or one that it is in."""
    registered = cloudpickle.list_registry_pickle_by_value()
    return bool(registered) and any(module == name or module.startswith(f"{name}.") for name in registered)


def is_found_by_name(definition: Any) -> bool:
    """True if a process that imports its module finds a class or function there."""
    return not travels_by_value(definition.__module__) and _is_attribute(definition)


def is_not_found_by_name(definition: Any) -> bool:
    """True if it has to be sent."""
    return not is_found_by_name(definition)


def name_of_definition(definition: Any) -> GlobalName | None:
    """Give the name of a class or function that is found by it in a module that travels by value."""
    module_name, name = definition.__module__, definition.__qualname__
    if not isinstance(module_name, str) or not travels_by_value(module_name):
        return None
    try:
        found = definition_at(sys.modules.get(module_name), name.split("."))
    except AttributeError:
        return None
    return (MAIN if module_name in MAINS else module_name, name) if found is definition else None


def _is_attribute(definition: Any) -> bool:
    found: Any = sys.modules.get(definition.__module__ or "")
    for step in definition.__qualname__.split("."):
        found = getattr(found, step, None)
    return found is definition
