"""Many views of one cluster, whose nodes tell of themselves on a bus that loses, delays and repeats what is said."""

from itertools import count
from random import Random

from handoff_actors.core.cluster.membership import (
    AdvertReceived,
    Introduce,
    MemberDown,
    MembershipEffect,
    MembershipEvent,
    MembershipMachine,
    MembersReported,
    MemberUnreachable,
    MemberUp,
    SetSeeds,
    Subscribe,
    Unsubscribe,
)
from handoff_actors.wire.messages.members import Advert
from tests.simulation.network import Timeline

#: Nodes that are found at the same addresses in all their lives. All others look for the cluster there.
SEEDS = ("seed-0", "seed-1")
PERIOD_S = 1.0
FAULTS_S = 30.0
#: Seconds after the last fault until every member sees the truth.
SETTLE_S = 25.0
CALM_S = 16.0
#: Longer than a member may be silent: a place that stood still for so long itself can't blame another one.
STANDSTILL_S = 11.0
READ_S = 0.1
#: The most wakes per second, per member or seed.
WAKES_PER_S = 2.0


class Place:
    """One process: a node, or a session, which has no incarnation."""

    def __init__(self, world: "World", name: str, incarnation: str | None, bus: str) -> None:
        self.name = name
        self.incarnation = incarnation
        self.bus = bus
        self.machine = MembershipMachine(incarnation, name)
        self.buses: set[str] = set()
        self.is_up = True
        #: The time until which it neither reads nor sends.
        self.stands_still_until = 0.0
        self.wakes = 0
        self.introductions: list[str] = []
        #: Members that came or went.
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
        )

    def members(self) -> list[str]:
        return [advert.incarnation for advert in self.machine.alive()]

    def feed(self, event: MembershipEvent) -> None:
        """Let it take an event once it reads again."""
        timeline = self._world.timeline
        if not self.is_up:
            return
        if timeline.now < self.stands_still_until:
            # The timers of the place may ring before it reads.
            timeline.at(self.stands_still_until + READ_S, lambda: self.feed(event))
            return
        self._perform(self.machine.handle(event, timeline.now))

    def say(self) -> None:
        """Publish its advert, again and again while it lives."""
        if not self.is_up:
            return
        if self._world.timeline.now >= self.stands_still_until:
            self._world.publish(self, AdvertReceived(self.advert()))
        self._world.timeline.after(PERIOD_S, self.say)

    def _perform(self, effects: list[MembershipEffect]) -> None:
        for effect in effects:
            match effect:
                case Subscribe(bus):
                    self.buses.add(bus)
                case Unsubscribe(bus):
                    self.buses.remove(bus)
                case Introduce(address):
                    self.introductions.append(address)
                    self._world.introduce(self, address)
                case MemberUp() | MemberDown():
                    self.changes += 1
                case _:
                    pass
        self.machine.check()
        assert all(advert.bus in self.buses for advert in self.machine.alive())
        wake_at = self.machine.wake_at
        if wake_at is not None and wake_at < self._rings_at:
            self._rings_at = max(wake_at, self._world.timeline.now)
            self._world.timeline.at(self._rings_at, self._ring)

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
        self._numbers = count(1)
        self._used: set[str] = set()
        #: Places in one part hear only one another; None: there is no partition.
        self._part: set[Place] | None = None
        self._loss = self.random.choice([0.0, 0.1, 0.4])
        self._delay_s = self.random.choice([0.01, 0.3, 1.5])

    # --- What places do -----------------------------------------------------------------------------------------

    def publish(self, publisher: Place, event: MembershipEvent) -> None:
        for place in self.up:
            if publisher.bus not in place.buses or not self._passes(publisher, place):
                continue
            for _ in range(self.random.choice([1, 1, 1, 2])):
                self._deliver(place, event)

    def introduce(self, guest: Place, address: str) -> None:
        for host in self.up:
            if host.name == address and host.incarnation is not None and self._passes(guest, host):
                self.timeline.after(self._any_delay(), lambda host=host: self._greet(host, guest))  # type: ignore[misc]
                return

    def _greet(self, host: Place, guest: Place) -> None:
        if not host.is_up or not guest.is_up:
            return
        if guest.incarnation is not None:
            introduced = MembersReported((guest.advert(),))
            host.feed(introduced)
            self.publish(host, introduced)
        self._deliver(guest, MembersReported((host.advert(), *host.machine.alive())))

    def _passes(self, one: Place, other: Place) -> bool:
        is_cut = self._part is not None and (one in self._part) != (other in self._part)
        return not is_cut and self.random.random() >= self._loss

    def _deliver(self, place: Place, event: MembershipEvent) -> None:
        self.timeline.after(self._any_delay(), lambda: place.feed(event))

    def _any_delay(self) -> float:
        return self.random.random() * self._delay_s

    # --- What happens to them -----------------------------------------------------------------------------------

    def start_node(self, name: str) -> None:
        """Begin a life under a name; where clocks are wrong its incarnation is less than that of an earlier one."""
        number = next(self._numbers)
        rank = number * 1000 - self.random.choice([0, 0, 0, 0, 3500])
        place = Place(self, name, f"{rank + 10**6:08d}", self._free_port())
        self._join(place)
        self.timeline.after(self.random.random() * PERIOD_S, place.say)

    def start_session(self) -> None:
        self._join(Place(self, f"session-{next(self._numbers)}", None, ""))

    def crash(self, place: Place) -> None:
        """End it. Some have a connection to it, which breaks."""
        place.is_up = False
        self.up.remove(place)
        self._used.discard(place.bus)
        if place.incarnation is not None:
            lost = MemberUnreachable(place.name, place.incarnation, "refused")
            for other in self.up:
                if self.random.random() < 0.5:
                    self.timeline.after(1.0 + self._any_delay(), lambda other=other: other.feed(lost))  # type: ignore[misc]

    def fault(self) -> None:  # noqa: C901 - one table
        """Let one thing go wrong, or come anew."""
        place = self.random.choice(self.up)
        match self.random.randrange(9):
            case 0 | 1 if place.incarnation is not None:
                self.crash(place)
                if place.name in SEEDS or self.random.random() < 0.6:
                    self.timeline.after(
                        self.random.choice([0.0, 0.5, 5.0, 15.0]), lambda: self.start_node(place.name)
                    )
            case 2 if place.incarnation is not None and place.name not in SEEDS:
                self.start_node(place.name)
            case 3 if len(self.up) < 9:
                self.start_node(f"late-{next(self._numbers)}")
            case 4 if len(self.up) < 9:
                self.start_session()
            case 5:
                self._part = {other for other in self.up if self.random.random() < 0.5}
            case 6:
                self._part = None
            case 7:
                place.stands_still_until = self.timeline.now + self.random.choice([1.0, 5.0, 11.0, 15.0])
            case _:
                other = self.random.choice(self.up)
                if other.incarnation is not None:
                    place.feed(MemberUnreachable(other.name, other.incarnation, "broke"))

    def heal(self) -> None:
        """Nothing goes wrong any more; a seed that is away comes back."""
        self._part = None
        self._loss, self._delay_s = 0.0, min(self._delay_s, 0.3)
        for name in SEEDS[: self.random.choice([1, 2])]:
            if all(place.name != name for place in self.up):
                self.start_node(name)
        for place in self.up:
            place.stands_still_until = self.timeline.now

    def run_until(self, time: float) -> None:
        self.timeline.at(time, lambda: None)
        while self.timeline.now < time:
            self.timeline.step()

    def _join(self, place: Place) -> None:
        self.up.append(place)
        place.feed(SetSeeds(SEEDS))
        for address in SEEDS:
            self.introduce(place, address)

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


def _check_views(world: World) -> None:
    truth = _who_counts(world)
    for place in world.up:
        seen = dict(zip((advert.name for advert in place.machine.alive()), place.members(), strict=True))
        expected = {name: life for name, life in truth.items() if life != place.incarnation}
        assert seen == expected, f"{place.name} {place.incarnation} sees {seen} instead of {expected}"
    assert len({place.machine.view() for place in world.up}) == 1


def _check_calm(world: World) -> None:
    seeds_away = len([name for name in SEEDS if name not in _who_counts(world)])
    for place in world.up:
        place.wakes, place.changes, place.introductions = 0, 0, []
        if place.incarnation is None:
            place.stands_still_until = world.timeline.now + STANDSTILL_S
    world.run_until(world.timeline.now + CALM_S)
    for place in world.up:
        assert place.changes == 0, f"{place.name} flaps"
        assert place.wakes <= WAKES_PER_S * CALM_S, f"{place.name} is woken {place.wakes} times"
        allowed = (seeds_away + (place.name in SEEDS)) * (CALM_S / 5.0 + 1)
        assert len(place.introductions) <= allowed, f"{place.name} asks {place.introductions}"


def _who_counts(world: World) -> dict[str, str]:
    """The greatest life of each name."""
    lives = sorted((place.name, place.incarnation) for place in world.up if place.incarnation is not None)
    return dict(lives)
