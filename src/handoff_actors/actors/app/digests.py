"""Digests of what a plan is made of, by which a function is known to be the same as an earlier one."""

from collections.abc import Callable, Sequence

from handoff_actors.actors.app.encoding import breathe
from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.core.run.facts.resumption import Digests
from handoff_actors.graph.plan import Plan
from handoff_actors.wire.digest import Digester


async def digests_of(plan: Plan) -> Digests:
    """Digest all that a plan is made of, on the loop: it calls users' code, which need not be made for threads."""
    digester = Digester()
    ids = await _each(plan.ids, digester.digest)
    templates = await _each([template.code for template in plan.templates], digester.digest)
    constants = await _each(plan.constants, digester.digest)
    return Digests(
        ids, templates, constants, await _each(plan.values, lambda value: _value_digest(digester, value))
    )


async def _each(values: Sequence[object], digest: Callable[[object], bytes]) -> list[bytes]:
    found: list[bytes] = []
    for number, value in enumerate(values):
        found.append(digest(value))
        await breathe(number)
    return found


def _value_digest(digester: Digester, value: object) -> bytes:
    # A value of another run counts by the function that has made it.
    return value.fingerprint if isinstance(value, FoundValue) else digester.digest(value)
