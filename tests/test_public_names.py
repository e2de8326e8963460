"""The names that `import handoff_actors as handoff` gives."""

import ast
from pathlib import Path

import pytest

import handoff_actors as handoff


@pytest.mark.parametrize("name", handoff.__all__)
def test_every_public_name_is_there_and_says_what_it_does(name: str) -> None:
    value = getattr(handoff, name)

    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(handoff.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert seen | {"__version__"} == set(handoff.__all__) == set(dir(handoff))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scheduler'"):
        _ = handoff.scheduler
