"""Spread a graph of functions over the machines you have, from any asyncio app: no broker, no scheduler to run.

Names are imported when they are first used: workers, and most commands, need few of them.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handoff_actors import events as events
    from handoff_actors.actors.node.local_node import LocalNode as LocalNode
    from handoff_actors.client.api import (
        call as call,
        connect as connect,
        discover_nodes as discover_nodes,
        drop_kept as drop_kept,
        execute as execute,
        execute_distributed as execute_distributed,
        execute_local as execute_local,
        get_result as get_result,
        kept as kept,
        map as map,
        open_run as open_run,
        put as put,
        register_local_node as register_local_node,
        register_node as register_node,
        resources_available as resources_available,
        run_sync as run_sync,
        shutdown as shutdown,
        stream as stream,
    )
    from handoff_actors.client.execute_options import (
        ExecuteOptions as ExecuteOptions,
        LocalExecuteOptions as LocalExecuteOptions,
        OpenRunOptions as OpenRunOptions,
        PipelineOptions as PipelineOptions,
    )
    from handoff_actors.client.growing.open_run import OpenRun as OpenRun
    from handoff_actors.client.growing.run_handle import RunHandle as RunHandle
    from handoff_actors.client.local_cluster import LocalCluster as LocalCluster
    from handoff_actors.client.local_node_handle import LocalNodeHandle as LocalNodeHandle
    from handoff_actors.client.policy import NodeView as NodeView, Policy as Policy
    from handoff_actors.client.run import (
        Report as Report,
        Results as Results,
        Run as Run,
        RunFailures as RunFailures,
        StoredValue as StoredValue,
    )
    from handoff_actors.client.session import Session as Session
    from handoff_actors.client.streaming.items import StreamItem as StreamItem
    from handoff_actors.client.streaming.pipeline import Pipeline as Pipeline
    from handoff_actors.core.run.explain import Explanation as Explanation
    from handoff_actors.core.run.facts.story import Story as Story, StoryEntry as StoryEntry
    from handoff_actors.core.run.scheduling.placement import Need as Need
    from handoff_actors.core.stream.explain import (
        ItemExplanation as ItemExplanation,
        ItemPlace as ItemPlace,
    )
    from handoff_actors.errors import (
        AllocationError as AllocationError,
        AuthenticationError as AuthenticationError,
        ConnectionFailed as ConnectionFailed,
        CycleError as CycleError,
        DagError as DagError,
        DependencyFailed as DependencyFailed,
        DuplicateFunctionError as DuplicateFunctionError,
        EnvironmentFailed as EnvironmentFailed,
        FunctionCancelled as FunctionCancelled,
        FunctionFailed as FunctionFailed,
        HandoffError as HandoffError,
        InsecureAddressError as InsecureAddressError,
        InvalidAddressError as InvalidAddressError,
        InvalidFunctionError as InvalidFunctionError,
        InvalidKeyError as InvalidKeyError,
        ItemError as ItemError,
        JournalError as JournalError,
        MissingFunctionError as MissingFunctionError,
        NodeLost as NodeLost,
        RemoteError as RemoteError,
        RemoteTraceback as RemoteTraceback,
        RunTimeout as RunTimeout,
        SerializationError as SerializationError,
        TooManyFunctions as TooManyFunctions,
        UnguardedStart as UnguardedStart,
        UnsupportedPlatform as UnsupportedPlatform,
        ValueLost as ValueLost,
        VersionMismatch as VersionMismatch,
        WorkerDied as WorkerDied,
    )
    from handoff_actors.events import OnEvent as OnEvent, RunEvent as RunEvent
    from handoff_actors.graph import (
        DAG as DAG,
        Argument as Argument,
        Constant as Constant,
        Function as Function,
        Handle as Handle,
        Parts as Parts,
        PerWorker as PerWorker,
        Subgraph as Subgraph,
        collocated as collocated,
        new as new,
        per_worker as per_worker,
        task as task,
    )
    from handoff_actors.integrations.background import call_sync as call_sync
    from handoff_actors.integrations.engines.dask import on_dask as on_dask
    from handoff_actors.integrations.engines.ray import on_ray as on_ray
    from handoff_actors.integrations.executor import Executor as Executor
    from handoff_actors.integrations.map_sync import map_sync as map_sync
    from handoff_actors.report.breakdown import Breakdown as Breakdown
    from handoff_actors.report.function_report import FunctionReport as FunctionReport
    from handoff_actors.report.pipeline_report import (
        PipelineReport as PipelineReport,
        StageReport as StageReport,
        WorkerExplanation as WorkerExplanation,
    )
    from handoff_actors.skip import SKIP as SKIP
    from handoff_actors.transport.keys import ClusterKey as ClusterKey
    from handoff_actors.workers.child.current_function import (
        CurrentFunction as CurrentFunction,
        current as current,
    )

    __version__: str

_MODULES = {
    "actors.node.local_node": ["LocalNode"],
    "client.api": [
        "call",
        "connect",
        "discover_nodes",
        "drop_kept",
        "execute",
        "execute_distributed",
        "execute_local",
        "get_result",
        "kept",
        "map",
        "open_run",
        "put",
        "register_local_node",
        "register_node",
        "resources_available",
        "run_sync",
        "shutdown",
        "stream",
    ],
    "client.local_cluster": ["LocalCluster"],
    "core.run.explain": ["Explanation"],
    "client.local_node_handle": ["LocalNodeHandle"],
    "client.execute_options": ["ExecuteOptions", "LocalExecuteOptions", "OpenRunOptions", "PipelineOptions"],
    "client.growing.open_run": ["OpenRun"],
    "client.growing.run_handle": ["RunHandle"],
    "client.policy": ["NodeView", "Policy"],
    "core.run.scheduling.placement": ["Need"],
    "core.run.facts.story": ["Story", "StoryEntry"],
    "errors": [
        "AllocationError",
        "AuthenticationError",
        "ConnectionFailed",
        "CycleError",
        "DagError",
        "DependencyFailed",
        "DuplicateFunctionError",
        "EnvironmentFailed",
        "FunctionCancelled",
        "FunctionFailed",
        "HandoffError",
        "InsecureAddressError",
        "InvalidAddressError",
        "InvalidFunctionError",
        "InvalidKeyError",
        "ItemError",
        "ItemExplanation",
        "ItemPlace",
        "JournalError",
        "MissingFunctionError",
        "NodeLost",
        "RemoteError",
        "RemoteTraceback",
        "RunTimeout",
        "SerializationError",
        "TooManyFunctions",
        "UnguardedStart",
        "UnsupportedPlatform",
        "ValueLost",
        "VersionMismatch",
        "WorkerDied",
    ],
    "events": ["OnEvent", "RunEvent"],
    "graph": [
        "DAG",
        "Argument",
        "Constant",
        "Function",
        "Handle",
        "Parts",
        "PerWorker",
        "Subgraph",
        "collocated",
        "new",
        "per_worker",
        "task",
    ],
    "integrations.background": ["call_sync"],
    "integrations.engines.dask": ["on_dask"],
    "integrations.engines.ray": ["on_ray"],
    "integrations.executor": ["Executor"],
    "integrations.map_sync": ["map_sync"],
    "report.function_report": ["FunctionReport"],
    "client.run": ["Report", "Results", "Run", "RunFailures", "StoredValue"],
    "client.session": ["Session"],
    "client.streaming.items": ["StreamItem"],
    "client.streaming.pipeline": ["Pipeline"],
    "core.stream.explain": ["ItemExplanation", "ItemPlace"],
    "report.pipeline_report": ["PipelineReport", "StageReport", "WorkerExplanation"],
    "report.breakdown": ["Breakdown"],
    "skip": ["SKIP"],
    "transport.keys": ["ClusterKey"],
    "workers.child.current_function": ["CurrentFunction", "current"],
}
#: Rooms whose modules can't be imported there.
_NOT_ON_WINDOWS = ("actors.", "client.", "integrations.", "workers.")
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "DAG",
    "SKIP",
    "AllocationError",
    "Argument",
    "AuthenticationError",
    "Breakdown",
    "ClusterKey",
    "ConnectionFailed",
    "Constant",
    "CurrentFunction",
    "CycleError",
    "DagError",
    "DependencyFailed",
    "DuplicateFunctionError",
    "EnvironmentFailed",
    "ExecuteOptions",
    "Executor",
    "Explanation",
    "Function",
    "FunctionCancelled",
    "FunctionFailed",
    "FunctionReport",
    "Handle",
    "HandoffError",
    "InsecureAddressError",
    "InvalidAddressError",
    "InvalidFunctionError",
    "InvalidKeyError",
    "ItemError",
    "ItemExplanation",
    "ItemPlace",
    "JournalError",
    "LocalCluster",
    "LocalExecuteOptions",
    "LocalNode",
    "LocalNodeHandle",
    "MissingFunctionError",
    "Need",
    "NodeLost",
    "NodeView",
    "OnEvent",
    "OpenRun",
    "OpenRunOptions",
    "Parts",
    "PerWorker",
    "Pipeline",
    "PipelineOptions",
    "PipelineReport",
    "Policy",
    "RemoteError",
    "RemoteTraceback",
    "Report",
    "Results",
    "Run",
    "RunEvent",
    "RunFailures",
    "RunHandle",
    "RunTimeout",
    "SerializationError",
    "Session",
    "StageReport",
    "StoredValue",
    "Story",
    "StoryEntry",
    "StreamItem",
    "Subgraph",
    "TooManyFunctions",
    "UnguardedStart",
    "UnsupportedPlatform",
    "ValueLost",
    "VersionMismatch",
    "WorkerDied",
    "WorkerExplanation",
    "__version__",
    "call",
    "call_sync",
    "collocated",
    "connect",
    "current",
    "discover_nodes",
    "drop_kept",
    "events",
    "execute",
    "execute_distributed",
    "execute_local",
    "get_result",
    "kept",
    "map",
    "map_sync",
    "new",
    "on_dask",
    "on_ray",
    "open_run",
    "per_worker",
    "put",
    "register_local_node",
    "register_node",
    "resources_available",
    "run_sync",
    "shutdown",
    "stream",
    "task",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("handoff_actors.wire.versions").VERSION
    if name == "events":
        # A module: importing it makes it an attribute of this one.
        return importlib.import_module("handoff_actors.events")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULE_OF[name]
    if sys.platform == "win32" and module.startswith(_NOT_ON_WINDOWS):
        value = importlib.import_module("handoff_actors.platforms").stand_in(name)
    else:
        value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
