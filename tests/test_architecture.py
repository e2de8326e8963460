"""Rules about the code itself, where no linter has them."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
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
    "workers/child/sync_worker.py",
}
#: Files where a task may live outside a task group: the default session has no caller whose scope it could live in, and
#: users' coroutines are kept, cancelled and reported one by one. A node that has crashed ends itself, and `close` awaits that.
#: Seeds are asked on after the first of them has answered, until `close`. A task group around the block of `async with` would
#: wrap the errors that the user's code raises there.
MAY_START_BARE_TASKS = {
    "actors/join_files/meeting.py",
    "actors/joining.py",
    "actors/node/actor.py",
    "client/api.py",
    "client/hub.py",
    "integrations/engines/lending.py",
    "workers/child/async_worker.py",
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
each_source_file = pytest.mark.parametrize(
    "path", source_files, ids=[path.relative_to(SOURCE).as_posix() for path in source_files]
)

#: First words that leave the subject of a docstring to be guessed: pronouns, clauses that stand for a noun, quantities.
NO_FIRST_WORDS = (
    "all of it", "all that", "as", "everybody", "how", "it", "its", "nobody", "so long", "so many", "so much",
    "somebody", "they", "those", "what", "where", "whether", "which", "who", "whoever", "whom", "whose",
)  # fmt: skip
LEAVES_THE_SUBJECT_OPEN = re.compile(rf"(?:{'|'.join(NO_FIRST_WORDS)})\b", re.IGNORECASE)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DocumentedNode = FunctionNode | ast.ClassDef | ast.Module


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def classes_in(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))


def assigned_in(path: Path) -> Iterator[str]:
    """The names that a module gives to types, or to anything else, by an assignment."""
    for node in tree_of(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def calls_in(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


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
    documented = (node for node in ast.walk(tree_of(path)) if isinstance(node, DocumentedNode))
    return filter(None, map(ast.get_docstring, documented))


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


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


@each_source_file
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= FILE_LINES


@each_source_file
def test_functions_stay_short(path: Path) -> None:
    functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, FunctionNode)]

    too_long = {node.name: lines_of_code(node) for node in functions if lines_of_code(node) > FUNCTION_LINES}

    assert too_long == {}


@each_source_file
def test_only_the_command_line_prints(path: Path) -> None:
    prints = [call.lineno for call in calls_in(path) if ast.unparse(call.func) == "print"]

    assert prints == [] or place(path).startswith("cli/")


@each_source_file
def test_errors_are_caught_by_name(path: Path) -> None:
    handlers = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ExceptHandler)]

    too_broad = [handler.lineno for handler in handlers if catches_everything(handler)]

    assert too_broad == [] or place(path) in MAY_CATCH_EVERYTHING


@each_source_file
def test_every_task_has_an_owner(path: Path) -> None:
    bare = [call.lineno for call in calls_in(path) if starts_bare_task(call)]

    assert bare == [] or place(path) in MAY_START_BARE_TASKS


@each_source_file
def test_parts_are_structs(path: Path) -> None:
    dataclasses = {
        node.name
        for node in classes_in(path)
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("dataclass")
    }

    assert dataclasses <= MAY_BE_DATACLASSES


def test_no_class_name_stands_for_two_things() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in source_files:
        for node in classes_in(path):
            places[node.name].append(place(path))

    twice = {name: found for name, found in places.items() if len(found) > 1 and not may_have_namesake(found)}
    aliases = {(name, place(path)) for path in source_files for name in assigned_in(path) if name in places}

    assert twice == {}
    assert aliases == set()


@each_source_file
def test_events_are_named_behind_their_module(path: Path) -> None:
    imports = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]

    by_name = {
        alias.name for node in imports if node.module == "handoff_actors.events" for alias in node.names
    }

    assert by_name <= EVENTS_WITHOUT_NAMESAKES


@each_source_file
def test_docstrings_begin_with_a_subject_or_a_verb(path: Path) -> None:
    unclear = [text.splitlines()[0] for text in docstrings_in(path) if LEAVES_THE_SUBJECT_OPEN.match(text)]

    assert unclear == []


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


@each_source_file
def test_phases_change_in_one_place(path: Path) -> None:
    targets = (
        target
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )

    changes = [
        target.lineno
        for target in targets
        if re.search(r"\bphase(\[|$)", ast.unparse(target)) is not None and not isinstance(target, ast.Name)
    ]

    assert changes == [] or place(path) == "core/run/state.py"


@each_source_file
def test_a_run_is_looked_at_through_its_view(path: Path) -> None:
    insides = re.compile(r"\bmachine\.(?!view\b)(state|scheduler|retries|feasibility)\b")

    opened = [line for line in path.read_text(encoding="utf-8").splitlines() if insides.search(line)]

    assert opened == [] or place(path).startswith("core/run/")


def test_nothing_names_a_machine_or_a_registry() -> None:
    traces: dict[str, list[str]] = {}
    for path in files_in_repository():
        found = MACHINE_TRACES.findall(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            traces[str(path.relative_to(ROOT))] = found

    assert traces == {}
