"""What an SVG of a DAG shows, as geometry."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from handoff_actors.graph import DAG

SVG = "{http://www.w3.org/2000/svg}"

Point = tuple[float, float]


@dataclass(frozen=True)
class Rectangle:
    left: float
    top: float
    right: float
    bottom: float

    def contains(self, point: Point, margin: float = 0.0) -> bool:
        """Tell whether a point is in it, and not on its border."""
        across, down = point
        return (
            self.left - margin < across < self.right + margin
            and self.top - margin < down < self.bottom + margin
        )


@dataclass(frozen=True)
class Picture:
    root: ET.Element
    boxes: list[Rectangle]
    #: Points along each line, close to one another.
    ways: list[list[Point]]
    #: Tips of arrows.
    tips: list[Point]

    @classmethod
    def of(cls, dag: DAG, *, fold: bool | None = None) -> "Picture":
        return cls.parsed(dag.to_svg(fold=fold))

    @classmethod
    def parsed(cls, text: str) -> "Picture":
        root = ET.fromstring(text)
        boxes = []
        for box in root.iter(f"{SVG}rect"):
            left, top, width, height = (float(box.get(name, "")) for name in ("x", "y", "width", "height"))
            boxes.append(Rectangle(left, top, left + width, top + height))
        paths = [(path.get("class"), path.get("d", "")) for path in root.iter(f"{SVG}path")]
        ways = [list(_points(way)) for kind, way in paths if kind != "head"]
        tips = [next(_points(way)) for kind, way in paths if kind == "head"]
        return cls(root, boxes, ways, tips)

    def labels(self) -> list[str]:
        return [text.text or "" for text in self.root.iter(f"{SVG}text")]

    def titles(self) -> list[str]:
        return [title.text or "" for title in self.root.iter(f"{SVG}title")]

    def size(self) -> Point:
        return float(self.root.get("width", "")), float(self.root.get("height", ""))


def _points(way: str, steps: int = 40) -> Iterator[Point]:
    at = (0.0, 0.0)
    for command, text in re.findall(r"([MLCVZ])([^MLCVZ]*)", way):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", text)]
        match command:
            case "M" | "L":
                at = (numbers[0], numbers[1])
                yield at
            case "V":
                for step in range(steps + 1):
                    yield at[0], at[1] + (numbers[0] - at[1]) * step / steps
                at = (at[0], numbers[0])
            case "C":
                yield from (_on_curve(at, numbers, step / steps) for step in range(steps + 1))
                at = (numbers[4], numbers[5])


def _on_curve(start: Point, numbers: list[float], part: float) -> Point:
    left = 1 - part
    weights = (left**3, 3 * left**2 * part, 3 * left * part**2, part**3)
    across = (start[0], *numbers[0::2])
    down = (start[1], *numbers[1::2])
    return (
        sum(weight * value for weight, value in zip(weights, across, strict=True)),
        sum(weight * value for weight, value in zip(weights, down, strict=True)),
    )
