"""The identifiers of functions, nodes, runs, peers and workers."""

from collections.abc import Hashable
from typing import NewType

#: A user's name for a function: unique within its DAG.
FunctionId = Hashable
#: A member's name, unique in its cluster.
NodeName = NewType("NodeName", str)
#: One life of a node: 24 hex digits, the start time first. A node that restarts under its old name has a new one.
Incarnation = NewType("Incarnation", str)
#: One run of one DAG, unique in the cluster: 62 random bits.
RunId = NewType("RunId", int)
#: One connection of a session or of a node to a node. Never used again once the connection is lost.
PeerId = NewType("PeerId", bytes)
#: One worker process of one node, counted from 1.
WorkerId = NewType("WorkerId", int)

#: A position in a plan. From `Plan.size` on, it counts the run's large constants instead.
Index = int
#: The number of an attempt at a function, from 1. Reports of an older attempt are ignored.
Attempt = int
#: Amounts by resource: cpu in cores, memory in MB, gpu in devices, any other name in units of its own.
Resources = dict[str, float]
