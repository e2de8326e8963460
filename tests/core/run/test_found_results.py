"""Functions that a run is given while it goes on, and of which an earlier run has results."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    Cancel,
    CancelFunctions,
    EndGrowth,
    FetchResult,
    FindResults,
    FunctionObserved,
    LetGo,
    RecordResults,
    ResultFetched,
    ResultsFound,
    ResultsTakenOver,
    RunEffect,
)
from handoff_actors.core.run.facts.grown_graph import cached_functions, identified, in_place_of
from handoff_actors.core.run.facts.phases import DONE, FREE, SENT
from handoff_actors.core.run.facts.resumption import (
    NO_FINGERPRINTS,
    Digests,
    Fingerprints,
    FoundResults,
    Recorded,
    ReusedResult,
    fingerprints,
    reusable,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.graph import Function
from handoff_actors.graph.argument import Constant, ItemsOf
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Expansion,
    GraphDigests,
    Ref,
    StoredPart,
    TemplateEnvironment,
    ValueKey,
)
from tests.core.builders import assigned, code, completed, done, ends, failed, node_up
from tests.core.run.growing.test_expanding import (
    BOTH,
    FIRST,
    expansion_of,
    grown,
    jobs,
    parent_and_dependent,
    template,
)
from tests.core.run.growing.test_growth import call, drops, ended, forgotten, grow, open_run, part_of, then

PARENT = Fingerprints(b"parent key", b"parent print")
CACHED = Fingerprints(b"", b"", b"print", ((b"print", 60.0),))


def combine(*parts: bytes) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=8).digest()


def with_digests(expansion: Expansion, **changes: object) -> Expansion:
    digests = GraphDigests(
        [b"code %d" % number for number in range(len(expansion.templates))],
        [b"constants" for _ in expansion.constants],
        [b"" if isinstance(value, Ref) else value for value in expansion.values],
    )
    return replace(expansion, digests=replace(digests, **changes))


def graph_of(*functions: Function, result: str = "both", cache_s: float | None = None) -> Expansion:
    expansion = with_digests(expansion_of(*(functions or BOTH), result=result))
    templates = [replace(each, cache_s=cache_s) for each in expansion.templates]
    return replace(expansion, templates=templates)


def look_up(run: RunMachine, expansion: Expansion, now: float = 1.0) -> FindResults:
    """Have the first function of a run return a graph; the run is to look it up."""
    [effect] = run.handle(completed("a", grown(0, expansion)), now)
    assert isinstance(effect, FindResults)
    run.check()
    return effect


def answer(
    looked_up: FindResults,
    reused: Mapping[Index, ReusedResult] | None = None,
    in_app: Mapping[Index, bytes] | None = None,
) -> ResultsFound:
    known = looked_up.graph.fingerprints(combine, b"salt")
    return ResultsFound(
        looked_up.name, looked_up.entry, looked_up.graph, FoundResults(known, reused or {}, in_app or {})
    )


def journaled(**changes: object) -> RunMachine:
    run = parent_and_dependent(is_journaled=True, **changes)
    run._program.fingerprints[0] = PARENT
    return run


def recorded(effects: Sequence[RunEffect]) -> list[Index]:
    return [index for effect in effects if isinstance(effect, RecordResults) for index in effect.indices]


# --- Graphs that functions return -------------------------------------------------------------------------------


def test_a_graph_is_looked_up_before_its_functions_are_added() -> None:
    run = journaled()

    looked_up = look_up(run, graph_of())
    before = run.state.phase[0]
    effects = then(run, answer(looked_up))

    assert (looked_up.name, before) == ("a", SENT)
    assert repr(looked_up.graph) == "<graph of 'f': ['f/0', 'f/1', 'f'], result 2, step 1>"
    assert assigned(effects) == [("a", [2, 3])]


def test_functions_that_were_done_before_do_not_run() -> None:
    run = journaled(observe=True)

    effects = then(run, answer(look_up(run, graph_of()), {0: ReusedResult("b", b"left")}))
    last = then(run, completed("a", done(3, value=b"right")), 3.0)

    assert FunctionObserved("reused", 2, "b", 0) in effects
    assert assigned(effects) == [("a", [3])]
    assert jobs(last)[0].args == [b"left", b"right"]
    assert run.view.is_reused(2)


def test_functions_of_a_graph_are_recorded_and_its_result_as_the_parents() -> None:
    run = journaled()
    looked_up = look_up(run, graph_of())
    known = looked_up.graph.fingerprints(combine, b"salt")

    then(run, answer(looked_up))
    children = then(run, completed("a", done(2), done(3)), 3.0)
    result = then(run, completed("a", done(0, attempt=2)), 4.0)

    assert recorded(children) == [2, 3]
    assert recorded(result) == [0]
    prints = run._program.fingerprints
    assert [prints[index] for index in (2, 3, 0)] == [known[0], known[1], PARENT]


def test_large_values_that_the_app_has_are_told_before_anything_else() -> None:
    run = journaled()
    reused = {0: ReusedResult("b", 1000, is_in_app=True)}

    effects = then(run, answer(look_up(run, graph_of()), reused, {0: b"large"}))
    last = then(run, completed("a", done(3)), 3.0)

    assert effects[0] == ResultsTakenOver({2: b"large"})
    assert jobs(last)[0].args == [Ref(2, 1000, [""]), b"v"]


def test_a_result_that_is_cached_ends_its_parent_and_is_recorded_as_the_parents() -> None:
    run = journaled()
    alone = graph_of(Function("alone", (), code), result="alone", cache_s=60.0)

    effects = then(run, answer(look_up(run, alone), {0: ReusedResult("b", b"found")}))

    assert recorded(effects) == [0]
    assert jobs(effects)[1].args == [b"found"]
    assert run.state.phase[0] == DONE
    cached_as = run._program.fingerprints[0].cached_as
    assert [ttl_s for _, ttl_s in cached_as] == [60.0]


def test_what_depends_on_a_cached_result_within_its_graph_runs_once() -> None:
    run = journaled()
    functions = Function("alone", (), code), Function("beside", ["alone"], code)

    looked_up = look_up(run, graph_of(*functions, result="alone", cache_s=60.0))
    effects = then(run, answer(looked_up, {0: ReusedResult("b", b"found")}))

    assert {*jobs(effects)} == {1, 2}


def test_a_dependent_with_other_inputs_waits_for_these_too() -> None:
    run = journaled()
    functions = (
        Function("alone", (), code),
        Function("other", (), code),
        Function("sum", ["alone", "other"], code),
    )

    looked_up = look_up(run, graph_of(*functions, result="alone", cache_s=60.0))
    effects = then(run, answer(looked_up, {0: ReusedResult("b", b"found")}))

    assert {*jobs(effects)} == {1, 2}
    assert assigned(then(run, completed("a", done(2)), 3.0)) == [("a", [3])]


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    run = journaled()
    looked_up = look_up(run, graph_of())
    then(run, node_up("b", workers=4, capabilities={"cpu": 4.0}))
    again = then(run, NodeDown("a", "gone"))

    assert assigned(again) == [("b", [0])]
    assert then(run, answer(looked_up)) == []
    assert run.state.phase[0] == SENT

    then(run, Cancel())
    stale = replace(answer(looked_up), name="b", entry=replace(looked_up.entry, attempt=2))
    assert run.handle(stale, 3.0) == []


def test_an_answer_for_an_attempt_that_came_back_drops_what_it_has_stored() -> None:
    run = open_run("a", is_journaled=True)
    grow(run, call("f"))
    expansion = with_digests(
        expansion_of(
            Function("alone", [Constant(1)], code), result="alone", values=[Ref(FIRST.index, 100, [])]
        ),
        values=[b"digest"],
    )
    [looked_up] = run.handle(completed("a", grown(0, expansion, FIRST)), 1.0)
    assert isinstance(looked_up, FindResults)
    then(run, CancelFunctions(["f"]))

    effects = then(run, answer(looked_up))

    assert drops(effects) == {"a": [ValueKey(FIRST.index, 0)]}
    assert ended(effects) == [0]


def test_values_in_parts_are_known_by_what_has_made_them() -> None:
    run = open_run("a", is_journaled=True)
    grow(run, call("list"), found=FoundResults([Fingerprints(b"list", b"list's")]))
    grow(run, call("map", ItemsOf("list")), outer=["list"], found=FoundResults([PARENT]))
    then(run, completed("a", grown(0, None, FIRST, value=b"items")))
    items: list[bytes | Ref] = [Ref(FIRST.index, 100, []), b"plain", Ref(PARTS + 99, 5, [])]
    functions = [Function(f"item-{number}", [Constant(number)], code) for number in range(3)]
    own = StoredPart(PARTS + 99, 5)
    expansion = with_digests(
        expansion_of(*functions, result="item-1", values=items), values=[b"", b"plain", b"own"]
    )

    [effect] = run.handle(completed("a", grown(1, expansion, own)), 3.0)

    assert isinstance(effect, FindResults)
    assert effect.graph.parts == {0: (Fingerprints(b"list", b"list's"), 0)}
    known = effect.graph.fingerprints(combine, b"salt")
    assert all(each.journal for each in known)
    assert not any(each.cache for each in known)
    other = replace(effect.graph, parts={0: (Fingerprints(b"list", b"another's"), 0)})
    changed = other.fingerprints(combine, b"salt")
    assert [one == two for one, two in zip(known, changed, strict=True)] == [False, True, True]


def test_a_graph_with_too_few_digests_is_an_error() -> None:
    run = journaled(on_failure="continue")
    expansion = graph_of()

    run.handle(completed("a", grown(0, with_digests(expansion, templates=[]))), 1.0)

    assert isinstance(run.view.failures[0].error, RemoteProtocolError)


def test_a_graph_that_was_made_from_a_failure_is_not_recorded_as_its_parents_result() -> None:
    run = open_run("a", is_journaled=True)
    found = FoundResults([Fingerprints(b"x", b"x"), PARENT])
    grow(run, call("x"), call("f", "x", run_if="always"), found=found)
    then(run, failed("a", 0))

    [looked_up] = run.handle(completed("a", grown(1, graph_of())), 3.0)
    assert isinstance(looked_up, FindResults)
    then(run, answer(looked_up), 3.0)
    children = then(run, completed("a", done(2), done(3)), 4.0)
    result = then(run, completed("a", done(1, attempt=2)), 5.0)

    assert (recorded(children), recorded(result)) == ([2, 3], [])
    forgets = [*then(run, LetGo(["x", "f"]), 6.0), *run.wake(6.0)]
    assert set(forgotten(forgets)) <= {0, 1, 2, 3}
    assert ends(then(run, EndGrowth(), 7.0))


# --- Fingerprints -----------------------------------------------------------------------------------------------


def test_keys_derive_from_the_parents_and_a_number() -> None:
    looked_up = look_up(journaled(), graph_of())
    graph = looked_up.graph

    first = [each.key for each in graph.fingerprints(combine, b"salt")]
    next_step = [each.key for each in replace(graph, step=2).fingerprints(combine, b"salt")]
    other = replace(graph, parent=Fingerprints(b"other", b"print"))

    assert len({*first, *next_step, *(each.key for each in other.fingerprints(combine, b"salt"))}) == 9


def test_changed_code_of_one_function_changes_it_and_what_depends_on_it() -> None:
    graph = look_up(journaled(), graph_of()).graph
    templates = [b"code 0", b"new", b"code 2"]
    assert len(graph.digests.templates) == 1
    several = replace(
        graph,
        plan=replace(graph.plan, template_of=[0, 1, 2], templates=graph.plan.templates * 3),
        templates=[*graph.templates] * 3,
        digests=replace(graph.digests, templates=[b"code 0", b"code 1", b"code 2"]),
    )
    changed = replace(several, digests=replace(graph.digests, templates=templates))

    pairs = zip(several.fingerprints(combine, b""), changed.fingerprints(combine, b""), strict=True)

    assert [one.journal == two.journal for one, two in pairs] == [True, False, False]


def test_variables_and_directories_of_the_parent_count() -> None:
    graph = look_up(journaled(), graph_of()).graph
    surroundings = [None, TemplateEnvironment({b"A": b"1"}, b""), TemplateEnvironment({b"A": b"1"}, b"/x")]
    prints = [
        replace(graph, templates=[replace(template(), environment=each)]).fingerprints(combine, b"")
        for each in surroundings
    ]

    assert len({each[0].journal for each in prints}) == 3


def test_without_a_journal_only_cached_functions_have_fingerprints() -> None:
    run = parent_and_dependent()

    plain = look_up(run, graph_of()).graph
    cached = replace(
        plain, plan=replace(plain.plan, templates=[replace(plain.plan.templates[0], cache_s=9.0)])
    )

    assert set(plain.fingerprints(combine, b"")) == {NO_FINGERPRINTS}
    known = cached.fingerprints(combine, b"")
    assert all(each.cached_as == ((each.cache, 9.0),) for each in known)
    assert not any(each.key or each.journal for each in known)


def test_results_of_functions_that_run_anyway_are_not_cached() -> None:
    plan = part_of(call("x", cache="1h"), call("y", "x", cache="1h", run_if="always")).plan

    assert cached_functions(plan) == {0: 3600.0}


def test_a_function_is_cached_as_itself_and_as_the_last_one_in_its_place() -> None:
    second = Fingerprints(b"", b"", b"two", ((b"two", 1.0),))
    third = Fingerprints(b"", b"", b"three", ((b"three", 1.0),))

    once = in_place_of(CACHED, second)
    twice = in_place_of(once, third)

    assert twice.cached_as == ((b"print", 60.0), (b"three", 1.0))
    assert in_place_of(twice, NO_FINGERPRINTS).cached_as == ((b"print", 60.0),)


def test_what_takes_something_unknown_is_not_cached() -> None:
    known = identified([b""] * 2, [b""] * 2, [b"", b"print"], {0: 5.0, 1: 5.0})

    assert [each.cached_as for each in known] == [(), ((b"print", 5.0),)]


def test_what_takes_a_result_or_a_value_without_fingerprint_has_none() -> None:
    plan = part_of(
        call("x", "old"), call("y", "x"), call("z", "new"), call("c", Constant(3)), outer=["old", "new"]
    ).plan
    digests = Digests([b"id"] * 4, [b"code"] * len(plan.templates), [], [b""])

    prints = fingerprints(plan, digests, combine, [b"", b"new"])

    assert [bool(each) for each in prints] == [False, False, True, False]
    same = fingerprints(plan, digests, combine, [b"", b"new"])
    other = fingerprints(plan, digests, combine, [b"", b"newer"])
    assert prints == same
    assert prints[2] != other[2]
    recorded = dict.fromkeys(range(4), Recorded(b"", "a", 1, has_value=True))
    assert reusable(plan, prints, recorded, ()) == []


# --- Functions that the app adds --------------------------------------------------------------------------------


def test_calls_that_were_done_before_end_at_once() -> None:
    run = open_run("a", is_journaled=True)
    found = FoundResults([PARENT, CACHED], {0: ReusedResult("b", b"found")})

    effects = grow(run, call("x"), call("y", "x"), found=found)

    assert ended(effects) == [0]
    assert jobs(effects)[1].args == [b"found"]


def test_the_app_has_a_large_result_before_it_is_told_of_the_end() -> None:
    run = open_run("a", is_journaled=True)
    found = FoundResults([PARENT], {0: ReusedResult("b", 1000, is_in_app=True)}, {0: b"large"})

    effects = grow(run, call("x"), found=found)

    assert effects[0] == ResultsTakenOver({0: b"large"})
    assert ended(effects[1:]) == [0]


def test_fingerprints_are_forgotten_with_their_functions() -> None:
    run = open_run("a")
    for number in range(100):
        grow(run, call(number), held=[], found=FoundResults([PARENT]))
        then(run, completed("a", done(0, attempt=number + 1)))
        run.wake(2.0)

    assert run.state.phase[0] == FREE
    assert run._program.fingerprints == {}


def test_a_large_result_that_is_cached_is_fetched_before_it_is_forgotten() -> None:
    run = open_run("a")
    grow(run, call("x"), held=[], found=FoundResults([CACHED]))

    effects = then(run, completed("a", done(0, value=1000)))
    assert FetchResult(0, 1000, ("a",)) in effects
    assert forgotten([*effects, *run.wake(2.0)]) == []
    effects = then(run, ResultFetched(0), 3.0)

    assert recorded(effects) == [0]
    assert forgotten([*effects, *run.wake(3.0)]) == [0]


def test_a_large_value_that_is_cached_is_dropped_only_once_the_app_has_it() -> None:
    run = open_run("a")
    grow(run, call("x"), held=[], found=FoundResults([CACHED]))
    grow(run, call("y", "x"), outer=["x"], found=FoundResults([NO_FINGERPRINTS]))
    then(run, completed("a", done(0, value=1000)))

    before = then(run, completed("a", done(1, value=1000)))
    after = [*then(run, ResultFetched(0), 3.0), *run.wake(3.0)]

    assert drops(before) == {}
    assert drops(after) == {"a": [ValueKey(0, 1)]}


def test_a_result_of_an_earlier_run_is_told_from_values_of_functions_with_its_index() -> None:
    run = open_run("a", is_journaled=True)
    grow(run, call("x"), held=[])
    then(run, completed("a", done(0, value=1000)))
    run.wake(2.0)
    found = FoundResults([PARENT], {0: ReusedResult("b", 1000, is_in_app=True)}, {0: b"large"})

    grow(run, call("new"), found=found)
    effects = grow(run, call("y", "new"), outer=["new"], found=FoundResults([PARENT]))

    assert jobs(effects)[1].args == [Ref(0, 1000, [""], 2)]
    assert run.view.tries(0) == 0


def test_growth_without_fingerprints_records_nothing() -> None:
    run = open_run("a")

    grow(run, call("x"))

    assert recorded(then(run, completed("a", done(0)))) == []
