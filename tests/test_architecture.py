"""Rules about the code itself, where no linter has them."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "handoff_actors"
#: Limits beyond which to look twice: a file may be longer if it is one thing, and none is cut or glued for a number.
FILE_LINES = 500
FUNCTION_LINES = 40

#: Files where users' code and users' pickles run, or where any error has to end one actor and not the process.
MAY_CATCH_EVERYTHING = {
    "actors/app/runner.py",
    "actors/driver.py",
    "actors/node/logs/setup.py",
    "cli/targets/arguments.py",
    "cli/output/json_values.py",
    "cli/targets/user_errors.py",
    "client/event_callbacks.py",
    "client/policy.py",
    "display/display.py",
    "graph/checks.py",
    "graph/dag.py",
    "integrations/calls.py",
    "integrations/http_request.py",
    "integrations/map_sync.py",
    "retry_on.py",
    "text.py",
    "wire/code/definitions.py",
    "wire/exceptions.py",
    "wire/payload.py",
    "wire/pickling.py",
    "wire/time_limit.py",
    "wire/code/sent_modules.py",
    "workers/child/evaluation.py",
    "workers/child/loading.py",
    "workers/child/records.py",
    "workers/child/main.py",
    "workers/child/process/state.py",
    "workers/child/stage/async_lane.py",
    "workers/child/stage/channel.py",
    "workers/child/stage/code.py",
    "workers/child/stage/sync_lane.py",
    "workers/child/sync_worker.py",
}
#: Files where a task may live outside a task group: the default session has no caller whose scope it could live in, and
#: users' coroutines are kept, cancelled and reported one by one. A node that has crashed ends itself, and `close` awaits that.
#: An object of `per_worker` is made for whoever waits for it, and cancelled by the last of them that gives up.
#: Seeds are asked on after the first of them has answered, until `close`. A task group around the block of `async with` would
#: wrap the errors that the user's code raises there. The same holds for an open run, which may outlive the block besides, as a
#: session's own does: `OpenRun` awaits its tasks. A map's source is read while results are given, until the map awaits that.
#: Values move off nodes that leave without anybody who waits for it, until the session ends.
MAY_START_BARE_TASKS = {
    "actors/join_files/meeting.py",
    "actors/joining.py",
    "actors/node/actor.py",
    "client/api.py",
    "client/hub.py",
    "client/kept_client.py",
    "client/growing/open_run.py",
    "client/run_registry.py",
    "client/growing/session_calls.py",
    "client/streaming/source_map.py",
    "integrations/engines/lending.py",
    "workers/child/async_worker.py",
    "workers/child/shared_object_cache.py",
    "workers/child/stage/async_lane.py",
}
TASK_GROUP_NAME = re.compile(r"(tasks|group)$")
#: Classes that users make or read, and may want to copy or to turn into dicts. A frozen dataclass takes fifty times as
#: long to define as a msgspec struct, and eight times as long to make.
MAY_BE_DATACLASSES = {"Argument", "Explanation", "Function", "FunctionReport", "Outcome"}
#: Events that users see share names with the messages that report the same thing, so it is `events.Started` everywhere.
EVENTS_WITHOUT_NAMESAKES = {"OnEvent", "RunEvent"}
#: Written so that no pattern matches its own text.
MACHINE_TRACES = re.compile(
    r"(?<![\w.-])/(?:work|root)\b|(?<![\w.-])/home/\w"
    r"|pypi\.(?:org|python)|pythonhosted\.(?:org)|crates\.(?:io)|npmjs\.(?:org|com)|proxy\.golang(?:\.org)"
)

source_files = sorted(SOURCE.rglob("*.py"))

#: First words that leave the subject of a docstring to be guessed: pronouns, clauses that stand for a noun, quantities.
NO_FIRST_WORDS = (
    "all of it", "all that", "as", "everybody", "how", "it", "its", "nobody", "so long", "so many", "so much",
    "somebody", "they", "those", "what", "where", "whether", "which", "who", "whoever", "whom", "whose",
)  # fmt: skip
LEAVES_THE_SUBJECT_OPEN = re.compile(rf"(?:{'|'.join(NO_FIRST_WORDS)})\b", re.IGNORECASE)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DocumentedNode = FunctionNode | ast.ClassDef | ast.Module


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


@cache
def nodes_in(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree_of(path)))


def classes_in(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in nodes_in(path) if isinstance(node, ast.ClassDef))


def assigned_in(path: Path) -> Iterator[str]:
    """The names that a module gives to types, or to anything else, by an assignment."""
    for node in tree_of(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def calls_in(path: Path) -> Iterator[ast.Call]:
    return (node for node in nodes_in(path) if isinstance(node, ast.Call))


def lines_of_code(function: FunctionNode) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


def starts_bare_task(call: ast.Call) -> bool:
    *receiver, verb = ast.unparse(call.func).rsplit(".", 1)
    if verb == "ensure_future":
        return True
    return verb == "create_task" and not any(TASK_GROUP_NAME.search(name) for name in receiver)


def docstrings_in(path: Path) -> Iterator[str]:
    documented = (node for node in nodes_in(path) if isinstance(node, DocumentedNode))
    return filter(None, map(ast.get_docstring, documented))


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def offences(find: Callable[[Path], Collection[object]]) -> dict[str, Collection[object]]:
    """What `find` finds in each source file, where that is anything."""
    return {place(path): found for path in source_files if (found := find(path))}


def may_have_namesake(places: list[str]) -> bool:
    """True if one of two is an event, and the other the message with which a node reports the same thing."""
    event, *others = sorted(places)
    return event == "events.py" and len(others) == 1 and others[0].startswith("wire/messages/")


def files_in_repository() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file()]


def test_imports_point_one_way() -> None:
    # In a process of its own, because import-linter disables every logger that it finds.
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    linted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout


def test_files_stay_short() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files}

    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_stay_short() -> None:
    def too_long(path: Path) -> dict[str, int]:
        functions = [node for node in nodes_in(path) if isinstance(node, FunctionNode)]
        return {node.name: lines_of_code(node) for node in functions if lines_of_code(node) > FUNCTION_LINES}

    assert offences(too_long) == {}


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> list[int]:
        return [call.lineno for call in calls_in(path) if ast.unparse(call.func) == "print"]

    assert {name: lines for name, lines in offences(prints).items() if not name.startswith("cli/")} == {}


def test_errors_are_caught_by_name() -> None:
    def too_broad(path: Path) -> list[int]:
        handlers = [node for node in nodes_in(path) if isinstance(node, ast.ExceptHandler)]
        return [handler.lineno for handler in handlers if catches_everything(handler)]

    assert offences(too_broad).keys() == MAY_CATCH_EVERYTHING


def test_every_task_has_an_owner() -> None:
    def bare(path: Path) -> list[int]:
        return [call.lineno for call in calls_in(path) if starts_bare_task(call)]

    assert offences(bare).keys() == MAY_START_BARE_TASKS


def test_parts_are_structs() -> None:
    def dataclasses(path: Path) -> set[str]:
        return {
            node.name
            for node in classes_in(path)
            for decorator in node.decorator_list
            if ast.unparse(decorator).startswith("dataclass")
        } - MAY_BE_DATACLASSES

    assert offences(dataclasses) == {}


def test_no_class_name_stands_for_two_things() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in source_files:
        for node in classes_in(path):
            places[node.name].append(place(path))

    twice = {name: found for name, found in places.items() if len(found) > 1 and not may_have_namesake(found)}
    aliases = {(name, place(path)) for path in source_files for name in assigned_in(path) if name in places}

    assert twice == {}
    assert aliases == set()


def test_events_are_named_behind_their_module() -> None:
    def by_name(path: Path) -> set[str]:
        imports = [node for node in nodes_in(path) if isinstance(node, ast.ImportFrom)]
        events = [node for node in imports if node.module == "handoff_actors.events"]
        return {alias.name for node in events for alias in node.names} - EVENTS_WITHOUT_NAMESAKES

    assert offences(by_name) == {}


def test_docstrings_begin_with_a_subject_or_a_verb() -> None:
    def unclear(path: Path) -> list[str]:
        return [text.splitlines()[0] for text in docstrings_in(path) if LEAVES_THE_SUBJECT_OPEN.match(text)]

    assert offences(unclear) == {}


@pytest.mark.parametrize(
    ("text", "is_unclear"),
    [
        ("What a node offers.", True),
        ("whether it runs.", True),
        ("So many are kept.", True),
        ("Assign functions.", False),
        ("Items of a batch.", False),
    ],
)
def test_first_words_are_compared_whole(text: str, *, is_unclear: bool) -> None:
    assert (LEAVES_THE_SUBJECT_OPEN.match(text) is not None) == is_unclear


def test_phases_change_in_one_place() -> None:
    def changes(path: Path) -> list[int]:
        targets = (
            target
            for node in nodes_in(path)
            if isinstance(node, ast.Assign | ast.AugAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if not isinstance(target, ast.Name)
        )
        return [target.lineno for target in targets if re.search(r"\bphase(\[|$)", ast.unparse(target))]

    assert offences(changes).keys() == {"core/run/facts/normal_path.py", "core/run/facts/state.py"}


def test_a_run_is_looked_at_through_its_view() -> None:
    insides = re.compile(r"\bmachine\.(?!view\b)(state|scheduler|retries|feasibility)\b")

    def opened(path: Path) -> list[str]:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if insides.search(line)]

    assert [name for name in offences(opened) if not name.startswith("core/run/")] == []


def test_nothing_names_a_machine_or_a_registry() -> None:
    traces: dict[str, list[str]] = {}
    for path in files_in_repository():
        found = MACHINE_TRACES.findall(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            traces[str(path.relative_to(ROOT))] = found

    assert traces == {}
