"""The templates that jobs use, as workers are told them."""

from collections.abc import Sequence

from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Call, Job, Template
from handoff_actors.workers.protocol import DefineTemplate


def definition_of(
    run: RunId, template: Template, code: bytes | None, modules: bytes | None
) -> DefineTemplate:
    """Give the message that defines a template; `code` is None where the worker has it, `modules` the name of a set."""
    environment = template.environment
    package = None if environment is None else environment.package
    return DefineTemplate(
        run=run,
        number=template.number,
        digest=template.digest,
        by_reference=template.by_reference,
        code=code,
        as_list=template.as_list,
        placed_from=template.placed_from,
        runs_anyway=template.run_if != "success",
        conditions=template.conditions,
        claims_memory="memory" in template.cost,
        threads=max(1, int(template.cost.get("cpu", 1))),
        log_level=template.log_level,
        variables=None if environment is None else environment.variables,
        directory=b"" if environment is None else environment.directory,
        package=None if package is None else package.index,
        session=template.session,
        modules=modules,
        retry_on=template.retry_on,
        sends_values=template.sends_values,
        warm=None if template.warm is None else template.warm.key,
        warm_name="" if template.warm is None else template.warm.name,
        sends_digests=template.sends_digests,
    )


def templates_used(jobs: Sequence[Job]) -> set[int]:
    """Give the numbers of all templates that jobs need."""
    used: set[int] = set()
    for job in jobs:
        used.add(job.template)
        for arg in job.args:
            if type(arg) is Call:
                used |= _templates_called(arg)
        if job.then:
            used |= templates_used(job.then)
    return used


def _templates_called(call: Call) -> set[int]:
    inner = (_templates_called(arg) for arg in call.args if type(arg) is Call)
    return {call.template}.union(*inner)
