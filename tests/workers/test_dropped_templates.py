"""A run that goes on drops templates that no further function of it uses."""

from typing import Any

import pytest

from handoff_actors.ids import WorkerId
from handoff_actors.workers.child.template import LoadedTemplates
from handoff_actors.workers.protocol import DefineTemplate
from tests.workers.pool_harness import ASYNC, RUN, SYNC, PoolHarness, job, template


async def _doubled(value: int) -> int:
    return 2 * value


@pytest.mark.processes
@pytest.mark.parametrize(("worker", "code"), [(SYNC, abs), (ASYNC, _doubled)])
async def test_number_of_a_dropped_template_may_be_that_of_another(
    harness: PoolHarness, worker: WorkerId, code: Any
) -> None:
    harness.pool.give(
        worker, RUN, {0: template(code), 1: template(code, 1)}, [job(0, -3), job(1, -3, number=1)], None
    )
    await harness.end_of(1)

    harness.pool.forget_templates(RUN, [0, 7])
    harness.pool.give(
        worker, RUN, {0: template(str), 1: template(code, 1)}, [job(2, -3), job(3, -3, number=1)], None
    )
    await harness.end_of(3)

    assert harness.result(2) == "-3"
    assert harness.result(3) == harness.result(1)


def definition(number: int, variable: bytes) -> DefineTemplate:
    return DefineTemplate(
        run=RUN,
        number=number,
        digest=b"digest",
        by_reference=True,
        code=b"builtins:int",
        as_list=False,
        claims_memory=False,
        threads=1,
        log_level=None,
        variables={b"VARIABLE": variable},
        directory=b"",
        package=None,
        session="",
        modules=None,
        retry_on=b"",
    )


def test_environments_go_with_the_last_template_that_has_them() -> None:
    templates = LoadedTemplates()
    for number, variable in enumerate((b"a", b"a", b"b")):
        templates.define(definition(number, variable))
    kept = templates.of(RUN)[1].environment

    templates.forget(RUN, [0, 2])
    templates.define(definition(3, b"a"))

    assert set(templates.of(RUN)) == {1, 3}
    assert templates._environments[RUN] == [kept]
    assert templates.of(RUN)[3].environment is kept
