"""Each recipe is a whole program. tests/docs/test_pages.py runs them, one after the other in one notebook."""

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import snippets


def test_no_recipe_needs_what_another_one_has_made(tmp_path: Path) -> None:
    recipes = snippets("recipes.md", "python")
    for number, recipe in enumerate(recipes):
        (tmp_path / f"recipe_{number}.py").write_text(recipe, encoding="utf-8")

    undefined_names = ["check", "--isolated", "--no-cache", "--select", "F821", str(tmp_path)]
    checked = subprocess.run(
        [Path(sys.executable).with_name("ruff"), *undefined_names],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert len(recipes) >= 9
    assert checked.returncode == 0, checked.stdout
