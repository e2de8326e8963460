"""The cost of membership for one member: bytes with the real codec, and CPU time with the real machine.

Every node publishes adverts, and every member receives those of all nodes.
"""

from collections.abc import Mapping
from random import Random
from time import process_time

from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import AdvertReceived, MembersReported
from handoff_actors.core.node.advertiser import ADVERT_GAP_S, ADVERT_PERIOD_S, least_gap_s
from handoff_actors.core.node.validation import check_advert
from handoff_actors.wire.codec import ON_BUS, decode, encode
from handoff_actors.wire.messages.members import Advert, Published

#: Adverts for one figure.
ROUNDS = 2000
#: Bytes that ZeroMQ and TCP/IP add to the frame of an advert: 2 and 52.
FRAMING_NBYTES = 54


def advert_of(number: int, seq: int, view: int = 0) -> Advert:
    """An advert as a busy daemon of 16 cores sends it."""
    return Advert(
        name=f"node-{number:05d}",
        incarnation=f"{number:024x}",
        seq=seq,
        address=f"tcp://10.0.{number // 250}.{number % 250}:7070",
        bus=f"tcp://10.0.{number // 250}.{number % 250}:7071",
        capabilities={"cpu": 16.0, "memory": 64000.0},
        spare={"cpu": float(seq % 16), "memory": 64000.0},
        workers=16,
        running=16,
        queued=seq % 32,
        stored=0,
        leaving=False,
        view=view,
        version="0.1.0",
        python="3.11",
    )


class Listener:
    """One member's receiving of adverts, from the bytes to its membership machine."""

    def __init__(self, nodes: int) -> None:
        self.cpu_s = 0.0
        self._machine = MembershipMachine()
        self._machine.handle(MembersReported([advert_of(number, seq=1) for number in range(nodes)]), 0.0)
        self._view = self._machine.view()
        self._seqs = [1] * nodes

    def hear(self, number: int, now: float) -> int:
        """Receive one advert of one node; return the number of its bytes."""
        self._seqs[number] += 1
        frame = encode([Published(advert_of(number, self._seqs[number], self._view))])
        began_at = process_time()
        for message in decode(frame, ON_BUS):
            assert isinstance(message, Published)
            check_advert(message.advert)
            self._machine.handle(AdvertReceived(message.advert), now)
            # As the driver does after each event, to know when to wake the machine.
            _ = self._machine.wake_at
        self.cpu_s += process_time() - began_at
        return len(frame) + FRAMING_NBYTES


def measure(nodes: int, rounds: int = ROUNDS) -> Mapping[str, float]:
    """Measure the adverts that one of `nodes` members receives, and their cost: idle, and with every node busy."""
    listener = Listener(nodes)
    random = Random(1)
    # Late enough for views to be compared, as is usual.
    nbytes = sum(listener.hear(random.randrange(nodes), now=2.5) for _ in range(rounds)) / rounds
    us = 1e6 * listener.cpu_s / rounds
    gap_s = max(ADVERT_GAP_S, least_gap_s(nodes))
    idle, busy = (nodes / period_s for period_s in (ADVERT_PERIOD_S, gap_s))
    return {
        "nodes": nodes,
        "advert_nbytes": nbytes,
        "advert_us": us,
        "connections": nodes,
        "idle_adverts_per_s": idle,
        "idle_nbytes_per_s": idle * nbytes,
        "idle_cpu_share": idle * us / 1e6,
        "busy_adverts_per_s": busy,
        "busy_nbytes_per_s": busy * nbytes,
        "busy_cpu_share": busy * us / 1e6,
    }
