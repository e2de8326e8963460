"""Graphs of tasks with known durations and sizes, to compare both schedulers on. The synthetic families."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

#: 1 Gbit/s.
BANDWIDTH = 125_000_000
LATENCY_S = 0.0005


@dataclass(frozen=True, slots=True)
class Task:
    """One function."""

    #: The task's code: tasks of a kind take similar times.
    kind: str
    seconds: float
    #: Size of the task's value.
    nbytes: int
    #: Positions of the tasks whose values it takes.
    producers: tuple[int, ...]


#: Producers come before their consumers.
Graph = tuple[Task, ...]
Family = Callable[[Random], Graph]


@dataclass(slots=True)
class Style:
    """The parameters that all tasks of one synthetic graph share."""

    random: Random
    #: Mean seconds of a task, by kind.
    kinds: Mapping[str, float]
    #: Time to move a value, as a share of the time to make one.
    communication: float

    @classmethod
    def draw(cls, random: Random) -> "Style":
        """Draw a style: four kinds that differ by up to sixteen times."""
        kinds = {f"kind {number}": 4.0 ** random.uniform(-1, 1) for number in range(4)}
        return cls(random, kinds, random.choice((0.0, 0.1, 0.5, 1.0)))

    def task(self, producers: Sequence[int], kind: str | None = None) -> Task:
        """Draw a task."""
        name = kind if kind is not None else self.random.choice(list(self.kinds))
        seconds = self.kinds[name] * self.random.uniform(0.6, 1.4)
        nbytes = int(self.kinds[name] * self.communication * BANDWIDTH * self.random.uniform(0.5, 1.5))
        return Task(name, seconds, nbytes, tuple(producers))


def layered(random: Random) -> Graph:
    """Layers of random width; each task takes from one to four of the layer before, sometimes of one further up."""
    style = Style.draw(random)
    tasks: list[Task] = []
    layers: list[list[int]] = []
    for _ in range(random.randint(4, 16)):
        layer: list[int] = []
        for _ in range(random.randint(2, 40)):
            above = layers[-1] if layers else []
            producers = random.sample(above, min(len(above), random.randint(1, 4)))
            if len(layers) > 1 and random.random() < 0.1:
                producers.append(random.choice(random.choice(layers[:-1])))
            layer.append(len(tasks))
            tasks.append(style.task(producers))
        layers.append(layer)
    return tuple(tasks)


def fork_join(random: Random) -> Graph:
    """Fork, chains of one to three side by side, join; several times."""
    style = Style.draw(random)
    tasks = [style.task(())]
    for _ in range(random.randint(1, 5)):
        fork = len(tasks) - 1
        ends: list[int] = []
        depth = random.randint(1, 3)
        kinds = [random.choice(list(style.kinds)) for _ in range(depth)]
        for _ in range(random.randint(4, 60)):
            end = fork
            for kind in kinds:
                tasks.append(style.task((end,), kind))
                end = len(tasks) - 1
            ends.append(end)
        tasks.append(style.task(ends))
    return tuple(tasks)


def out_tree(random: Random) -> Graph:
    """From one root, each task feeds up to four."""
    style = Style.draw(random)
    tasks = [style.task(())]
    size = random.randint(60, 400)
    for index in range(size):
        if index >= len(tasks) or len(tasks) >= size:
            break
        tasks += [style.task((index,)) for _ in range(random.randint(1, 4))]
    return tuple(tasks)


def in_tree(random: Random) -> Graph:
    """From many leaves, each task takes from two to four, down to one."""
    style = Style.draw(random)
    level = list(range(random.randint(40, 250)))
    tasks = [style.task(()) for _ in level]
    while len(level) > 1:
        below: list[int] = []
        while level:
            taken, level = level[:4], level[4:]
            keep = random.randint(2, 4)
            taken, level = taken[:keep], taken[keep:] + level
            below.append(len(tasks))
            tasks.append(style.task(taken))
        level = below
    return tuple(tasks)


def stencil(random: Random) -> Graph:
    """Rows of cells; each takes from itself and its neighbours in the row before."""
    style = Style.draw(random)
    width, kind = random.randint(8, 40), random.choice(list(style.kinds))
    tasks = [style.task((), kind) for _ in range(width)]
    for _ in range(random.randint(5, 20)):
        start = len(tasks) - width
        for cell in range(width):
            reach = range(max(0, cell - 1), min(width, cell + 2))
            tasks.append(style.task([start + other for other in reach], kind))
    return tuple(tasks)


SYNTHETIC: Mapping[str, Family] = {
    "layered": layered,
    "fork-join": fork_join,
    "out-tree": out_tree,
    "in-tree": in_tree,
    "stencil": stencil,
}
