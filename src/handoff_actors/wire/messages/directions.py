"""Which messages go which way."""

from handoff_actors.wire.messages.members import (
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
    Welcome,
)
from handoff_actors.wire.messages.runs import (
    Assign,
    Close,
    Closed,
    Completed,
    Copied,
    Copy,
    Failed,
    Output,
    Recall,
    Recalled,
    Started,
)
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

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
