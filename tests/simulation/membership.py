"""Many views of one cluster, whose nodes tell of themselves on buses and over links that lose, delay and repeat what is said."""

from itertools import count
from random import Random

from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import (
    AdmitNode,
    AdvertReceived,
    FollowBegun,
    FollowEnded,
    FollowMember,
    Introduce,
    MemberDown,
    MemberLeft,
    MembershipEffect,
    MembershipEvent,
    MembersReported,
    MemberUnreachable,
    MemberUp,
    NameLost,
    NodeIntroduced,
    Outranked,
    ProbeEnded,
    ProbeNode,
    RaiseRank,
    RefuseNode,
    SetSeeds,
    Subscribe,
    UnfollowMember,
    Unsubscribe,
)
from handoff_actors.wire.messages.members import Advert
from tests.simulation.network import Timeline

#: Nodes that are found at the same addresses in all their lives. All others look for the cluster there.
SEEDS = ("seed-0", "seed-1")
PERIOD_S = 1.0
FAULTS_S = 30.0
#: Seconds after the last fault until every member sees the truth.
SETTLE_S = 30.0
CALM_S = 16.0
#: Longer than a member may be silent: a place that stood still for so long itself can't blame another one.
STANDSTILL_S = 11.0
READ_S = 0.1
#: The most wakes per second, per member or seed.
WAKES_PER_S = 2.0
#: A connection that is not made by then is not made.
CONNECT_S = 2.0
#: A link over which nothing comes through ends after this time.
LINK_ENDS_S = 10.0


class Place:
    """One process: a node, or a session, which has no incarnation."""

    def __init__(self, world: "World", name: str, incarnation: str | None, rank: int, bus: str) -> None:
        self.name = name
        self.incarnation = incarnation
        self.rank = rank
        self.bus = bus
        self.machine = MembershipMachine(incarnation, name, rank)
        self.buses: set[str] = set()
        self.is_up = True
        #: Nobody hears its bus.
        self.is_bus_blocked = False
        #: Nobody can connect to it at all.
        self.is_hidden = False
        #: The time until which it neither reads nor sends.
        self.stands_still_until = 0.0
        #: The members that it follows, by incarnation: the place at the other end, or None while there is none.
        self.followed: dict[str, Place | None] = {}
        self.wakes = 0
        self.introductions: list[str] = []
        #: Members that came or went, and links that began or ended.
        self.changes = 0
        self._world = world
        self._seq = count(1)
        self._rings_at = float("inf")

    def advert(self) -> Advert:
        assert self.incarnation is not None
        return Advert(
            name=self.name,
            incarnation=self.incarnation,
            seq=next(self._seq),
            address=self.name,
            bus=self.bus,
            capabilities={},
            spare={},
            workers=1,
            running=0,
            queued=0,
            stored=0,
            leaving=False,
            view=self.machine.view(),
            version="1",
            python="3.11",
            rank=self.rank,
            unreachable=self.machine.unreachable(),
        )

    def members(self) -> list[str]:
        return [advert.incarnation for advert in self.machine.alive()]

    @property
    def stands_still(self) -> bool:
        return self._world.timeline.now < self.stands_still_until

    def feed(self, event: MembershipEvent) -> None:
        """Let it take an event once it reads again."""
        timeline = self._world.timeline
        if not self.is_up:
            return
        if self.stands_still:
            # The timers of the place may ring before it reads.
            timeline.at(self.stands_still_until + READ_S, lambda: self.feed(event))
            return
        self._perform(self.machine.handle(event, timeline.now))

    def say(self) -> None:
        """Publish its advert, again and again while it lives."""
        if not self.is_up:
            return
        if not self.stands_still:
            self._world.say(self, self.advert())
        self._world.timeline.after(PERIOD_S, self.say)

    def _perform(self, effects: list[MembershipEffect]) -> None:
        for effect in effects:
            self._carry_out(effect)
            if not self.is_up:
                return
        self.machine.check()
        assert all(advert.bus in self.buses for advert in self.machine.alive())
        wake_at = self.machine.wake_at
        if wake_at is not None and wake_at < self._rings_at:
            self._rings_at = max(wake_at, self._world.timeline.now)
            self._world.timeline.at(self._rings_at, self._ring)

    def _carry_out(self, effect: MembershipEffect) -> None:  # noqa: C901 - one table
        world = self._world
        match effect:
            case Subscribe(bus):
                self.buses.add(bus)
            case Unsubscribe(bus):
                self.buses.remove(bus)
            case Introduce(address):
                self.introductions.append(address)
                world.introduce(self, address)
            case FollowMember(incarnation, address):
                assert incarnation not in self.followed
                self.followed[incarnation] = None
                self.changes += 1
                world.follow(self, incarnation, address)
            case UnfollowMember(incarnation):
                self.followed.pop(incarnation, None)
                self.changes += 1
            case ProbeNode(incarnation, address):
                world.probe(self, incarnation, address)
            case AdmitNode(advert, outranked_by):
                world.admit(self, advert, outranked_by)
            case RefuseNode(newcomer):
                world.refuse(self, newcomer)
            case RaiseRank(rank):
                assert rank > self.rank
                self.rank = rank
            case NameLost():
                world.leave(self)
            case MemberUp() | MemberDown():
                self.changes += 1
            case _:
                pass

    def _ring(self) -> None:
        now = self._world.timeline.now
        if not self.is_up or now < self._rings_at:
            return
        if now < self.stands_still_until:
            self._rings_at = self.stands_still_until
            self._world.timeline.at(self._rings_at, self._ring)
            return
        self._rings_at = float("inf")
        wake_at = self.machine.wake_at
        effects: list[MembershipEffect] = []
        if wake_at is not None and now >= wake_at:
            self.wakes += 1
            effects = self.machine.wake(now)
            wake_at = self.machine.wake_at
            assert wake_at is None or wake_at > now, "woken in vain"
        self._perform(effects)


class World:
    """A cluster with everything that can go wrong, until it doesn't any more."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.timeline = Timeline()
        self.up: list[Place] = []
        #: Nodes that have ended because others have their names.
        self.refused = 0
        self._numbers = count(1)
        self._used: set[str] = set()
        #: Places in one part hear only one another; None: there is no partition.
        self._part: set[Place] | None = None
        self._loss = self.random.choice([0.0, 0.1, 0.4])
        self._delay_s = self.random.choice([0.01, 0.3, 1.5])
        #: How likely it is that a node's bus is blocked.
        self._blocked = self.random.choice([0.0, 0.0, 0.4, 1.0])
        #: At most one node is hidden: two could not hear each other.
        self._may_hide = self.random.random() < 0.3

    # --- What places do -----------------------------------------------------------------------------------------

    def say(self, publisher: Place, advert: Advert) -> None:
        """Have the bus and the links carry an advert."""
        self.publish(publisher, AdvertReceived(advert))
        for place in self._linked(publisher):
            self._deliver(place, AdvertReceived(advert, "link"))

    def publish(self, publisher: Place, event: MembershipEvent) -> None:
        for place in self.up:
            if publisher.bus not in place.buses or publisher.is_bus_blocked or publisher.is_hidden:
                continue
            if self._passes(publisher, place) and self.random.random() >= self._loss:
                for _ in range(self.random.choice([1, 1, 1, 2])):
                    self._deliver(place, event)

    def introduce(self, guest: Place, address: str, *, is_joining: bool = False) -> None:
        host = self._reached(guest, address)
        if host is None:
            return
        if guest.incarnation is not None:
            self._deliver(host, NodeIntroduced(guest.advert(), is_joining))
        else:
            self.timeline.after(self._any_delay(), lambda: self._welcome(host, guest, 0))

    def admit(self, host: Place, advert: Advert, outranked_by: int) -> None:
        joined = MembersReported((advert,))
        self.publish(host, joined)
        for place in self._linked(host):
            self._deliver(place, joined)
        for guest in self.up:
            if guest.incarnation == advert.incarnation and self._passes(guest, host):
                self._welcome(host, guest, outranked_by)

    def _welcome(self, host: Place, guest: Place, outranked_by: int) -> None:
        if not host.is_up or host.stands_still or guest is host:
            return
        answers: list[MembershipEvent] = [
            AdvertReceived(host.advert(), "answer"),
            MembersReported(host.machine.alive(), host.machine.suspects()),
            Outranked(outranked_by),
            *(MemberLeft("", incarnation) for incarnation in host.machine.lately_left()),
        ]

        known = {host.incarnation, *host.members()}

        def arrive() -> None:
            for answer in answers:
                guest.feed(answer)
            if guest.is_up and guest.incarnation is not None:
                self._deliver(host, MembersReported(guest.machine.unknown_to(known)))

        self.timeline.after(self._any_delay(), arrive)

    def refuse(self, host: Place, newcomer: Advert) -> None:
        for guest in self.up:
            if guest.incarnation == newcomer.incarnation and self._passes(guest, host):
                self.refused += 1
                self.leave(guest)
                return

    def probe(self, place: Place, incarnation: str, address: str) -> None:
        host = self._reached(place, address)
        if host is None or host.stands_still:
            self.timeline.after(CONNECT_S, lambda: place.feed(ProbeEnded(incarnation, None)))
        else:
            answer = host.advert()
            self._deliver(place, ProbeEnded(incarnation, answer))

    def follow(self, place: Place, incarnation: str, address: str) -> None:
        host = self._reached(place, address)
        if host is None or host.stands_still:
            self.timeline.after(CONNECT_S, lambda: self._end_link(place, incarnation, None))
            return

        def begin() -> None:
            if incarnation not in place.followed or not host.is_up:
                self._end_link(place, incarnation, None)
                return
            place.followed[incarnation] = host
            place.feed(FollowBegun(incarnation, host.advert()))
            if place.incarnation is not None and place.is_up:
                host.feed(NodeIntroduced(place.advert(), is_joining=False))

        self.timeline.after(self._any_delay(), begin)

    def _end_link(self, place: Place, incarnation: str, host: Place | None) -> None:
        if incarnation in place.followed and place.followed[incarnation] is host:
            del place.followed[incarnation]
            place.feed(FollowEnded(incarnation, "it broke"))

    def _break_later(self, delay_s: float, place: Place, incarnation: str, host: Place) -> None:
        self.timeline.after(delay_s, lambda: self._end_link(place, incarnation, host))

    def _linked(self, publisher: Place) -> list[Place]:
        """The places that hear it over links, in whichever direction these were opened."""
        followers = [place for place in self.up if publisher in place.followed.values()]
        followed = [place for place in publisher.followed.values() if place is not None and place.is_up]
        return [place for place in (*followers, *followed) if self._passes(publisher, place)]

    def _reached(self, place: Place, address: str) -> Place | None:
        """The node to which a connection from a place leads. The latest one that has come has the address."""
        for host in reversed(self.up):
            if host.name == address and host.incarnation is not None:
                can_connect = self._passes(place, host) and (not host.is_hidden or host is place)
                return host if can_connect else None
        return None

    def _passes(self, one: Place, other: Place) -> bool:
        return self._part is None or (one in self._part) == (other in self._part)

    def _deliver(self, place: Place, event: MembershipEvent) -> None:
        self.timeline.after(self._any_delay(), lambda: place.feed(event))

    def _any_delay(self) -> float:
        return self.random.random() * self._delay_s

    # --- What happens to them -----------------------------------------------------------------------------------

    def start_node(self, name: str, *, knows_seeds: bool = True) -> None:
        """Begin a life under a name; where clocks are wrong its rank is less than that of an earlier one."""
        number = next(self._numbers)
        rank = number * 1000 - self.random.choice([0, 0, 0, 0, 3500]) + 10**6
        place = Place(self, name, f"{self.random.randrange(10**6):06d}-{number}", rank, self._free_port())
        place.is_bus_blocked = self.random.random() < self._blocked
        place.is_hidden = (
            self._may_hide and name not in SEEDS and not any(other.is_hidden for other in self.up)
        )
        self._join(place, SEEDS if knows_seeds else ())
        self.timeline.after(self.random.random() * PERIOD_S, place.say)

    def start_session(self) -> None:
        self._join(Place(self, f"session-{next(self._numbers)}", None, 0, ""), SEEDS)

    def crash(self, place: Place) -> None:
        """End it. Some have a connection to it, which breaks."""
        self._remove(place)
        if place.incarnation is not None:
            lost = MemberUnreachable(place.name, place.incarnation, "refused")
            for other in self.up:
                if self.random.random() < 0.5:
                    self.timeline.after(1.0 + self._any_delay(), lambda other=other: other.feed(lost))  # type: ignore[misc]

    def leave(self, place: Place) -> None:
        """Let it end in good order."""
        if place.incarnation is not None:
            left = MemberLeft(place.name, place.incarnation)
            self.publish(place, left)
            for other in self._linked(place):
                self._deliver(other, left)
        self._remove(place)

    def _remove(self, place: Place) -> None:
        place.is_up = False
        self.up.remove(place)
        self._used.discard(place.bus)
        for other in self.up:
            for incarnation, host in list(other.followed.items()):
                if host is place:
                    self._break_later(self._any_delay(), other, incarnation, place)

    def part(self) -> None:
        """Split the network. Links between its parts end after a while."""
        self._part = {other for other in self.up if self.random.random() < 0.5}
        for place in self.up:
            for incarnation, host in place.followed.items():
                if host is not None and not self._passes(place, host):
                    self._break_later(LINK_ENDS_S, place, incarnation, host)

    def fault(self) -> None:  # noqa: C901 - one table
        """Let one thing go wrong, or come anew."""
        if not self.up:
            self.start_node(SEEDS[0])
        place = self.random.choice(self.up)
        is_node = place.incarnation is not None
        match self.random.randrange(11):
            case 0 | 1 if is_node:
                self.crash(place)
                self._start_again(place)
            case 2 if is_node and place.name not in SEEDS:
                # Of a name that is in use.
                self.start_node(place.name)
            case 3 if len(self.up) < 9:
                self.start_node(f"late-{next(self._numbers)}")
            case 4 if len(self.up) < 9:
                self.start_session()
            case 5:
                self.part()
            case 6:
                self._part = None
            case 7:
                place.stands_still_until = self.timeline.now + self.random.choice([1.0, 5.0, 11.0, 15.0])
            case 8 if is_node:
                self.leave(place)
                self._start_again(place)
            case 9 if is_node:
                place.is_bus_blocked = not place.is_bus_blocked
            case _:
                other = self.random.choice(self.up)
                if other.incarnation is not None and not other.is_hidden:
                    place.feed(MemberUnreachable(other.name, other.incarnation, "broke"))

    def _start_again(self, place: Place) -> None:
        if place.name in SEEDS or self.random.random() < 0.6:
            pause_s = self.random.choice([0.0, 0.5, 5.0, 15.0])
            # The first node of a cluster is started without seeds.
            knows_seeds = place.name not in SEEDS or self.random.random() < 0.5
            self.timeline.after(pause_s, lambda: self.start_node(place.name, knows_seeds=knows_seeds))

    def heal(self) -> None:
        """Nothing goes wrong any more; a seed that is away comes back."""
        self._part = None
        self._loss, self._delay_s = 0.0, min(self._delay_s, 0.3)
        for name in SEEDS[: self.random.choice([1, 2])]:
            if all(place.name != name for place in self.up):
                self.start_node(name)
        # Nodes that were started without seeds have to be found by one that knows where to look.
        self.start_node(f"late-{next(self._numbers)}")
        for place in self.up:
            place.stands_still_until = self.timeline.now

    def run_until(self, time: float) -> None:
        self.timeline.at(time, lambda: None)
        while self.timeline.now < time:
            self.timeline.step()

    def _join(self, place: Place, seeds: tuple[str, ...]) -> None:
        self.up.append(place)
        place.feed(SetSeeds(seeds))
        for address in seeds:
            self.introduce(place, address, is_joining=True)

    def _free_port(self) -> str:
        """The address of a bus: the lowest that is free, so that the dead leave theirs to others."""
        port = next(port for number in count() if (port := f"bus-{number}") not in self._used)
        self._used.add(port)
        return port


def run_world(seed: int) -> None:
    """Let a world go wrong, and assert that it comes right."""
    world = World(seed)
    for name in (*SEEDS, "left", "right")[: world.random.choice([2, 3, 4])]:
        world.start_node(name)
    world.start_session()
    end = world.timeline.now + FAULTS_S
    while world.timeline.now < end:
        world.run_until(world.timeline.now + world.random.choice([0.2, 2.0, 6.0]))
        world.fault()
    # A seed that is to come back does so before all is well.
    world.run_until(world.timeline.now + world.random.choice([0.0, 16.0]))
    world.heal()
    world.run_until(world.timeline.now + SETTLE_S)
    _check_views(world)
    _check_calm(world)


def run_split(seed: int, hours: float) -> None:
    """Part a network for hours, and assert that it is whole again within SETTLE_S of its return."""
    world = World(seed)
    for name in (*SEEDS, "left", "right"):
        world.start_node(name, knows_seeds=name != SEEDS[0])
    world.start_session()
    world.run_until(world.timeline.now + SETTLE_S)
    world.part()
    world.run_until(world.timeline.now + hours * 3600)
    world.heal()
    world.run_until(world.timeline.now + SETTLE_S)
    _check_views(world)
    _check_calm(world)


def _check_views(world: World) -> None:
    names = [place.name for place in world.up if place.incarnation is not None]
    assert len(names) == len(set(names)), f"two nodes of one name: {names}"
    for place in world.up:
        seen = dict(zip((advert.name for advert in place.machine.alive()), place.members(), strict=True))
        expected = {
            other.name: other.incarnation
            for other in world.up
            if other.incarnation is not None and other is not place and _can_hear(place, other)
        }
        assert seen == expected, f"{place.name} {place.incarnation} sees {seen} instead of {expected}"
    assert len({place.machine.view() for place in world.up if place.incarnation is not None}) == 1


def _can_hear(place: Place, other: Place) -> bool:
    """A session, to which nobody connects, does not hear a node to which nobody can connect."""
    return place.incarnation is not None or not other.is_hidden


def _check_calm(world: World) -> None:
    for place in world.up:
        place.wakes, place.changes, place.introductions = 0, 0, []
        if place.incarnation is None:
            place.stands_still_until = world.timeline.now + STANDSTILL_S
    world.run_until(world.timeline.now + CALM_S)
    for place in world.up:
        followed = sum(host is not None for host in place.followed.values())
        assert place.changes == 0, f"{place.name} flaps"
        assert place.wakes <= WAKES_PER_S * CALM_S, f"{place.name} is woken {place.wakes} times"
        _check_introductions(world, place)
        assert followed <= len(place.members())


def _check_introductions(world: World, place: Place) -> None:
    nodes = {other.name for other in world.up if other is not place and _can_hear(place, other)}
    asked = [address for address in place.introductions if address in nodes]
    # The view of a place that does not hear a node differs from those of the others for ever.
    comparisons = 0 if all(_can_hear(place, other) for other in world.up) else 3
    assert len(asked) <= comparisons, f"{place.name} asks {asked}"
    for address in {*place.introductions} - nodes:
        # Addresses that don't answer are tried ever more rarely, seeds always.
        allowed = CALM_S / 5.0 + 1 if address in SEEDS else 8
        tries = place.introductions.count(address)
        assert tries <= allowed, f"{place.name} asks {address} {tries} times"
