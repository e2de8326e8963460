"""Every snippet of docs/integrations.md is run, as it stands there."""

import pytest

from tests.docs.pages import snippets
from tests.docs.programs import run_program

SNIPPETS = snippets("integrations.md", "python")
PRINTS = [
    "1024 332833500",
    "[1, 2]",
    "(np.float64(2000000.0),)\n1.0",
    "{'C': 1.0}",
    "5\n[('three', 'sum'), ('two', 'sum')]",
    "6",
]


@pytest.mark.processes
@pytest.mark.parametrize(("snippet", "printed"), list(zip(SNIPPETS, PRINTS, strict=True)))
def test_a_snippet_prints_what_it_should(snippet: str, printed: str) -> None:
    done = run_program(snippet)

    assert done.stdout.strip() == printed
