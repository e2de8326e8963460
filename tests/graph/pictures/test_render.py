from typing import Any
from xml.etree import ElementTree as ET

from handoff_actors.graph import DAG, Argument, Function, collocated

SVG = "{http://www.w3.org/2000/svg}"


def add(*values: Any) -> Any:
    return sum(values)


def every_kind() -> DAG:
    return DAG("all").add_functions(
        [
            Function("in", [], None, type="input"),
            Function("half", ["in", "in"], add, type="inline"),
            Function(("a", 1), ["half", Argument("in", serialize=add)], add),
            Function("b", ["gone"], add, node=collocated(("a", 1))),
        ]
    )


def svg_of(dag: DAG) -> ET.Element:
    return ET.fromstring(dag._repr_svg_())


def test_mermaid_shows_every_kind_of_function_and_relation() -> None:
    assert every_kind().to_mermaid() == (
        "graph TD;\n"
        '    in[/"in"/];\n'
        '    half(["half"]);\n'
        '    f2["(#39;a#39;, 1)"];\n'
        '    b["b"];\n'
        '    gone{{"gone"}};\n'
        "    in --> half;\n"
        "    half --> f2;\n"
        "    in -->|hook| f2;\n"
        "    gone --> b;\n"
        "    b -.-|collocated| f2;\n"
    )


def test_ids_that_mermaid_would_misread_get_names_of_their_own() -> None:
    dag = DAG().add_functions(
        [Function("end", [], add), Function("f0", ["end"], add), Function("a-b", ["f0"], add)]
    )

    assert dag.to_mermaid() == (
        'graph TD;\n    f0["end"];\n    f1["f0"];\n    f2["a-b"];\n    f0 --> f1;\n    f1 --> f2;\n'
    )


def test_dot_shows_every_kind_of_function_and_relation() -> None:
    assert every_kind().to_dot() == (
        'digraph "all" {\n'
        '    f0 [label="in", shape=parallelogram];\n'
        '    f1 [label="half", shape=box, style=rounded];\n'
        "    f2 [label=\"('a', 1)\", shape=box];\n"
        '    f3 [label="b", shape=box];\n'
        '    f4 [label="gone", shape=box, style=dashed, color=red];\n'
        "    f0 -> f1;\n"
        "    f1 -> f2;\n"
        '    f0 -> f2 [label="hook"];\n'
        "    f4 -> f3;\n"
        "    f3 -> f2 [style=dotted, dir=none, constraint=false];\n"
        "}\n"
    )


def test_no_id_breaks_out_of_its_label() -> None:
    dag = DAG('"]').add_function(Function('"]; <script>\n\\&#', [], add))

    assert '"#34;#93;#59; #60;script#62;#92;n#92;#38;#35;"' in dag.to_mermaid()
    assert 'digraph "\\"]" {\n    f0 [label="\\"]; <script>\\\\n\\\\&#"' in dag.to_dot()
    assert svg_of(dag).findtext(f".//{SVG}text") == '"]; <script>\\n\\&#'


def test_no_id_reaches_a_terminal_as_more_than_letters() -> None:
    hostile = "\x1b[2J\u202e\x9b\udc80"
    dag = DAG(hostile).add_functions([Function(hostile, [], add), Function("b", [hostile + "\n"], add)])

    pictures = [dag.to_mermaid(), dag.to_dot(), dag._repr_svg_()]

    assert [picture.replace("\n", "").isprintable() for picture in pictures] == [True, True, True]
    assert dag.to_dot().startswith(r'digraph "\\x1b[2J\\u202e\\x9b\\udc80" {')
    assert svg_of(dag).findtext(f".//{SVG}title") == r"\x1b[2J\u202e\x9b\udc80 (regular)"


def test_svg_puts_each_function_below_what_it_takes() -> None:
    dag = DAG().add_functions(
        [
            Function("d", ["b", "c"], add),
            Function("c", ["a"], add),
            Function("b", ["a"], add),
            Function("a", [], add),
        ]
    )

    picture = svg_of(dag)

    d, c, b, a = ((float(box.get("y", "")), float(box.get("x", ""))) for box in picture.iter(f"{SVG}rect"))
    assert a[0] < b[0] == c[0] < d[0]
    assert b[1] != c[1]


def test_svg_shortens_long_labels_and_keeps_them_in_full_as_titles() -> None:
    picture = svg_of(DAG().add_function(Function("x" * 50, [], add)))

    assert picture.findtext(f".//{SVG}text") == "x" * 21 + "…"
    assert picture.findtext(f".//{SVG}title") == "x" * 50 + " (regular)"


def test_wrong_and_empty_graphs_have_a_picture_too() -> None:
    ring = DAG().add_functions([Function("a", ["b"], add), Function("b", ["a"], add), Function("c", [], add)])

    assert len(list(svg_of(ring).iter(f"{SVG}rect"))) == 3
    assert len(list(svg_of(every_kind()).iter(f"{SVG}rect"))) == 5
    assert list(svg_of(DAG())) == []
