import pytest
from msgspec.structs import replace

from handoff_actors.core.node.validation import (
    MAX_ADVERT_BYTES,
    MAX_GPUS,
    MAX_OFFER_BYTES,
    MAX_RANK,
    Introductions,
    check_advert,
    check_left,
    check_message,
)
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import PeerId, Resources, RunId
from handoff_actors.text import MAX_NAME_BYTES
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Template, WarmObject
from handoff_actors.wire.messages.members import (
    MOST_WARM,
    Advert,
    Backlog,
    Beat,
    Hello,
    Left,
    Redeclare,
    WarmCopies,
)
from handoff_actors.wire.messages.runs import Assign

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
        Hello(1, "", "", "", replace(advert({}, {}), can_start=resources)),
        Beat(backlogs=[Backlog(1, resources)]),
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


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_times_that_cannot_be_are_refused_wherever_they_are(seconds: float) -> None:
    plain = advert({}, {})
    for message in (
        Hello(1, "", "", "", replace(plain, ends_in_s=seconds)),
        Hello(1, "", "", "", replace(plain, can_start_for_s=seconds)),
        Beat(backlogs=[Backlog(1, {}, usual_s=seconds)]),
        Beat(backlogs=[Backlog(1, {}, least_s=seconds)]),
    ):
        with pytest.raises(RemoteProtocolError, match=rf"{seconds} s"):
            check_message(message)


def test_claims_that_wait_may_be_of_more_gpus_than_a_machine_has() -> None:
    plain = advert({}, {})
    check_advert(replace(plain, waiting_claims={"gpu": 2 * MAX_GPUS}))
    with pytest.raises(RemoteProtocolError, match="nan of 'gpu'"):
        check_advert(replace(plain, waiting_claims={"gpu": float("nan")}))


def test_what_carries_no_amounts_is_taken() -> None:
    check_message(Beat())
    check_message(Hello(1, "", "", "", None))
    check_message(Assign(RunId(1), [template({}, 0.1)], []))


NAMES = ["n", "node 1 (ü)", "n" * MAX_NAME_BYTES]
NO_NAMES = ["", "n\x1b[2J", "n\n", "\u202en", "n" * (MAX_NAME_BYTES + 1), "ü" * MAX_NAME_BYTES]
SOUND_ADVERT = advert({"cpu": 1.0}, {})


@pytest.mark.parametrize("name", NAMES)
def test_printable_names_are_taken(name: str) -> None:
    check_advert(replace(SOUND_ADVERT, name=name, capabilities={name: 1.0}, spare={name: 1.0}))
    check_message(Redeclare({name: 1.0}))


@pytest.mark.parametrize("name", NO_NAMES)
def test_other_names_are_refused_wherever_they_are(name: str) -> None:
    amounts = {name: 1.0}
    for unsound in ({"name": name}, {"capabilities": amounts}, {"spare": amounts}, {"can_start": amounts}):
        with pytest.raises(RemoteProtocolError):
            check_advert(replace(SOUND_ADVERT, **unsound))
    with pytest.raises(RemoteProtocolError):
        check_message(Redeclare(amounts))


@pytest.mark.parametrize("field", ["incarnation", "version", "python", "address", "bus", "out_of_use"])
def test_what_can_not_be_printed_is_refused_in_all_of_an_advert(field: str) -> None:
    with pytest.raises(RemoteProtocolError, match="can't be printed"):
        check_advert(replace(SOUND_ADVERT, **{field: "tcp://\x1b[2J"}))


def test_unreachable_members_have_names() -> None:
    check_advert(replace(SOUND_ADVERT, unreachable=["m"]))
    with pytest.raises(RemoteProtocolError, match="can't be printed"):
        check_advert(replace(SOUND_ADVERT, unreachable=["m", "\x1b[2J"]))


def test_objects_are_kept_for_a_time_and_have_names_that_can_be_printed() -> None:
    sound = WarmObject(b"key", "load('w.pt')", 0.0)
    check_message(Assign(RunId(1), [replace(template({}), warm=sound)], []))
    for unsound in (replace(sound, idle_s=-1.0), replace(sound, name="ü"), replace(sound, name="\x1b[2J")):
        with pytest.raises(RemoteProtocolError, match="the object of template 0"):
            check_message(Assign(RunId(1), [replace(template({}), warm=unsound)], []))
    with pytest.raises(RemoteProtocolError, match="can't be printed"):
        check_advert(replace(SOUND_ADVERT, warm=[WarmCopies(b"", "\x1b[2J", 1, 0)]))


def test_rank_that_no_other_could_exceed_is_refused() -> None:
    check_advert(replace(SOUND_ADVERT, rank=MAX_RANK))
    with pytest.raises(RemoteProtocolError, match="has the rank"):
        check_advert(replace(SOUND_ADVERT, rank=MAX_RANK + 1))


def test_node_that_leaves_has_a_name() -> None:
    check_left(Left("n", "i"))
    for unsound in (Left("", "i"), Left("n", "\x1b[2J")):
        with pytest.raises(RemoteProtocolError, match="is no name"):
            check_left(unsound)


@pytest.mark.parametrize("field", ["address", "bus"])
@pytest.mark.parametrize(
    "address", ["inproc://zeromq.zap.01", "ipc:///run/x", "nonsense", "TCP://10.0.0.1:1"]
)
def test_address_of_another_transport_is_refused(field: str, address: str) -> None:
    check_advert(replace(SOUND_ADVERT, **{field: "tcp://10.0.0.1:7070"}))
    with pytest.raises(RemoteProtocolError, match="is no address"):
        check_advert(replace(SOUND_ADVERT, **{field: address}))


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.1:99999", "tcp://10.0.0.1:0", "tcp://0.0.0.0:7070", "tcp://a:9999:7070", "tcp://a b:7070"],
)
def test_address_that_leads_nowhere_is_refused(address: str) -> None:
    with pytest.raises(RemoteProtocolError, match="is no address"):
        check_advert(replace(SOUND_ADVERT, address=address))


def test_long_advert_is_refused() -> None:
    offer = {f"{number:0100d}": 1.0 for number in range(MAX_ADVERT_BYTES // 100 + 1)}

    with pytest.raises(RemoteProtocolError, match=f"longer than {MAX_ADVERT_BYTES} bytes"):
        check_advert(replace(SOUND_ADVERT, capabilities=offer))


def test_what_a_node_may_be_told_to_offer_fits_an_advert() -> None:
    longest = "n" * MAX_NAME_BYTES
    offer = {f"{number:0100d}": 1.0 for number in range(MAX_OFFER_BYTES // 100)}
    address = f"tcp://{'.'.join(['a' * 61] * 4)}:65535"

    check_advert(
        replace(
            SOUND_ADVERT,
            name=longest,
            capabilities=offer,
            spare=offer,
            address=address,
            bus=address,
            unreachable=[longest] * 4,
            out_of_use="ü" * 200,
            warm=[WarmCopies(b"", "w" * 64, 1, 0)] * MOST_WARM,
        )
    )


def test_connection_introduces_one_node_once() -> None:
    introductions, peer, other = Introductions(), PeerId(b"a"), PeerId(b"b")

    assert introductions.is_first(peer, SOUND_ADVERT)
    assert not introductions.is_first(peer, replace(SOUND_ADVERT, seq=2))
    with pytest.raises(RemoteProtocolError, match="speaks for one node introduces another"):
        introductions.is_first(peer, replace(SOUND_ADVERT, incarnation="j"))
    assert introductions.is_first(other, SOUND_ADVERT)

    introductions.forget(peer)
    assert introductions.is_first(peer, replace(SOUND_ADVERT, incarnation="j"))


def test_peer_speaks_for_the_node_alone_that_it_has_introduced() -> None:
    introductions, peer, other = Introductions(), PeerId(b"a"), PeerId(b"b")
    introductions.is_first(peer, SOUND_ADVERT)

    introductions.check(peer, SOUND_ADVERT.incarnation)
    for stranger, incarnation in ((peer, "another"), (other, SOUND_ADVERT.incarnation)):
        with pytest.raises(RemoteProtocolError, match="has not introduced"):
            introductions.check(stranger, incarnation)
    assert introductions.is_known(peer)
    assert not introductions.is_known(other)


def test_advert_is_named_by_whom_it_is_of() -> None:
    with pytest.raises(RemoteProtocolError, match="node 'n' offers"):
        check_advert(advert({"cpu": -1.0}, {}))
