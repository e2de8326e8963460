"""The kinds of results that are more than a plain value."""

from typing import Final

from handoff_actors.graph.parts import Parts
from handoff_actors.graph.subgraph import ItemsGraph, Subgraph

GROWTHS: Final[tuple[type, ...]] = (Parts, Subgraph, ItemsGraph)
