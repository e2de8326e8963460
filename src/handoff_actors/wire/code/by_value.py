"""Modules of the user's whose functions and classes are sent by value, as those of `__main__` are."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import cloudpickle

_lock = threading.Lock()
#: By module that we have registered: the number of threads that encode with it. A user's own registrations don't count.
_users: Counter[str] = Counter()


def is_any_sent_by_value(among: Sequence[ModuleType] = ()) -> bool:
    """True if there are modules whose contents are encoded by value, or these are."""
    return bool(among) or bool(cloudpickle.list_registry_pickle_by_value())


def is_sent_by_value(name: str, among: Sequence[ModuleType] = ()) -> bool:
    """True if the contents of a module of this name are encoded by value: always, or where these modules are."""
    registered = cloudpickle.list_registry_pickle_by_value()
    if not (registered or among):
        return False
    registered |= {module.__name__ for module in among}
    return any(name == one or name.startswith(f"{one}.") for one in registered)


@contextmanager
def sent_by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Within the context, encode the contents of these modules, and of modules within them, by value."""
    with _lock:
        registered = cloudpickle.list_registry_pickle_by_value() - _users.keys()
        ours = [module for module in modules if module.__name__ not in registered]
        for module in ours:
            _users[module.__name__] += 1
            cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        with _lock:
            for module in ours:
                _users[module.__name__] -= 1
                if not _users[module.__name__]:
                    del _users[module.__name__]
                    cloudpickle.unregister_pickle_by_value(module)
