"""The work to run: functions, their graph, and the plan that it compiles to."""

from handoff_actors.graph.argument import Argument, Collocated, Constant, Handle, PerWorker, collocated
from handoff_actors.graph.dag import DAG, new
from handoff_actors.graph.function import Function, FunctionOptions
from handoff_actors.graph.growths import GROWTHS
from handoff_actors.graph.parts import Parts
from handoff_actors.graph.per_worker import per_worker
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.spec import ArgSpec, CallSpec, Hook, HookId, NodeOf, TemplateSpec
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.graph.task import task

__all__ = [
    "DAG",
    "GROWTHS",
    "ArgSpec",
    "Argument",
    "CallSpec",
    "Collocated",
    "Constant",
    "Function",
    "FunctionOptions",
    "Handle",
    "Hook",
    "HookId",
    "NodeOf",
    "Parts",
    "PerWorker",
    "Plan",
    "Subgraph",
    "TemplateSpec",
    "collocated",
    "new",
    "per_worker",
    "task",
]
