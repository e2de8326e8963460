"""The site of the documentation is built without a warning, and has every page and every public name."""

import html
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import markdown
import pytest

import handoff_actors as handoff
from tests.docs.pages import DOCS

ROOT = DOCS.parent
#: Public modules that are imported by their own names, since they need packages that the rest does not.
MODULES_OF_THEIR_OWN = ("handoff_actors.integrations.", "handoff_actors.pytest_plugin.")
ELSEWHERE = re.compile(r'<(?:script|link|img)\b[^>]*(?:src|href)="(https?://[^"]+)"')


def pages_in(entry: Any) -> Iterator[str]:
    """The pages of an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
        return
    for part in entry.values() if isinstance(entry, dict) else entry:
        yield from pages_in(part)


def test_every_page_is_in_the_navigation() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))

    assert sorted(pages_in(config["project"]["nav"])) == sorted(
        path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    )


def test_each_way_to_run_nodes_is_found_from_their_overview() -> None:
    overview = (DOCS / "deployment.md").read_text(encoding="utf-8").partition("## What a node needs")[0]

    linked = re.findall(r"\]\((deployment/[\w-]+\.md)", overview)

    assert set(linked) == {path.relative_to(DOCS).as_posix() for path in (DOCS / "deployment").iterdir()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy, so that nothing is left in the repository."""
    root = tmp_path_factory.mktemp("site")
    # Links are not followed.
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("benchmarks/README.md", "CHANGELOG.md", "scripts/site_links.py", "zensical.toml"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    built = subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "scripts")},
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" not in (built.stdout + built.stderr).lower()
    return root / "site"


def test_the_reference_has_the_public_names_and_nothing_else() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "reference").rglob("*.md")]
    shown = [name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]

    assert sorted(name for name in shown if not name.startswith(MODULES_OF_THEIR_OWN)) == sorted(
        f"handoff_actors.{name}" for name in handoff.__all__ if name != "__version__"
    )


def test_every_public_name_has_its_entry_in_the_built_reference(site: Path) -> None:
    anchors = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").rglob("*.html"))

    missing = [name for name in handoff.__all__ if f'id="handoff_actors.{name}"' not in anchors]

    assert missing == ["__version__"]


def test_pages_kept_elsewhere_are_there(site: Path) -> None:
    assert "independent no-ops" in (site / "benchmarks" / "index.html").read_text(encoding="utf-8")
    assert "Unreleased" in (site / "changelog" / "index.html").read_text(encoding="utf-8")


def figures(page: Path) -> list[list[str]]:
    """The cells of each row that has a speed or a time, but for the first."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.split("|")[2:] for line in lines if re.search(r"\d(?:/s| ms) \|", line)]


def test_the_comparison_has_the_figures_of_the_readme() -> None:
    assert figures(DOCS / "comparison.md") == figures(ROOT / "README.md") != []


def test_links_to_sources_become_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    text = "[a](../examples/a.py) [b](../../src) [c](../errors.md) [d](examples/d.md)"

    rendered = markdown.markdown(text, extensions=["site_links"])

    assert rendered == (
        '<p><code>a</code> <code>b</code> <a href="../errors.md">c</a> <a href="examples/d.md">d</a></p>'
    )


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = {
        html.unescape(address)
        for path in site.rglob("*.html")
        for address in ELSEWHERE.findall(path.read_text(encoding="utf-8"))
    }

    assert not loaded


def test_no_link_within_the_site_leads_nowhere(site: Path) -> None:
    broken = [
        f"{page.relative_to(site)}: {link}"
        for page in site.rglob("*.html")
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8"))
        if not exists(site, page, html.unescape(link))
    ]

    assert not broken


def exists(site: Path, page: Path, link: str) -> bool:
    """True if the target of a link exists."""
    target = site / link.lstrip("/") if link.startswith("/") else page.parent / link
    return (target / "index.html").exists() if link.endswith(("/", ".", "..")) else target.exists()
