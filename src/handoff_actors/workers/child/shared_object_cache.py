"""The objects of `per_worker` in an async worker, whose functions may ask for one while it is being made for another."""

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from handoff_actors.wire.code.namespaces import enter
from handoff_actors.workers.child.object_cache import Make, ObjectCache, own_nbytes
from handoff_actors.workers.child.own_modules import ModulesInUse
from handoff_actors.workers.child.template import LoadedTemplate


class _Making:
    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        #: The functions that wait for it.
        self.waiting = 0


class SharedObjectCache(ObjectCache):
    """Makes each object once, in a task of its own; what is made for nobody any more is cancelled."""

    def __init__(
        self,
        made: Callable[[bytes, int], None],
        modules: ModulesInUse,
        leave_job: Callable[[], object],
    ) -> None:
        """`leave_job` is called in the context of the task: tasks that it creates belong to no job, and go on."""
        super().__init__(made)
        self._modules = modules
        self._leave_job = leave_job
        self._making: dict[bytes, _Making] = {}

    async def _make(self, key: bytes, template: LoadedTemplate, make: Make) -> Any:
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = _Making(self._begin(key, template, make))
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if not making.waiting and self._making.get(key) is making:
                del self._making[key]
                making.task.cancel()
            # Coroutines of other sessions may have run meanwhile.
            self._enter(template)

    def _begin(self, key: bytes, template: LoadedTemplate, make: Make) -> "asyncio.Task[Any]":
        context: Context = copy_context()
        context.run(self._leave_job)
        name = f"make {template.warm_name}"
        return asyncio.get_running_loop().create_task(
            self._run(key, template, make), name=name, context=context
        )

    async def _run(self, key: bytes, template: LoadedTemplate, make: Make) -> Any:
        self._enter(template)
        before = own_nbytes()
        made = await make()
        making = self._making.get(key)
        if making is not None and making.task is asyncio.current_task():
            del self._making[key]
            self._keep(key, template, made, before)
        return made

    def _enter(self, template: LoadedTemplate) -> None:
        enter(template.namespaces)
        self._modules.enter(template.modules)
