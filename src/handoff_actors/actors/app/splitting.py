"""Messages to nodes that are too long for one frame are sent in parts, without the functions that are too long themselves."""

from msgspec.structs import replace

from handoff_actors.actors.app.blame import Blame, PlanPart
from handoff_actors.errors import HandoffError, SerializationError
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.jobs import Job, Ticket
from handoff_actors.wire.messages.runs import Assign


def split(message: Assign) -> list[Assign]:
    """Split a message: the templates each by itself, before the halves of the jobs. [] if nothing is left to split."""
    templates, jobs = message.templates, message.jobs
    if templates and len(templates) + len(jobs) > 1:
        alone = [replace(message, templates=[template], jobs=[]) for template in templates]
        return [*alone, replace(message, templates=[])] if jobs else alone
    if len(jobs) > 1:
        half = len(jobs) // 2
        return [replace(message, templates=[], jobs=part) for part in (jobs[:half], jobs[half:])]
    return []


class Unsent:
    """The functions of one message that can't be sent, at least not as they are in it."""

    def __init__(self, plan: Plan, blame: Blame) -> None:
        self._plan = plan
        self._blame = blame
        #: No message can hold these.
        self.refused: dict[Index, HandoffError] = {}
        #: Members of fused groups, to be sent each by itself.
        self.separated: list[Ticket] = []

    def add(self, message: Assign, error: SerializationError) -> None:
        """Take note of the one template, or the one job, of a message that can't be sent."""
        if message.jobs and message.jobs[0].then:
            self._separate(message.jobs[0])
        elif message.jobs:
            self._refuse(message.jobs[0].index, "it, with its arguments,", error)
        else:
            for index in self._blame.users(PlanPart.TEMPLATE, message.templates[0].number):
                self._refuse(index, "its code, with all that it captures,", error)

    def without(self, message: Assign) -> Assign:
        """Give the message without the functions that have been refused."""
        refused = self.refused.keys()
        if refused.isdisjoint(job.index for job in _with_members(message.jobs)):
            return message
        rest: list[Job] = []
        for job in message.jobs:
            if refused.isdisjoint(member.index for member in (job, *job.then)):
                rest.append(job)
            else:
                self._separate(job)
        return replace(message, jobs=rest)

    def _refuse(self, index: Index, what: str, error: SerializationError) -> None:
        function_id: FunctionId = self._plan.ids[index]
        reason = f"function {repr_of(function_id)}: {what} can't be sent to a node: {error}"
        self.refused[index] = SerializationError(reason, function_id)

    def _separate(self, job: Job) -> None:
        self.separated += [
            Ticket(member.index, member.attempt)
            for member in (job, *job.then)
            if member.index not in self.refused
        ]


def _with_members(jobs: list[Job]) -> list[Job]:
    return [member for job in jobs for member in (job, *job.then)]
