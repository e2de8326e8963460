import pytest

from handoff_actors.core.admission import MAX_GPUS, check_advert, check_message
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages import Advert, Assign, Beat, Hello, Redeclare, Template, ToNode

SOUND: list[Resources] = [{}, {"cpu": 0.0}, {"cpu": 0.5, "memory": 1e15, "gpu": MAX_GPUS}]
UNSOUND: list[Resources] = [
    {"cpu": -1.0},
    {"cpu": float("nan")},
    {"anything": float("inf")},
    {"gpu": MAX_GPUS + 1},
]


def template(cost: Resources, timeout: float | None = None) -> Template:
    return Template(
        0, b"", by_reference=True, code=b"", is_async=False, as_list=False, cost=cost, timeout=timeout
    )


def advert(capabilities: Resources, spare: Resources) -> Advert:
    return Advert(
        "n", "i", 1, "", "", capabilities, spare, 1, 0, 0, 0, leaving=False, view=0, version="", python=""
    )


def messages_with(resources: Resources) -> list[ToNode]:
    return [
        Assign(RunId(1), [template({}), template(resources)], []),
        Redeclare(resources),
        Hello(1, "", "", "", advert(resources, {})),
        Hello(1, "", "", "", advert({}, resources)),
    ]


@pytest.mark.parametrize("resources", SOUND, ids=str)
def test_amounts_that_a_machine_can_have_are_taken(resources: Resources) -> None:
    for message in messages_with(resources):
        check_message(message)


@pytest.mark.parametrize("resources", UNSOUND, ids=str)
def test_amounts_that_cannot_be_are_refused_wherever_they_are(resources: Resources) -> None:
    for message in messages_with(resources):
        with pytest.raises(RemoteProtocolError, match=next(iter(resources))):
            check_message(message)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(RemoteProtocolError, match="timeout"):
        check_message(Assign(RunId(1), [template({}, timeout)], []))


def test_what_carries_no_amounts_is_taken() -> None:
    check_message(Beat())
    check_message(Hello(1, "", "", "", None))
    check_message(Assign(RunId(1), [template({}, 0.1)], []))


def test_advert_is_named_by_whom_it_is_of() -> None:
    with pytest.raises(RemoteProtocolError, match="node 'n' offers"):
        check_advert(advert({"cpu": -1.0}, {}))
