"""Modules of the user's whose functions and classes travel by value, as those of `__main__` do."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import cloudpickle

_lock = threading.Lock()
#: How many are encoding with a module that they have registered; what a user has registered is not in it.
_users: Counter[str] = Counter()


@contextmanager
def sent_by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """What is encoded meanwhile has the contents of these modules, and of modules within them, by value."""
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
