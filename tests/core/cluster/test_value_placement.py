"""The nodes that may keep a value, in the order in which they are asked."""

from msgspec.structs import replace

from handoff_actors.core.cluster.value_placement import by_room
from handoff_actors.wire.messages.members import Advert
from tests.core.cluster.adverts import advert as plain_advert


def advert(name: str, **facts: object) -> Advert:
    return replace(plain_advert(name), **facts)


def test_the_node_with_the_most_memory_to_spare_is_asked_first() -> None:
    small, large = advert("small", spare={"memory": 1.0}), advert("large", spare={"memory": 2.0})
    without = advert("without", spare={})

    assert by_room([without, small, large]) == [large, small, without]


def test_nodes_that_leave_are_not_asked_and_those_out_of_use_last() -> None:
    staying, out = advert("staying"), advert("out", out_of_use="five functions in a row have failed")

    assert by_room([advert("leaving", leaving=True), out, staying]) == [staying, out]
