"""Runs whose functions return graphs, or lists in parts."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    CancelFunctions,
    EndGrowth,
    FetchResult,
    FunctionsForgotten,
    LetGo,
    MessageFromNode,
    RelayBegun,
    RunEffect,
    SendToNode,
    WantResults,
)
from handoff_actors.core.run.facts.phases import DONE, FREE, WAITING
from handoff_actors.core.run.growing.expanded_program import child_id
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import (
    AllocationError,
    DependencyFailed,
    FunctionCancelled,
    FunctionFailed,
    RemoteProtocolError,
    TooManyFunctions,
    ValueLost,
)
from handoff_actors.graph import DAG, Argument, Function, Plan, collocated
from handoff_actors.graph.argument import Constant, ItemsOf
from handoff_actors.graph.naming import code_name
from handoff_actors.graph.spec import CallSpec, Hook, NodeOf
from handoff_actors.ids import FunctionId, Index, Resources
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Additions,
    Assembled,
    Call,
    Done,
    Expansion,
    GrownTemplate,
    Job,
    Listed,
    OwnModules,
    Ref,
    StoredPart,
    Template,
    TemplateEnvironment,
    Ticket,
    ValueKey,
    WarmObject,
)
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Completed, Drop, Fetched, Recalled
from handoff_actors.wire.warm_key import warm_key
from tests.core.builders import (
    RUN,
    assigned,
    async_code,
    code,
    completed,
    done,
    ends,
    error_of,
    failed,
    hook,
    node_up,
    run_of,
)
from tests.core.run.growing.test_growth import drops, grow, open_run
from tests.core.run.scheduling.test_fusion import quick_run

FIRST, SECOND = StoredPart(PARTS + 5, 100), StoredPart(PARTS + 7, 200)


def template(digest: bytes = b"template") -> Template:
    return Template(0, digest, True, b"module:grown", False, False, {}, None)


def expansion_of(
    *functions: Function,
    result: FunctionId,
    values: Sequence[bytes | Ref] | None = None,
    has_code: bool = True,
    **changes: object,
) -> Expansion:
    """As a worker makes it of a graph of `functions`."""
    plan = Plan.compile(DAG("grown").add_functions(functions))
    made = Expansion(
        result=plan.index_of[result],
        args=plan.args,
        producers=plan.producers,
        dependents=plan.dependents,
        bottom_level=plan.bottom_level,
        template_of=plan.template_of,
        templates=[
            GrownTemplate(b"key %d" % number, "grown", template() if has_code else None)
            for number in range(len(plan.templates))
        ],
        constants_of=plan.constants_of,
        constants=[b"constants" for _ in plan.constants],
        values=[*values] if values is not None else [b"value" for _ in plan.values],
        priority={index: priority for index, priority in enumerate(plan.priority) if priority},
        node_of={index: node for index, node in enumerate(plan.node_of) if node is not None},
        groups=plan.groups,
        max_retries=plan.max_retries,
        retry_backoff=plan.retry_backoff,
        hooks=plan.hooks,
    )
    return replace(made, **changes)


def grown(
    index: int, expansion: Expansion | None, *parts: StoredPart, attempt: int = 1, value: bytes = b""
) -> Done:
    return Done(index, attempt, value, 1001, 0.5, Additions(expansion, list(parts)))


#: Two functions and their sum, which is the result.
BOTH = (Function("left", (), code), Function("right", (), code), Function("both", ["left", "right"], code))


def parent_and_dependent(**changes: object) -> RunMachine:
    """A run in which a function has been sent whose result another one takes."""
    run = run_of(Function("f", (), code), Function("after", ["f"], code), **changes)
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    return run


def expanded(
    run: RunMachine, *functions: Function, result: str = "both", now: float = 1.0
) -> list[RunEffect]:
    return run.handle(completed("a", grown(0, expansion_of(*(functions or BOTH), result=result))), now)


def jobs(effects: Sequence[RunEffect]) -> dict[Index, Job]:
    sent = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    return {job.index: job for message in sent if isinstance(message, Assign) for job in message.jobs}


def sent_templates(effects: Sequence[RunEffect]) -> list[Template]:
    sent = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    return [each for message in sent if isinstance(message, Assign) for each in message.templates]


def test_result_of_a_graph_is_its_parents() -> None:
    run = parent_and_dependent()

    first = expanded(run)
    run.check()
    waiting = run.state.phase[0]
    then = run.handle(completed("a", done(2), done(3)), 2.0)
    after = run.handle(completed("a", done(0, attempt=2, value=b"sum")), 3.0)
    end = run.handle(completed("a", done(1)), 4.0)

    assert assigned(first) == [("a", [2, 3])]
    assert waiting == WAITING
    assert jobs(then)[0].args == [b"v", b"v"]
    assert jobs(after)[1].args == [b"sum"]
    assert ends(end)[0].error is None
    assert run.view.plan.ids == ["f", "after", "f/0", "f/1"]
    assert run.view.tries(0) == 1
    run.check()


def test_graphs_nest_and_follow_one_another() -> None:
    run = parent_and_dependent()
    expanded(run)

    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 2.0)
    run.handle(completed("a", done(3), done(4), done(5)), 3.0)
    run.handle(completed("a", done(2, attempt=2)), 4.0)
    run.check()
    again = run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"), attempt=2)), 5.0)

    assert assigned(again) == [("a", [6, 7])]
    assert run.view.plan.ids == ["f", "after", "f/0", "f/1", "f/0/0", "f/0/1", "f/2.0", "f/2.1"]
    run.check()


def test_each_function_names_the_one_that_has_added_it() -> None:
    run = parent_and_dependent()
    expanded(run)
    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 2.0)
    run.handle(completed("a", done(3), done(4), done(5)), 3.0)
    run.handle(completed("a", done(2, attempt=2)), 4.0)
    run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"), attempt=2)), 5.0)

    parents = {function_id: run.view.parent(index) for function_id, index in run.view.plan.index_of.items()}

    assert parents == {
        "f": None,
        "after": None,
        "f/0": "f",
        "f/1": "f",
        "f/0/0": "f/0",
        "f/0/1": "f/0",
        "f/2.0": "f",
        "f/2.1": "f",
    }


def test_functions_that_were_added_by_others_are_explained_with_their_parents() -> None:
    run = parent_and_dependent()
    graph = (Function("x", (), code), Function("y", ["x"], code))

    run.handle(completed("a", grown(0, expansion_of(*graph, result="y"))), 1.0)
    found = {entry.function_id: entry for entry in run.view.explain()}
    one_by_one = [run.view.explain_one(index) for index in (0, 1, 2)]

    assert {name: (entry.parent, entry.state) for name, entry in found.items()} == {
        "f": (None, "waiting"),
        "after": (None, "waiting"),
        "f/0": ("f", "sent"),
    }
    assert found["f"].waits_for == ("f/0",)
    assert one_by_one == list(found.values())


def test_deeper_functions_go_first() -> None:
    run = run_of(*(Function(name, (), code) for name in "abc"), max_concurrency=1)
    run.start(0.0, [node_up()])

    first = expanded(run)
    second = run.handle(completed("a", done(3)), 2.0)

    assert (assigned(first), assigned(second)) == ([("a", [3])], [("a", [4])])


@pytest.mark.parametrize("parent", ["f", ("f", 1)])
def test_ids_tell_which_functions_have_added_others(parent: FunctionId) -> None:
    first, second = child_id(parent, 1, 4), child_id(parent, 2, 4)

    assert (first, second) == (("f/4", "f/2.4") if parent == "f" else ((parent, 4), (parent, 2, 4)))


def test_ids_of_deep_functions_stay_short() -> None:
    deep: FunctionId = "quicksort"
    seen = set()
    for _ in range(1000):
        deep = child_id(deep, 1, 1)
        seen.add(deep)

    assert isinstance(deep, str)
    assert len(deep) <= 160
    assert deep.startswith("quicksort/1/1")
    assert len(seen) == 1000


def test_failure_of_a_function_fails_its_parent() -> None:
    run = parent_and_dependent(on_failure="continue", max_retries=0)
    expanded(run)

    run.handle(failed("a", 2), 2.0)
    end = run.handle(completed("a", done(3)), 3.0)

    assert ends(end)
    assert isinstance(run.view.failures[2].error, FunctionFailed)
    assert run.state.failed_behind == {0: 2, 1: 2}
    run.check()


def test_failure_of_the_function_of_the_result_is_the_parents() -> None:
    run = parent_and_dependent(on_failure="continue", max_retries=0)
    expanded(run, Function("alone", (), code), result="alone")

    run.handle(failed("a", 0, attempt=2), 2.0)

    error = run.view.failures[0].error
    assert isinstance(error, FunctionFailed)
    assert (error.function_id, error.attempts) == ("f", 1)
    assert run.state.failed_behind == {1: 0}


def test_errors_and_stories_name_the_function_that_was_returned_as_the_result() -> None:
    run = parent_and_dependent(on_failure="continue", max_retries=1)
    run.handle(failed("a", 0), 0.5)
    alone = expansion_of(Function("alone", (), code), result="alone", result_name="'alone'")
    run.handle(completed("a", grown(0, alone, attempt=2)), 1.0)

    run.handle(failed("a", 0, attempt=3), 2.0)
    sent = [entry for entry in run.view.story(0) if entry.what == "sent"]
    run.handle(failed("a", 0, attempt=4), 3.0)

    error = run.view.failures[0].error
    assert isinstance(error, FunctionFailed)
    assert error.function_id == "f"
    assert "function 'f' (in 'alone', which it has returned as its result) failed on node 'a'" in str(error)
    assert [(entry.stand_in, entry.attempt) for entry in sent] == [("", 1), ("'alone'", 1), ("'alone'", 2)]
    told = str(run.view.story(0))
    assert "attempt 1 of 'f' on node 'a' failed and was tried again" in told
    assert "attempt 2 of 'alone' in place of 'f' on node 'a' failed for good" in told


@pytest.mark.parametrize(
    ("result", "named"),
    [("costly", "'f' (in 'costly', which it has returned as its result)"), ("other", "'f/0' (grown)")],
)
def test_a_cost_that_no_node_offers_is_the_functions_that_asks_for_it(result: str, named: str) -> None:
    run = parent_and_dependent(on_failure="continue", nodes_may_join=False)
    functions = Function("costly", (), code), Function("other", (), async_code)
    made = expansion_of(*functions, result=result, result_name=repr(result))
    costly, other = made.templates
    costly = replace(costly, template=replace(template(), cost={"licence": 1.0}))
    run.handle(completed("a", grown(0, replace(made, templates=[costly, other]))), 1.0)

    run.wake(1.0)

    (error,) = [
        failure.error for failure in run.view.failures.values() if isinstance(failure.error, AllocationError)
    ]
    assert str(error).startswith(f"function {named} needs {{'licence': 1.0}}, which no node offers")


def test_errors_name_the_item_of_a_map() -> None:
    run = parent_and_dependent(on_failure="continue", max_retries=0)
    run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both", items=2, stages=1))), 1.0)

    run.handle(failed("a", 3, kind="serialization"), 2.0)

    assert str(run.view.failures[3].error) == "function 'f/1' (grown of item 1) on node 'a': reason"


def test_retries_of_a_parent_are_not_those_of_its_result() -> None:
    run = parent_and_dependent(max_retries=1)
    run.handle(failed("a", 0), 0.5)
    run.handle(
        completed("a", grown(0, expansion_of(Function("alone", (), code), result="alone"), attempt=2)), 1.0
    )

    again = run.handle(failed("a", 0, attempt=3), 2.0)

    assert jobs(again)[0].attempt == 4


def test_code_that_did_not_arrive_is_sent_along_by_the_next_attempt() -> None:
    run = parent_and_dependent()
    known = expansion_of(*BOTH, result="both", has_code=False)

    again = run.handle(completed("a", grown(0, known)), 1.0)
    added = run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"), attempt=2)), 2.0)
    by_key = run.handle(completed("a", grown(2, known)), 3.0)

    assert jobs(again)[0].attempt == 2
    assert assigned(added) == [("a", [2, 3])]
    assert [each.code for each in sent_templates(added)] == [b"module:grown"]
    assert assigned(by_key) == [("a", [4, 5])]
    assert sent_templates(by_key) == []
    assert code_name(run.view.plan.templates[1].code) == "grown"
    run.check()


def test_template_of_a_graph_is_as_its_parents_where_it_says_nothing_else() -> None:
    run = run_of(Function("f", (), code))
    modules = OwnModules(b"modules", {}, Ref(9, 0, [""]))
    environment = TemplateEnvironment({b"A": b"1", b"B": b"1"}, b"/there", Ref(8, 0, [""]))
    run._program.templates[0] = replace(
        run._program.templates[0],
        session="s1",
        log_level=10,
        modules=modules,
        environment=environment,
        retry_on=b"rule",
    )
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    own = replace(template(), environment=TemplateEnvironment({b"B": b"2"}), by_reference=False)
    graph = expansion_of(Function("g", (), code), result="g", templates=[GrownTemplate(b"key", "g", own)])

    (sent,) = sent_templates(run.handle(completed("a", grown(0, graph)), 1.0))

    assert (sent.session, sent.log_level, sent.modules, sent.retry_on) == ("s1", 10, modules, b"rule")
    assert sent.environment == TemplateEnvironment({b"A": b"1", b"B": b"2"}, b"/there", environment.package)
    assert sent.digest != own.digest


def test_object_of_per_worker_in_a_graph_is_that_of_its_session_environment_and_claim() -> None:
    def sent(
        session: str, environment: TemplateEnvironment | None, cost: Resources
    ) -> tuple[WarmObject, RunMachine]:
        run = run_of(Function("f", (), code))
        run._program.templates[0] = replace(
            run._program.templates[0], session=session, environment=environment
        )
        run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
        made = replace(template(), cost=cost, warm=WarmObject(b"made", "load('w')", 60.0))
        graph = expansion_of(
            Function("g", (), code), result="g", templates=[GrownTemplate(b"key", "load", made)]
        )
        (template_sent,) = sent_templates(run.handle(completed("a", grown(0, graph)), 1.0))
        assert template_sent.warm is not None
        return template_sent.warm, run

    variables = TemplateEnvironment({b"A": b"1"})
    first, run = sent("s1", None, {})

    assert (first.name, first.idle_s) == ("load('w')", 60.0)
    assert first.key == warm_key("s1", b"made", None, {})
    others = [sent("s2", None, {}), sent("s1", variables, {}), sent("s1", None, {"cpu": 1.0})]
    assert len({first.key, *(other.key for other, _ in others)}) == 4
    (spec,) = [each.warm for each in run.view.plan.templates if each.warm is not None]
    assert (spec.name, spec.idle_s) == ("load('w')", 60.0)


def test_large_arguments_come_from_the_node_that_has_made_them() -> None:
    run = parent_and_dependent()
    graph = expansion_of(
        Function("sum", [Constant("large")], code, extra_args=[1]),
        Function("twice", ["sum"], code),
        result="twice",
        values=[Ref(FIRST.index, 100, [])],
        constants=[Ref(SECOND.index, 200, [])],
    )

    effects = run.handle(completed("a", grown(0, graph, FIRST, SECOND)), 1.0)

    (job,) = jobs(effects).values()
    assert job.args == [Ref(FIRST.index, 100, ["address of a"])]
    assert job.constants == Ref(SECOND.index, 200, ["address of a"])
    assert run.view.plan.ids[2:] == ["f/parts", "f/0"]
    assert [run.view.parent(index) for index in (2, 3)] == ["f", "f"]
    assert [*run.view.holders(2)] == ["a"]
    run.check()


def test_large_arguments_that_are_lost_are_made_again() -> None:
    run = parent_and_dependent()
    graph = expansion_of(
        Function("sum", [Constant("large")], code),
        Function("both", ["sum"], code, extra_args=[1]),
        result="both",
        values=[Ref(FIRST.index, 100, [])],
        constants=[Ref(SECOND.index, 200, [])],
    )
    run.handle(completed("a", grown(0, graph, FIRST, SECOND)), 1.0)
    run.handle(completed("a", done(3, value=b"sum")), 2.0)
    run.handle(node_up("b", workers=4, capabilities={"cpu": 4.0}), 2.5)

    lost = run.handle(NodeDown("a", "gone"), 3.0)
    run.check()
    others = StoredPart(PARTS + 11, 100), StoredPart(PARTS + 13, 200)
    made = run.handle(completed("b", grown(2, graph, *others)), 4.0)

    assert assigned(lost) == [("b", [2])]
    assert jobs(made)[0].constants == Ref(PARTS + 13, 200, ["address of b"])
    assert run.state.phase[3] == DONE
    run.check()


def test_part_that_is_found_nowhere_is_made_again() -> None:
    run = parent_and_dependent()
    graph = expansion_of(
        Function("sum", [Constant("large")], code), result="sum", values=[Ref(FIRST.index, 100, [])]
    )
    run.handle(completed("a", grown(0, graph, FIRST)), 1.0)

    lost = run.handle(failed("a", 0, "input", attempt=2, lost=FIRST.index), 2.0)

    assert assigned(lost) == [("a", [2])]
    run.check()


def test_another_graph_in_place_of_a_lost_one_fails_what_needs_it() -> None:
    run = parent_and_dependent(on_failure="continue")
    graph = expansion_of(
        Function("sum", [Constant("large")], code), result="sum", values=[Ref(FIRST.index, 100, [])]
    )
    run.handle(completed("a", grown(0, graph, FIRST)), 1.0)
    run.handle(failed("a", 0, "input", attempt=2, lost=FIRST.index), 2.0)

    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 3.0)

    error = run.view.failures[2].error
    assert isinstance(error, ValueLost)
    assert "another graph" in str(error)
    assert run.state.failed_behind == {0: 2, 1: 2}


def test_list_in_parts_is_taken_whole_or_by_reference() -> None:
    plan = DAG("dag")
    plan.add_function(Function("list", (), code))
    plan.add_function(Function("whole", ["list"], code))
    run = run_of(*plan.functions.values(), Function("expander", [ItemsOf("list")], code))
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])

    effects = run.handle(completed("a", grown(0, None, FIRST, SECOND, value=b"items")), 1.0)

    refs = [Ref(part.index, part.nbytes, ["address of a"]) for part in (FIRST, SECOND)]
    assert jobs(effects)[1].args == [Assembled(b"items", refs)]
    assert jobs(effects)[2].args == [Listed(b"items", [FIRST, SECOND])]
    assert run.view.parts(0) == (b"items", [FIRST, SECOND])
    assert run.view.parts(1) is None
    run.check()


def test_functions_take_parts_of_a_list_from_where_they_are() -> None:
    run = run_of(Function("list", (), code), Function("expander", [ItemsOf("list")], code))
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    run.handle(completed("a", grown(0, None, FIRST, SECOND, value=b"items")), 1.0)
    graph = expansion_of(
        Function("first", [Constant("part")], code),
        Function("second", [Constant("other")], code),
        Function("both", ["first", "second"], code),
        result="both",
        values=[Ref(FIRST.index, 100, []), Ref(SECOND.index, 200, [])],
    )

    effects = run.handle(completed("a", grown(1, graph)), 2.0)

    assert jobs(effects)[2].args == [Ref(FIRST.index, 100, ["address of a"])]
    assert jobs(effects)[3].args == [Ref(SECOND.index, 200, ["address of a"])]
    run.check()


def test_list_whose_items_are_all_small_is_a_plain_value() -> None:
    run = run_of(Function("list", (), code), Function("expander", [ItemsOf("list")], code))
    run.start(0.0, [node_up()])

    effects = run.handle(completed("a", grown(0, None, value=b"items")), 1.0)

    assert jobs(effects)[1].args == [b"items"]
    assert run.state.inline == {0: b"items"}


def test_list_in_parts_that_the_app_wants_is_fetched() -> None:
    run = run_of(Function("list", (), code), wanted=[0])
    run.start(0.0, [node_up()])

    effects = run.handle(completed("a", grown(0, None, FIRST, SECOND, value=b"items")), 1.0)

    assert [effect for effect in effects if isinstance(effect, FetchResult)] == [FetchResult(0, 300, ("a",))]


@pytest.mark.parametrize(
    "changes",
    [
        {"result": 3},
        {"args": [(5,), (), (0, 1)]},
        {"args": [(~0,), (), (0, 1)]},
        {"args": [(NodeOf(7),), (), (0, 1)]},
        {"args": [(CallSpec(0, (9,), -1),), (), (0, 1)]},
        {"args": [(CallSpec(3, (), -1),), (), (0, 1)]},
        {"args": [(CallSpec(0, (), 4),), (), (0, 1)]},
        {"producers": [(), (), (0, 4)]},
        {"dependents": [(-1,), (2,), ()]},
        {"bottom_level": [1]},
        {"template_of": [0, 0, 1]},
        {"constants_of": [0, -1, -1]},
        {"max_retries": {7: 1}},
        {"groups": [(0, 9)]},
        {"hooks": [Hook(3, 0, 2)]},
        {"values": [Ref(PARTS + 99, 1, [])], "args": [(~0,), (), (0, 1)]},
    ],
)
def test_graph_whose_numbers_lead_nowhere_fails_its_function(changes: dict[str, object]) -> None:
    run = parent_and_dependent()

    run.handle(completed("a", grown(0, replace(expansion_of(*BOTH, result="both"), **changes))), 1.0)

    assert isinstance(error_of(run), RemoteProtocolError)


def test_bound_on_added_functions_names_the_one_that_grows() -> None:
    run = parent_and_dependent(max_functions=5)
    expanded(run)

    run.handle(completed("a", grown(2, expansion_of(*BOTH, result="both"))), 2.0)

    error = error_of(run)
    assert isinstance(error, TooManyFunctions)
    assert (error.function_id, error.code, error.limit) == ("f/0", "grown", 5)
    assert "max_functions=5" in str(error)


def test_options_of_functions_of_a_graph_hold() -> None:
    run = run_of(Function("f", (), code, priority=3))
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0}), node_up("b")])
    graph = expansion_of(
        Function("pinned", (), code, node="b", priority=2, max_retries=0, retry_backoff=(1, 2, 3)),
        Function("beside", (), code, node=collocated("pinned")),
        Function("hooked", [Argument("pinned", serialize=hook)], code),
        Function("both", ["hooked", "beside"], code),
        result="both",
    )

    effects = run.handle(completed("a", grown(0, graph)), 1.0)

    plan = run.view.plan
    assert assigned(effects) == [("b", [1, 2])]
    assert [plan.priority[index] for index in (0, 1, 2)] == [3, 5, 3]
    assert (plan.max_retries, plan.retry_backoff) == ({1: 0}, {1: (1.0, 2.0, 3.0)})
    assert plan.hook_of[4] == Hook(4, 1, 3)
    run.check()


def test_parent_leaves_its_group_and_its_hooks_behind() -> None:
    run = run_of(
        Function("made", (), code),
        Function("f", [Argument("made", serialize=hook)], code, max_retries=7, retry_backoff=(1, 2, 3)),
        Function("beside", (), code, node=collocated("f")),
    )
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    run.handle(completed("a", done(0)), 1.0)
    run.handle(completed("a", done(3)), 2.0)

    run.handle(completed("a", grown(1, expansion_of(*BOTH, result="both"))), 3.0)
    run.check()

    plan = run.view.plan
    assert (plan.hooks, plan.hook_of, plan.groups) == ([], {}, [(2,)])
    assert plan.max_retries.keys() == plan.retry_backoff.keys() == {3}


def test_large_arguments_are_made_again_where_hooks_have_worked_for() -> None:
    run = run_of(
        Function("made", (), code),
        Function("f", [Argument("made", serialize=hook, deserialize=hook)], code),
    )
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    run.handle(completed("a", done(0)), 1.0)
    run.handle(completed("a", done(2)), 2.0)
    graph = expansion_of(
        Function("sum", [Constant("large")], code), result="sum", values=[Ref(FIRST.index, 100, [])]
    )

    run.handle(completed("a", grown(1, graph, FIRST)), 3.0)
    run.check()

    plan = run.view.plan
    copy = plan.ids.index("f/parts")
    assert plan.node_of[copy] == "a"
    (spec,) = plan.args[copy]
    assert isinstance(spec, CallSpec)
    assert spec.args[2] == NodeOf(copy)


def test_members_fused_behind_a_parent_wait_for_its_result() -> None:
    functions = Function("first", (), code), Function("f", ["first"], code), Function("last", ["f"], code)
    run = quick_run(*functions)
    sent = jobs(run.start(0.0, [node_up()]))[0]
    run.handle(completed("a", done(0, ran_s=0.00001)), 1.0)

    run.handle(completed("a", grown(1, expansion_of(*BOTH, result="both"))), 2.0)
    run.check()
    separated = Recalled(RUN, [Ticket(2, 1)], is_separated=True)
    run.handle(MessageFromNode("a", separated), 2.1)
    run.check()
    run.handle(completed("a", done(3), done(4)), 3.0)
    after = run.handle(completed("a", done(1, attempt=2, value=b"sum")), 4.0)

    assert [member.index for member in sent.then] == [1, 2]
    assert jobs(after)[2].args == [b"sum"]


def test_cancelling_a_parent_cancels_what_it_has_added() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"))), 2.0)
    inner = expansion_of(*BOTH, result="both")
    run.handle(completed("a", grown(1, inner)), 3.0)

    effects = run.handle(CancelFunctions(["f"]), 4.0)

    (stopped,) = [
        effect.message
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, CancelJobs)
    ]
    assert {ticket.index for ticket in stopped.jobs} == {2, 3, 4}
    assert isinstance(run.view.failures[0].error, FunctionCancelled)


def test_graph_of_a_cancelled_parent_is_not_added() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    run.handle(CancelFunctions(["f"]), 1.5)

    effects = run.handle(completed("a", grown(0, expansion_of(*BOTH, result="both"))), 2.0)

    assert assigned(effects) == []
    assert isinstance(run.view.failures[0].error, FunctionCancelled)


def test_chain_of_graphs_leaves_nothing_behind() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    graph = expansion_of(
        Function("sum", [Constant("large")], code),
        Function("next", ["sum"], code),
        result="next",
        values=[Ref(FIRST.index, 100, [])],
    )
    dropped: list[ValueKey] = []
    for step in range(50):
        now = 2.0 + step
        attempt = run.state.attempt[0]
        part = StoredPart(PARTS + step, 100)
        one = replace(graph, values=[Ref(part.index, 100, [])])
        effects = run.handle(completed("a", grown(0, one, part, attempt=attempt)), now)
        (job,) = jobs(effects).values()
        effects += run.handle(completed("a", done(job.index, attempt=job.attempt)), now + 0.5)
        run.check()
        dropped += [
            key
            for effect in effects
            if isinstance(effect, SendToNode) and isinstance(effect.message, Drop)
            for key in effect.message.values
        ]

    assert run.view.plan.size == 4
    assert len(dropped) >= 49
    assert set(dropped) >= {ValueKey(PARTS + step, 0) for step in range(49)}
    assert sum(phase != FREE for phase in run.state.phase) == 2


def test_run_forgets_a_graph_with_its_parent() -> None:
    run = open_run()
    grow(run, Function("before", (), code), held=[0])
    run.handle(completed("a", done(0, value=5)), 1.0)
    grow(run, Function("f", ["before"], code), outer=["before"], held=[0])
    run.handle(LetGo(["before"]), 1.5)
    run.handle(completed("a", grown(1, expansion_of(*BOTH, result="both"))), 2.0)
    kept = run.state.phase[0]
    run.handle(completed("a", done(2), done(3)), 3.0)
    run.handle(completed("a", done(1, attempt=2)), 4.0)
    run.handle(LetGo(["f"]), 5.0)

    assert kept == FREE
    assert set(run.state.phase) == {FREE}
    run.check()


def test_dependency_failed_names_the_function_that_was_added() -> None:
    run = parent_and_dependent(on_failure="continue", max_retries=0)
    expanded(run)

    run.handle(failed("a", 2), 2.0)

    error = DependencyFailed("f", run.view.plan.ids[run.state.failed_behind[0]], "why")
    assert error.failed_id == "f/0"


def test_code_by_value_stays_on_its_version_of_python() -> None:
    run = parent_and_dependent()
    graph = expansion_of(Function("alone", (), code), result="alone", python="3.99", native_templates=[0])

    effects = run.handle(completed("a", grown(0, graph)), 1.0)

    assert assigned(effects) == []
    assert run.scheduler.needs.of[0].python == "3.99"


def test_inline_functions_of_a_graph_take_large_arguments() -> None:
    run = parent_and_dependent()
    graph = expansion_of(
        Function("inner", [Constant("large")], code, type="inline"),
        Function("outer", ["inner"], code),
        result="outer",
        values=[Ref(FIRST.index, 100, [])],
    )

    effects = run.handle(completed("a", grown(0, graph, FIRST)), 1.0)

    (call,) = jobs(effects)[0].args
    assert isinstance(call, Call)
    assert call.args == [Ref(FIRST.index, 100, ["address of a"])]
    assert run.view.plan.producers[0] == (2,)


def test_graph_of_a_function_that_runs_in_any_case_goes_on_after_a_failure() -> None:
    run = run_of(
        Function("fails", (), code, max_retries=0),
        Function("cleans up", (), code, run_if="always"),
        Function("never", ["fails"], code),
    )
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    run.handle(completed("a", grown(1, expansion_of(*BOTH, result="both"))), 1.0)

    run.handle(failed("a", 0), 2.0)
    then = run.handle(completed("a", done(3), done(4)), 3.0)
    run.handle(completed("a", done(1, attempt=2)), 4.0)

    assert assigned(then) == [("a", [1])]
    assert isinstance(error_of(run), FunctionFailed)


def test_parts_that_go_through_the_app_are_counted_by_their_size() -> None:
    run = run_of(Function("list", (), code), Function("whole", ["list"], code))
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    run.handle(completed("a", grown(0, None, FIRST, SECOND, value=b"items")), 1.0)

    run.handle(RelayBegun(SECOND.index, "a", "b"), 2.0)
    fetched = Fetched(FIRST.index, 100, 0.5, 0.0)
    run.handle(MessageFromNode("a", Completed(RUN, [], {}, [fetched])), 3.0)

    assert [*run.view.holders(SECOND.index)] == ["a"]
    assert run.view.relayed == {("a", "b"): 200}
    assert [each.index for each in run.view.transfers] == [0]


def test_expanders_of_open_runs_take_lists_by_reference() -> None:
    run = open_run()
    grow(run, Function("list", (), code), held=[0])
    run.handle(completed("a", grown(0, None, FIRST, value=b"items")), 1.0)

    effects = grow(run, Function("expander", [ItemsOf("list")], code), outer=["list"])

    assert jobs(effects)[1].args == [Listed(b"items", [FIRST])]


def test_inputs_of_a_parent_are_kept_for_others_that_take_them() -> None:
    run = open_run()
    grow(run, Function("before", (), code), held=[0])
    run.handle(completed("a", done(0)), 1.0)
    grow(
        run,
        Function("f", ["before"], code),
        Function("other", ["before"], code),
        outer=["before"],
        held=[0, 1],
    )
    run.handle(LetGo(["before"]), 1.5)

    run.handle(completed("a", grown(1, expansion_of(*BOTH, result="both"))), 2.0)
    run.check()
    kept = run.state.phase[0]
    run.handle(completed("a", done(2)), 3.0)

    assert (kept, run.state.phase[0]) == (DONE, FREE)


def test_parts_of_an_attempt_that_does_not_count_are_dropped_where_they_are() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    run.handle(CancelFunctions(["f"]), 1.5)
    graph = expansion_of(*BOTH, result="both")

    effects = run.handle(completed("a", grown(0, graph, FIRST)), 2.0)

    assert SendToNode("a", Drop(RUN, [ValueKey(FIRST.index, 0)])) in effects


@pytest.mark.parametrize("is_made_again", [False, True])
def test_parts_of_before_a_list_was_lost_are_dropped_with_it(*, is_made_again: bool) -> None:
    run = open_run("a", "b")
    grow(run, Function("list", (), code, node="a"), held=[0])
    run.handle(completed("a", grown(0, None, FIRST, value=b"items")), 2.0)
    grow(run, Function("whole", ["list"], code, node="b"), outer=["list"], held=[])
    run.handle(completed("b", done(1)), 3.0)
    run.handle(NodeDown("a", "gone"), 4.0)
    parts = [FIRST]
    grow(run, Function("other", ["list"], code, node="b"), outer=["list"], held=[0])
    if is_made_again:
        run.handle(node_up("a"), 5.0)
        run.handle(completed("a", grown(0, None, SECOND, attempt=2, value=b"items")), 6.0)
        parts = [FIRST, SECOND]
        run.handle(completed("b", done(1, attempt=2)), 7.0)
    else:
        run.handle(CancelFunctions(["list"]), 5.0)

    effects = run.handle(LetGo(["list", "other"]), 8.0)

    assert drops(effects)["b"] == [ValueKey(part.index, 0) for part in parts]
    run.check()


def test_report_of_a_graph_that_comes_twice_changes_nothing() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    graph = expansion_of(
        Function("sum", [Constant("large")], code), result="sum", values=[Ref(FIRST.index, 100, [])]
    )
    run.handle(completed("a", grown(0, graph, FIRST)), 2.0)

    assert run.handle(completed("a", grown(0, graph, FIRST)), 2.1) == []
    run.check()


def test_run_ends_though_a_value_that_was_on_its_way_is_let_go() -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    run.handle(WantResults(["f"]), 1.0)
    run.handle(LetGo(["f"]), 1.1)
    run.handle(EndGrowth(), 1.2)

    effects = run.handle(completed("a", done(0, value=1000)), 2.0)

    assert ends(effects)[0].error is None


def test_parts_of_a_function_that_was_added_anyway_are_made_again_anyway() -> None:
    run = run_of(Function("f", (), code, run_if="always"))
    run.start(0.0, [node_up("a", workers=4, capabilities={"cpu": 4.0})])
    expanded(run)
    with_part = expansion_of(
        Function("alone", [Constant(1)], code), result="alone", values=[Ref(FIRST.index, 100, [])]
    )

    run.handle(completed("a", grown(1, with_part, FIRST)), 2.0)

    (owner,) = [index for index, each in enumerate(run.view.plan.ids) if str(each).endswith("/parts")]
    assert owner in run.state.added_anyway
    run.check()


@pytest.mark.parametrize("is_needed", [False, True])
def test_error_that_nobody_else_hears_of_is_told_when_its_function_is_forgotten(*, is_needed: bool) -> None:
    run = open_run()
    grow(run, Function("f", (), code), held=[0])
    graph = Function("beside", (), code), Function("result", ["beside"] if is_needed else (), code)
    effects = run.handle(completed("a", grown(0, expansion_of(*graph, result="result"))), 2.0)
    (beside,) = (index for index in jobs(effects) if index)

    told = list(run.handle(failed("a", beside), 3.0))
    if not is_needed:
        told += run.handle(completed("a", done(0, attempt=2)), 4.0)
    told += run.handle(LetGo(["f"]), 5.0)
    run.check()

    unseen = [error for effect in told if isinstance(effect, FunctionsForgotten) for error in effect.unseen]
    assert [str(error).partition(" (")[0] for error in unseen] == ([] if is_needed else ["function 'f/0'"])
    assert not run.view.failures
