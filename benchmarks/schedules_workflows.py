"""The shapes of workflows that scientists run, with the durations and sizes that were published for their tasks.

Structures of Montage and Epigenomics: Bharathi et al., "Characterization of scientific workflows", WORKS 2008; their
mean durations and sizes: Juve et al., "Characterizing and profiling scientific workflows", Future Generation Computer
Systems 29(3), 2013. 1000Genome, Cycles and SRASearch: Coleman et al., "WfCommons: a framework for enabling scientific
workflow research and development", Future Generation Computer Systems 128, 2022, and the descriptions and ranges that
WfCommons publishes with its traces. Inputs from outside are left out: every node has them. Durations and sizes are all
a tenth of those published, which changes no ratio and simulates sooner.
"""

from collections.abc import Mapping, Sequence
from random import Random

from benchmarks.schedules_graphs import Family, Graph, Task

KB, MB = 1_000, 1_000_000
#: Published means are spread by this share either way.
SPREAD = 0.3
SCALE = 0.1


class Workflow:
    """A graph that grows task by task."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.tasks: list[Task] = []

    def add(self, kind: str, mean_s: float, nbytes: float, producers: Sequence[int] = ()) -> int:
        """Add a task whose mean duration is known; return its position."""
        return self.add_between(kind, mean_s * (1 - SPREAD), mean_s * (1 + SPREAD), nbytes, producers)

    def add_between(
        self, kind: str, least_s: float, most_s: float, nbytes: float, producers: Sequence[int] = ()
    ) -> int:
        """Add a task whose range of durations is known; return its position."""
        seconds = SCALE * self.random.uniform(least_s, most_s)
        size = int(SCALE * nbytes * self.random.uniform(1 - SPREAD, 1 + SPREAD))
        self.tasks.append(Task(kind, seconds, size, tuple(producers)))
        return len(self.tasks) - 1


def montage(random: Random) -> Graph:
    """A mosaic: project images, fit each overlap, model the background once, correct each image, add up."""
    flow = Workflow(random)
    images = random.randint(20, 100)
    projected = [flow.add("mProject", 1.73, 8.09 * MB) for _ in range(images)]
    pairs = [(first, second) for first in range(images) for second in (first + 1, first + 2, first + 7)]
    overlaps = [(first, second) for first, second in pairs if second < images]
    fits = [
        flow.add("mDiffFit", 0.66, 0.64 * MB, (projected[first], projected[second]))
        for first, second in overlaps
    ]
    # The published means of the single tasks are of a mosaic of 2102 images, and grow with their number.
    share = images / 2102
    concatenated = flow.add("mConcatFit", 143.26 * share, 1.22 * MB * share, fits)
    model = flow.add("mBgModel", 384.49 * share, 0.1 * MB, (concatenated,))
    corrected = [flow.add("mBackground", 1.72, 8.09 * MB, (image, model)) for image in projected]
    table = flow.add("mImgtbl", 2.78, 0.12 * MB, corrected)
    tile = flow.add("mAdd", 282.37 * images / 130, 775.45 * MB * images / 130, (table, *corrected))
    shrunk = flow.add("mShrink", 66.1 * images / 130, 0.49 * MB, (tile,))
    flow.add("mJPEG", 0.64, 0.39 * MB, (shrunk,))
    return tuple(flow.tasks)


def epigenomics(random: Random) -> Graph:
    """Lanes of DNA reads: split, a pipeline of four for each piece, merge each lane, merge all, index, pile up."""
    flow = Workflow(random)
    merged: list[int] = []
    for _ in range(random.randint(1, 7)):
        lane = flow.add("fastQSplit", 34.32, 242.29 * MB)
        maps: list[int] = []
        for _ in range(random.randint(8, 40)):
            clean = flow.add("filterContams", 2.47, 13.25 * MB, (lane,))
            sanger = flow.add("sol2sanger", 0.48, 10.09 * MB, (clean,))
            binary = flow.add("fastq2bfq", 1.40, 2.22 * MB, (sanger,))
            maps.append(flow.add("map", 201.89, 0.90 * MB, (binary,)))
        merged.append(flow.add("mapMerge", 11.01, 26.71 * MB, maps))
    whole = flow.add("mapMerge", 11.01, 26.71 * MB, merged)
    index = flow.add("maqIndex", 43.57, 107.53 * MB, (whole,))
    flow.add("pileup", 55.95, 83.95 * MB, (index,))
    return tuple(flow.tasks)


def genome(random: Random) -> Graph:
    """For each chromosome: parse individuals in parts, merge; sift; for each of seven populations two analyses of both."""
    flow = Workflow(random)
    parts = random.choice((10, 25))
    for _ in range(random.randint(2, 12)):
        individuals = [flow.add_between("individuals", 48.8, 192.2, 28 * KB) for _ in range(parts)]
        merged = flow.add_between("individuals_merge", 34.5, 157.3, 26 * KB, individuals)
        sifted = flow.add_between("sifting", 0.3, 22.7, 1_000 * KB)
        for _ in range(7):
            flow.add_between("mutation_overlap", 1.6, 92.2, 155 * KB, (merged, sifted))
            flow.add_between("frequency", 76.0, 238.3, 258 * KB, (merged, sifted))
    return tuple(flow.tasks)


def cycles(random: Random) -> Graph:
    """Crops at places: for each setting a baseline and two runs from it; summaries for each place, a plot for each crop."""
    flow = Workflow(random)
    settings = random.choice((9, 12))
    places = random.randint(1, 8)
    for _ in range(random.randint(1, 3)):
        summaries: list[int] = []
        for _ in range(places):
            runs: list[int] = []
            parsed: list[int] = []
            for _ in range(settings):
                baseline = flow.add_between("baseline_cycles", 1.6, 110.6, 5 * MB)
                runs.append(flow.add_between("cycles", 1.3, 101.6, 5 * MB, (baseline,)))
                more = flow.add_between("fertilizer_increase_cycles", 1.3, 101.2, 5 * MB, (baseline,))
                parsed.append(flow.add_between("output_parser", 0.04, 1.2, 8 * KB, (more,)))
            summaries.append(flow.add_between("output_summary", 0.05, 0.4, 166 * KB, runs))
            flow.add_between("fertilizer_summary", 0.05, 0.5, 273 * KB, parsed)
        flow.add_between("cycles_plots", 123.4, 514.6, 4 * MB, summaries)
    return tuple(flow.tasks)


def sra_search(random: Random) -> Graph:
    """Index a genome once; dump each archive and align it; merge by 25, then all."""
    flow = Workflow(random)
    index = flow.add_between("bowtie2-build", 0.3, 33.3, 4.2 * MB)
    aligned: list[int] = []
    for _ in range(random.randint(10, 100)):
        # Between 1 and 4344 s were seen, nearly all of them near the lower end.
        seconds = 60.0 * random.lognormvariate(0.0, 0.8)
        reads = flow.add_between("fasterq-dump", seconds, seconds, 15 * MB * seconds / 60)
        aligned.append(flow.add_between("bowtie2", 2.4, 121.0, 1 * KB, (index, reads)))
    merged = [
        flow.add_between("merge", 0.04, 0.3, 6 * KB, aligned[start : start + 25])
        for start in range(0, len(aligned), 25)
    ]
    if len(merged) > 1:
        flow.add_between("merge", 0.04, 0.3, 10 * KB, merged)
    return tuple(flow.tasks)


WORKFLOWS: Mapping[str, Family] = {
    "Montage": montage,
    "Epigenomics": epigenomics,
    "1000Genome": genome,
    "Cycles": cycles,
    "SRASearch": sra_search,
}
