"""Every message that crosses a socket between members, and what its fields mean.

Messages are requests in the imperative (`Assign`) or facts in the past tense (`Completed`). They are msgspec
structs encoded as MessagePack arrays `[tag, field, ...]`; the decoder checks every type and bound, so what a
machine receives is well-formed whoever sent it. On the hot path one message carries many functions.
"""

from handoff_actors.wire.jobs import (
    FIRST,
    NO_TRACES,
    Arg,
    Call,
    Done,
    Dropped,
    Earlier,
    Environment,
    Job,
    Logged,
    Printed,
    Rank,
    Ref,
    Said,
    Template,
    Text,
    Ticket,
    Traces,
)
from handoff_actors.wire.members import (
    Advert,
    Beat,
    Goodbye,
    Hello,
    Joined,
    ListMembers,
    ListRuns,
    Members,
    Published,
    Redeclare,
    Redeclared,
    Refused,
    Runs,
    ServedRun,
    Welcome,
)
from handoff_actors.wire.message import (
    PROTOCOL,
    Count,
    Digest,
    Message,
    Name,
)
from handoff_actors.wire.runs import (
    Assign,
    Close,
    Closed,
    Completed,
    Copied,
    Copy,
    Failed,
    Fetched,
    Output,
    Recall,
    Recalled,
    Started,
)
from handoff_actors.wire.values import (
    Chunk,
    Fetch,
    Gone,
)

__all__ = [
    "FIRST",
    "NO_TRACES",
    "PROTOCOL",
    "AboutRun",
    "Advert",
    "AnyMessage",
    "Arg",
    "Assign",
    "Beat",
    "Call",
    "Chunk",
    "Close",
    "Closed",
    "Completed",
    "Copied",
    "Copy",
    "Count",
    "Digest",
    "Done",
    "Dropped",
    "Earlier",
    "Environment",
    "Failed",
    "Fetch",
    "Fetched",
    "FromNode",
    "Gone",
    "Goodbye",
    "Hello",
    "Job",
    "Joined",
    "ListMembers",
    "ListRuns",
    "Logged",
    "Members",
    "Message",
    "Name",
    "OnBus",
    "Output",
    "Printed",
    "Published",
    "Question",
    "Rank",
    "Recall",
    "Recalled",
    "Redeclare",
    "Redeclared",
    "Ref",
    "Refused",
    "Runs",
    "Said",
    "ServedRun",
    "Started",
    "Template",
    "Text",
    "Ticket",
    "ToNode",
    "Traces",
    "Welcome",
]

#: What those ask who only look.
Question = ListMembers | ListRuns
#: What a node understands.
ToNode = Hello | Beat | Assign | Recall | Copy | Close | Fetch | Question | Redeclare | Goodbye | Chunk | Gone
#: What a node says of a run.
AboutRun = Completed | Failed | Recalled | Copied | Closed | Started
#: What a node says to whoever is connected to it.
FromNode = AboutRun | Output | Welcome | Refused | Fetch | Chunk | Gone | Members | Redeclared | Runs
#: What is said on the discovery bus.
OnBus = Joined | Published
AnyMessage = ToNode | FromNode | OnBus
