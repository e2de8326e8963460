"""Makes the plots of docs/scaling.md from benchmarks/scaling.json."""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.scaling import FIGURES

FOLDER = Path(__file__).parent.parent / "docs" / "images"


def plot_functions(rows: list[dict[str, float]]) -> None:
    figure, (time, memory) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    sizes = [row["functions"] for row in rows]
    for name, label in (("build_us", "build"), ("start_us", "start"), ("run_us", "run")):
        time.semilogx(sizes, [row[name] for row in rows], marker="o", label=label)
    time.set(xlabel="functions", ylabel="µs of CPU per function", ylim=(0, None))
    time.legend()
    memory.semilogx(sizes, [row["pending_nbytes"] for row in rows], marker="o")
    memory.axhline(1000, linestyle=":", color="gray")
    memory.set(xlabel="functions", ylabel="bytes per pending function", ylim=(0, 1100))
    figure.savefig(FOLDER / "scaling_functions.svg")


def plot_nodes(rows: list[dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for nodes in sorted({row["nodes"] for row in rows}):
        of_size = [row for row in rows if row["nodes"] == nodes]
        axes.semilogx(
            [1000 * row["duration_s"] for row in of_size],
            [100 * row["efficiency"] for row in of_size],
            marker="o",
            label=f"{nodes} nodes",
        )
    axes.set(xlabel="ms that a function takes", ylabel="% of all cores busy", ylim=(0, 105))
    axes.legend()
    figure.savefig(FOLDER / "scaling_nodes.svg")


def main() -> None:
    # The same figures make the same file.
    mpl.rcParams["svg.hashsalt"] = "scaling"
    FOLDER.mkdir(exist_ok=True)
    figures = json.loads(FIGURES.read_text())
    plot_functions(figures["functions"])
    plot_nodes(figures["nodes"])


if __name__ == "__main__":
    main()
