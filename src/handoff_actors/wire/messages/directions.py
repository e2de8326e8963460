"""The messages by direction: to a node, from a node, on the bus."""

from handoff_actors.wire.messages.kept import DropKept, FindKept, Keep, KeptAnswer
from handoff_actors.wire.messages.members import (
    Beat,
    Follow,
    Goodbye,
    Hello,
    Joined,
    Left,
    ListMembers,
    ListRuns,
    Members,
    Published,
    Redeclare,
    Redeclared,
    Refused,
    Runs,
    Welcome,
)
from handoff_actors.wire.messages.nested import Identified, Identify, Probe, Probed
from handoff_actors.wire.messages.runs import (
    Assign,
    CancelJobs,
    Close,
    Closed,
    Completed,
    Copied,
    Copy,
    Crashed,
    Drop,
    Failed,
    Output,
    Recall,
    Recalled,
    Rejected,
    Started,
    Stop,
    Stopped,
    WorkerRetired,
)
from handoff_actors.wire.messages.stages import StageInput, StageInputLost, StageOutput
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

#: Messages on the discovery bus, and to followers.
OnBus = Joined | Published | Left
#: Questions of clients that only observe.
Question = ListMembers | ListRuns
#: Messages to a node. Those on the bus come from peers that have introduced a node of their own.
ToNode = (
    Hello
    | Beat
    | Assign
    | StageInput
    | Recall
    | CancelJobs
    | Copy
    | Stop
    | Drop
    | Close
    | Probe
    | Identified
    | Fetch
    | Keep
    | FindKept
    | DropKept
    | Question
    | Redeclare
    | Goodbye
    | Follow
    | OnBus
    | Chunk
    | Gone
)
#: Messages from a node about a run.
AboutRun = (
    Completed
    | Failed
    | Recalled
    | Copied
    | Stopped
    | Closed
    | Rejected
    | Crashed
    | Started
    | WorkerRetired
    | Probed
    | Identify
)
#: Messages from a node to the peers that are connected to it.
FromNode = (
    AboutRun
    | StageOutput
    | StageInputLost
    | Output
    | Welcome
    | Refused
    | Fetch
    | Chunk
    | Gone
    | KeptAnswer
    | Members
    | Redeclared
    | Runs
    | OnBus
)
AnyMessage = ToNode | FromNode
