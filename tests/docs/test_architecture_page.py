"""The page of the architecture, and that for contributors, name what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "handoff_actors"
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
PATH = re.compile(r"(?<![./\w])(?:\w+/)+(?:\w+\.(?:py|txt|md|toml))?|\bscripts/\w+")
#: A path may begin in any folder of these, as those in a picture do.
FOLDERS = [
    ROOT,
    *(path for top in (SOURCE, ROOT / "docs") for path in (top, *top.rglob("*")) if path.is_dir()),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_the_page_exists(page: str) -> None:
    text = re.sub(r"https?://\S+", "", (ROOT / page).read_text(encoding="utf-8"))

    missing = [path for path in PATH.findall(text) if not any((folder / path).exists() for folder in FOLDERS)]

    assert missing == []


def test_every_room_is_in_the_picture() -> None:
    picture = (ROOT / PAGES[0]).read_text(encoding="utf-8").split("```")[1]
    rooms = [path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")]

    missing = [str(room) for room in rooms if room.parts and f"{room.name}" not in picture]

    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_class_on_the_page_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    names = set(re.findall(r"`([A-Z][a-z]\w+)(?:\.\w+)?`", text))

    missing = [name for name in sorted(names) if not re.search(rf"^class {name}\b", source, re.MULTILINE)]

    assert missing == []
