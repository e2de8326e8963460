"""Process pools within functions: multiprocessing sends what it can't find by name in other processes by value.

A worker's `__main__` is not the app's file, so a pool's children can't import it, with whatever method they are started.
Here multiprocessing's pickler is told to pickle functions and classes as the app pickles them for workers, and children
are told not to look for a main module. Both happen when a function first imports multiprocessing, as few do.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, Final

from handoff_actors.workers.process_trees import new_tree, set_tag, tag_of_worker

_REDUCTION: Final = "multiprocessing.reduction"
_SPAWN: Final = "multiprocessing.spawn"
_TRACKER: Final = "multiprocessing.resource_tracker"
_MAIN_MODULE: Final = ("init_main_from_name", "init_main_from_path")


def support_process_pools() -> None:
    """Prepare multiprocessing in this process, now or when it is imported."""
    for name, prepare in _PREPARATIONS.items():
        module = sys.modules.get(name)
        if module is not None:
            prepare(module)
        elif not any(type(finder) is _Finder and finder.name == name for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder(name))


class _Finder:
    """Finds one module as usual, and has it prepared once it has been imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            load, prepare = spec.loader.exec_module, _PREPARATIONS[name]

            def load_and_prepare(module: ModuleType) -> None:
                load(module)
                prepare(module)

            spec.loader.exec_module = load_and_prepare  # type: ignore[method-assign]
        return spec


def _prepare_reduction(reduction: ModuleType) -> None:
    reduction.ForkingPickler.reducer_override = _reducer_override


def _prepare_spawn(spawn: ModuleType) -> None:
    prepared: Callable[..., dict[str, Any]] = vars(spawn)["get_preparation_data"]
    if getattr(prepared, "__wrapped__", None) is not None:
        return

    @wraps(prepared)
    def without_main_module(name: str) -> dict[str, Any]:
        preparation = {key: value for key, value in prepared(name).items() if key not in _MAIN_MODULE}
        modules = _modules_to_send()
        return preparation if modules is None else {**preparation, "handoff_modules": modules}

    vars(spawn)["get_preparation_data"] = without_main_module


def _prepare_tracker(tracker: ModuleType) -> None:
    """Let multiprocessing's tracker outlive the worker: it removes from shared memory what a worker leaves that is killed."""
    util = vars(tracker)["util"]
    spawn: Callable[..., int] = util.spawnv_passfds

    def spawn_apart(path: object, args: Sequence[object], descriptors: object) -> int:
        # It ends by itself once no process of the worker has its pipe any more.
        *options, program = args
        apart = f"import os; os.setsid(); {os.fsdecode(program)}"  # type: ignore[arg-type]
        pid = spawn(path, [*options, apart], descriptors)
        set_tag(pid, tag_of_worker(new_tree(), 0))
        return pid

    vars(tracker)["util"] = SimpleNamespace(**vars(util) | {"spawnv_passfds": spawn_apart})


_PREPARATIONS: Final[dict[str, Callable[[ModuleType], None]]] = {
    _REDUCTION: _prepare_reduction,
    _SPAWN: _prepare_spawn,
    _TRACKER: _prepare_tracker,
}


class _SentModules:
    """Has modules that this process has as definitions be there in the process that it is unpickled in."""

    def __init__(self, definitions: bytes, digests: dict[str, object]) -> None:
        self._parts = definitions, digests

    def __reduce__(self) -> tuple[Any, ...]:
        return _have_modules, self._parts


def _modules_to_send() -> _SentModules | None:
    sent_modules = sys.modules.get("handoff_actors.wire.code.sent_modules")
    if sent_modules is None:
        return None
    modules = [module for module in list(sys.modules.values()) if type(module) is sent_modules.SentModule]
    if not modules:
        return None
    from handoff_actors.wire.code.definitions import encode_definitions  # noqa: PLC0415 - see below

    digests = {module.__name__: module.__spec__ and module.__spec__.loader_state for module in modules}
    return _SentModules(encode_definitions(modules), digests)


def _have_modules(definitions: bytes, digests: dict[str, object]) -> None:
    from handoff_actors.wire.code.sent_modules import load_definitions  # noqa: PLC0415 - see below

    # For children of this process.
    support_process_pools()
    for name, module in load_definitions(definitions).items():
        if module.__spec__ is not None:
            module.__spec__.loader_state = digests.get(name)
        sys.modules[name] = module


def _reducer_override(_pickler: object, part: Any) -> Any:
    """See pickle.Pickler."""
    # Programs without process pools need none of this.
    from handoff_actors.wire.code.functools_objects import LruCacheWrapper  # noqa: PLC0415
    from handoff_actors.wire.code.naming import is_found_by_name  # noqa: PLC0415
    from handoff_actors.wire.payload import encode  # noqa: PLC0415

    kind = type(part)
    is_definition = kind is FunctionType or kind is LruCacheWrapper or issubclass(kind, type)
    if is_definition and not is_found_by_name(part):
        return _load, (encode(part).to_bytes(),)
    return NotImplemented


def _load(encoded: bytes) -> Any:
    """Decode a part, in any process; its results may need the same."""
    from handoff_actors.wire.payload import decode  # noqa: PLC0415

    support_process_pools()
    return decode(encoded)
