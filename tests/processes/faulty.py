"""`handoff` with a bug: its node raises over functions that claim poison, once it has half taken them."""

from handoff_actors.cli import main
from handoff_actors.core.node.events import MessageFromPeer, NodeEffect, NodeEvent
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.wire.messages.runs import Assign

POISON = "poison"
_handle = NodeMachine.handle


def handle(machine: NodeMachine, event: NodeEvent, now: float) -> list[NodeEffect]:
    """Lose the effects of what has been done."""
    effects = _handle(machine, event, now)
    match event:
        case MessageFromPeer(_, Assign(templates=templates)):
            assert not any(POISON in template.cost for template in templates), "poisoned"
    return effects


if __name__ == "__main__":
    NodeMachine.handle = handle  # type: ignore[assignment] # that is what this is for
    main(prog_name="handoff")
