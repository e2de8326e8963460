"""mypy and pyright see the types of a user's program: those of results, of options, and of decorated functions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: No Python file to the checks of this repository, as it is wrong on purpose.
TEXT = (Path(__file__).parent / "program.txt").read_text(encoding="utf-8")
SOURCE = Path(__file__).parents[2] / "src"
WRONG = {number for number, line in enumerate(TEXT.splitlines(), 1) if line.endswith("# WRONG")}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(TEXT, encoding="utf-8")
    return path


def output_of(*command: str | Path) -> str:
    """Return what a checker prints. It ends with 1, as it finds the errors."""
    ended = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


def test_mypy_sees_what_is_wrong_and_nothing_else(program: Path) -> None:
    settings = program.with_name("mypy.ini")
    settings.write_text(f"[mypy]\nstrict = true\nmypy_path = {SOURCE}\n")

    printed = output_of("mypy", "--config-file", settings, "--output", "json", program)

    found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert {error["line"] for error in found if error["severity"] == "error"} == WRONG, printed


def test_pyright_sees_what_is_wrong_and_nothing_else(program: Path) -> None:
    # basedpyright is pyright with node in its wheel, so that nothing is downloaded; "standard" are pyright's own rules.
    settings = program.with_name("pyrightconfig.json")
    settings.write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(SOURCE)], "include": [str(program)]})
    )

    printed = output_of("basedpyright", "--outputjson", "--level", "error", "--project", settings)

    found = json.loads(printed)["generalDiagnostics"]
    assert {error["range"]["start"]["line"] + 1 for error in found} == WRONG, printed
