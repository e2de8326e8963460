"""Large graphs, folded to what can be read."""

import re
import time
from functools import partial
from typing import Any

import pytest

from handoff_actors.graph import DAG, Argument, Function, collocated
from tests.graph.pictures.geometry import Picture


def load(*values: Any) -> Any: ...


def clean(*values: Any) -> Any: ...


def add(*values: Any) -> Any: ...


def many_files(count: int = 1000) -> DAG:
    dag = DAG("many")
    loaded = [dag.call(load, number) for number in range(count)]
    dag.call(add, *(dag.call(clean, each) for each in loaded))
    return dag


def chain(length: int) -> DAG:
    dag = DAG("chain")
    last = dag.call(load)
    for _ in range(length):
        last = dag.call(add, last)
    return dag


def edges(mermaid: str) -> list[str]:
    return [row.strip(" ;") for row in mermaid.splitlines() if re.search("-->|-.-", row)]


def test_two_thousand_functions_are_folded_by_kind_in_every_language() -> None:
    dag = many_files()

    assert Picture.of(dag).labels() == ["load ×1000", "clean ×1000", "add-1"]
    assert dag.to_mermaid() == (
        "graph TD;\n"
        '    f0["load ×1000"];\n'
        '    f1["clean ×1000"];\n'
        '    f2["add-1"];\n'
        "    f0 --> f1;\n"
        "    f1 --> f2;\n"
    )
    assert dag.to_dot().count("->") == 2
    assert 'label="load ×1000"' in dag.to_dot()
    assert Picture.of(dag).titles()[0] == "load-1, load-2, load-3, ..., load-1000 (regular)"


def test_a_graph_can_be_unfolded_and_a_small_one_folded() -> None:
    assert len(Picture.of(many_files(50), fold=False).boxes) == 101
    assert many_files(50).to_mermaid(fold=False).count('["load-') == 50
    assert many_files(50).to_dot(fold=False).count("label=") == 101
    assert Picture.of(many_files(2)).labels() == ["load-1", "load-2", "clean-1", "clean-2", "add-1"]
    assert Picture.of(many_files(2), fold=True).labels() == ["load ×2", "clean ×2", "add-1"]
    assert Picture.of(many_files(2), fold=True).titles()[0] == "load-1, load-2 (regular)"


def test_a_tree_is_folded_by_level() -> None:
    dag = DAG()
    level = [dag.call(load, number) for number in range(64)]
    while len(level) > 1:
        level = [dag.call(add, *level[place : place + 2]) for place in range(0, len(level), 2)]

    assert Picture.of(dag).labels() == [
        "load ×64",
        "add ×32",
        "add ×16",
        "add ×8",
        "add ×4",
        "add ×2",
        "add-63",
    ]


def test_a_long_chain_is_folded_by_its_producers_and_loops() -> None:
    assert edges(chain(1000).to_mermaid()) == ["f0 --> f1", "f1 --> f2", "f2 --> f2"]
    assert Picture.of(chain(1000)).labels() == ["load-1", "add-1", "add ×999"]


def test_functions_of_one_code_with_too_many_roles_are_one() -> None:
    dag = DAG()
    codes = [code_of(number) for number in range(12)]
    made = [dag.call(code) for code in codes]
    for place, first in enumerate(made):
        for second in made[:place]:
            dag.call(add, first, second)

    labels = Picture.of(dag).labels()

    assert labels[-1] == "add ×66"
    assert len(labels) == 13


def code_of(number: int) -> Any:
    namespace: dict[str, Any] = {}
    exec(f"def f{number}(*values): ...", namespace)
    return namespace[f"f{number}"]


def test_more_codes_than_can_be_drawn_are_cut_and_it_is_said() -> None:
    dag = DAG()
    for number in range(300):
        dag.call(code_of(number))

    labels = Picture.of(dag).labels()

    assert len(labels) == 201
    assert labels[-1] == "... and 100 more boxes"
    assert '>"... and 100 more boxes"]' in dag.to_mermaid()
    assert "shape=plaintext" in dag.to_dot()
    assert "text/vnd.mermaid" not in dag._repr_mimebundle_()


def test_more_lines_than_mermaid_draws_are_cut() -> None:
    dag = DAG()
    made: list[Any] = []
    for number in range(61):
        made.append(dag.call(code_of(number), *made))

    assert len(edges(dag.to_mermaid())) == 400
    assert Picture.of(dag).labels()[-1] == "... and 1430 more lines"
    assert len(edges(dag.to_mermaid(fold=False))) == 61 * 60 / 2


def test_codes_are_told_apart_by_name_definition_and_type() -> None:
    def made(number: int) -> Any:
        return lambda: number

    dag = DAG()
    for number in range(100):
        dag.call(made(number))
        dag.call(lambda: 2)
        dag.call(partial(load, number))
        dag.call(load, type="inline")
        dag.call(len, [1])
        dag.add_function(Function(("in", number), [], None, type="input"))

    assert Picture.of(dag).labels() == [
        "<lambda> ×100", "<lambda> ×100", "load ×100", "load ×100", "len ×100", "input ×100",
    ]  # fmt: skip


class Odd:
    """A callable whose attributes can't be had."""

    def __init__(self) -> None:
        self.__qualname__ = Odd

    @property
    def __wrapped__(self) -> Any:
        raise ValueError("not wrapped")

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        raise SystemExit


def test_codes_and_ids_that_answer_oddly_are_drawn() -> None:
    dag = DAG()
    for number in range(100):
        dag.call(Odd())
        dag.add_function(Function(("\x1b[2J]]>", number), [], load))

    [odd, named] = Picture.of(dag).labels()

    assert odd == "<class 'tests.graph.p…"
    assert named == "load ×100"
    assert Picture.of(DAG().add_function(Function(Odd(), [], load))).labels() == ["<Odd whose repr raise…"]


def test_hooks_collocations_and_missing_functions_are_folded_too() -> None:
    dag = DAG().add_functions(
        Function(number, [Argument(f"gone-{number}", serialize=add)], load, node=collocated(f"away-{number}"))
        for number in range(100)
    )

    assert Picture.of(dag).labels() == ["load ×100", "missing ×200"]
    assert edges(dag.to_mermaid()) == ["f1 -->|hook| f0", "f0 -.-|collocated| f1"]


def test_a_large_graph_with_a_cycle_is_folded() -> None:
    ring = DAG().add_functions(Function(number, [(number + 1) % 500], add) for number in range(500))

    assert Picture.of(ring).labels() == ["add ×500"]
    assert edges(ring.to_mermaid()) == ["f0 --> f0"]


def test_functions_in_any_order_are_folded_alike() -> None:
    dag = DAG().add_function(Function("sum", [f"clean-{number}" for number in range(99)], add))
    for number in range(99):
        dag.add_function(Function(f"clean-{number}", [f"load-{number}"], clean))
    for number in range(99):
        dag.add_function(Function(f"load-{number}", [], load))

    assert Picture.of(dag).labels() == ["sum", "clean ×99", "load ×99"]
    assert edges(dag.to_mermaid()) == ["f1 --> sum", "f2 --> f1"]


def test_long_ids_are_shortened_everywhere() -> None:
    dag = DAG().add_function(Function("<&" + "x" * 100_000, [], add))

    pictures = [dag.to_mermaid(), dag.to_dot(), dag.to_svg()]

    assert max(map(len, pictures)) < 2000
    assert Picture.of(dag).labels()[0].startswith("<&xxx")


@pytest.mark.parametrize("make", [lambda: many_files(10_000), lambda: chain(20_000)], ids=["wide", "deep"])
def test_twenty_thousand_functions_are_shown_within_moments(make: Any) -> None:
    dag = make()

    began_at = time.process_time()
    picture = Picture.parsed(dag._repr_mimebundle_()["image/svg+xml"])

    # It takes less than 0.1 s, and with coverage five times as much.
    assert time.process_time() - began_at < 2.0
    assert len(picture.boxes) == 3
