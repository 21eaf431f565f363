"""Genotypes in the forms in which they are written down elsewhere: round trips, what is detected, and what is refused."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_cli import DartsError
from darts_cli.formats import genotypes
from darts_cli.formats.genotypes import WRITERS, parse
from darts_cli.genotype import Cell, Genotype, load, names, random_genotype
from darts_cli.spaces.space import default

V2 = load("cnn/darts_v2")


def expressed(genotype):
    """The forms that can express a genotype: tuples know the search's operations only, strings no choice of concat."""
    forms = {"yaml", "python", "dict"}
    first = 2 if genotype.domain == "cnn" else 1
    if all(list(cell.concat) == list(range(first, first + len(cell.nodes))) for cell in genotype.cells.values()):
        forms |= {"string"} | ({"tuples"} if genotype.domain == "cnn" else set())
    return forms


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("form", WRITERS)
def test_every_form_of_every_published_cell_reads_back(name, form):
    genotype = load(name)
    if form in expressed(genotype):
        assert parse(WRITERS[form](genotype), "here") == genotype
    else:
        with pytest.raises(DartsError, match="express"):
            WRITERS[form](genotype)


def test_which_published_cells_have_which_form():
    """Known by hand: AmoebaNet, NASNet and ENAS leave nodes out of their output."""
    partial = {name for name in names() if "string" not in expressed(load(name))}
    assert partial == {"cnn/AmoebaNet", "cnn/NASNet", "rnn/ENAS"}


@pytest.mark.parametrize(("domain", "form"), [(d, f) for d in ("cnn", "rnn") for f in WRITERS if (d, f) != ("rnn", "tuples")])
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_form_of_random_cells_reads_back(domain, form, seed):
    genotype = random_genotype(default(domain), random.Random(seed))
    assert form in expressed(genotype)
    assert parse(WRITERS[form](genotype), "here") == genotype


def test_the_originals_literal():
    """As it stands in the original's genotypes.py and in its logs."""
    text = """DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
      ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5],
      reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),
      ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"""
    assert parse(text, "here") == V2
    assert parse(text, "here").name == "DARTS_V2"
    assert parse(text.removeprefix("DARTS_V2 = "), "here") == V2
    recurrent = """Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5),
      ('tanh', 3), ('relu', 5)], concat=range(1, 9))"""
    assert parse(recurrent, "here") == load("rnn/darts_v2")
    assert WRITERS["python"](V2).startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ")
    assert "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0)," in WRITERS["python"](V2)
    assert WRITERS["python"](load("nasnet")).endswith("reduce_concat=range(4, 7))\n")
    assert "concat=[2, 5, 6, 9, 10, 11]" in WRITERS["python"](load("enas"))


def nested(genotype, convert):
    cells = {name: [[convert(edge) for edge in node] for node in cell.nodes] for name, cell in genotype.cells.items()}
    return {key: value for name in cells for key, value in ((name, cells[name]), (f"{name}_concat", [2, 3, 4, 5]))}


def test_the_forms_that_later_implementations_print():
    by_node = nested(V2, tuple)
    keywords = ", ".join(f"{key}={value}" for key, value in by_node.items())
    assert parse(f"Genotype({keywords})", "here") == V2  # one list per node
    assert parse(repr(f"Genotype({keywords})"), "here") == V2  # as text in a log of dictionaries
    assert parse(f"Genotype({keywords}, connectN=None, connects=None)", "here") == V2
    weighted = nested(V2, lambda edge: (*edge, 0.137))
    assert parse(repr(weighted), "here") == V2  # operation, input, weight
    assert parse(json.dumps(by_node), "here") == V2
    assert parse(json.dumps(json.dumps(by_node)), "here") == V2
    assert parse(repr({"normal": by_node["normal"], "reduce": by_node["reduce"]}), "here") == V2  # all nodes joined
    assert parse(json.dumps(V2.to_dict()), "here") == V2
    assert parse(repr(V2.to_dict()), "here") == V2
    nni = {}
    for name, cell in V2.cells.items():
        for i, node in enumerate(cell.nodes, 2):
            for k, (op, state) in enumerate(node):
                nni |= {f"{name}/op_{i}_{k}": op, f"{name}/input_{i}_{k}": [state] if k else state}
    assert parse(json.dumps(nni), "here") == V2
    strings = WRITERS["string"](V2)
    assert strings.splitlines()[0].startswith("normal |sep_conv_3x3~0|sep_conv_3x3~1|+|sep_conv_3x3~0|")
    normal, reduce = (line.split()[1] for line in strings.splitlines())
    assert parse(f"{normal}\n\n{reduce}\n", "here") == V2
    assert parse(f"reduce: {reduce}\nnormal: {normal}\n", "here") == V2


def test_bananas_tuples_count_none_as_the_first_operation():
    assert WRITERS["tuples"](V2).startswith("([(0, 4), (1, 4), (0, 4), (1, 4), (1, 4), (0, 3), (0, 3), (2, 6)], [(0, 1), ")


def test_a_line_of_the_originals_log():
    line = f"03/14 11:07:23 AM genotype = {WRITERS['python'](V2)}"
    assert parse(line, "here") == V2
    assert parse(line.strip() + ",\n", "here") == V2
    assert parse("\ufeff# comment | more\n" + WRITERS["python"](V2), "here") == V2


def test_an_order_of_the_output_is_kept_or_refused():
    node = V2.cells["normal"].nodes[0]
    genotype = Genotype("cnn", dict.fromkeys(("normal", "reduce"), Cell((node, node), (3, 2))))
    for form, write in WRITERS.items():
        if form in ("tuples", "string"):
            with pytest.raises(DartsError, match="express"):
                write(genotype)
        else:
            assert parse(write(genotype), "here").cells["normal"].concat == (3, 2)


HEX = "0x" + "f" * 9000
REFUSED = [
    "__import__('os').system('touch pwned')",
    "Genotype(normal=__import__('os').system('touch pwned'))",
    "Genotype(normal=open('pwned', 'w'), normal_concat=range(2, 6))",
    "Genotype(normal=NORMAL, normal_concat=range(2, 6))",
    "Genotype(normal=[], normal_concat=range(6))",
    "Genotype(normal=[], normal_concat=range(2, 6, 1))",
    "Genotype(normal=[], normal_concat=range(2, 3 + 3))",
    "Genotype(normal=[], normal_concat=list(range(2, 6)))",
    "Genotype(normal=Genotype(normal=[]))",
    "Genotype(*[])",
    "Genotype(**{'normal': []})",
    "genotypes.Genotype(normal=[])",
    "dict(normal=[])",
    "[x for x in ()]",
    "(lambda: 0)()",
    "f'{x}'",
    "{**{}}",
    "{1, 2}",
    "b'normal'",
    "1j",
    "a.b = []",
    "a = b = []",
    "x := 3",
    "(x := 3)",
]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_is_evaluated(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DartsError, match=r"^here: .*(is not allowed|known notation)") as error:
        parse(text, "here")
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_names_the_place():
    text = "Genotype(\n  normal=[('sep_conv_3x3', i)])"
    with pytest.raises(DartsError, match="^here: line 2, column 28: 'i' is not allowed; a genotype is made of lists, text"):
        parse(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold one genotype and nothing else"),
        ("import os", "must hold one genotype and nothing else"),
        ("[]\n[]", "must hold one genotype and nothing else"),
        ("genotype", "'genotype' is not allowed"),
        ("not a genotype at all", "known notation"),
        ("(" * 100_000, "100,000 characters, but a literal may have"),
        ("(" * 60_000, "known notation"),
        ("-" * 60_000 + "1", "known notation|is not allowed"),
        ("a" + ".a" * 30_000, "known notation|is not allowed"),
        ("\0", "known notation"),
        ("3", "known notation"),
        ("[[[0, 1, 2]]]", "must be two lists of"),
        ("Genotype(normal=[], reduce=[])", "normal: must be a list of edges"),
        ("Genotype(normal=3)", "normal: must be a list of edges"),
        ("Genotype(normal=[('sep_conv_3x3', 0)])", "normal: 1 edges cannot be 2 per node"),
        ("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 9)])", r"normal.nodes\[0\]\[1\]: input 9 does not exist"),
        ("Genotype(normal=[('sep', 0), ('sep_conv_3x3', 1)])", r"normal.nodes\[0\]\[0\]: unknown operation 'sep'"),
        ("Genotype(normal=[('sep_conv_3x3', 0, 'x'), ('sep_conv_3x3', 1)])", r"nodes\[0\]\[0\]: an edge is"),
        ("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], middle=[])", "'middle': unknown key; the fields"),
        ("Genotype(normal=[], normal_concat=range(0, 100000000))", "no number in a genotype is so large"),
        ("Genotype(normal=[], normal_concat=range(0, 5000))", r"range\(0, 5000\): no cell has so many nodes"),
        ("{'normal/op_3_0': 'none'}", "normal: nodes are missing"),
        ("{'normal/op_2_0': 'none'}", r"normal.nodes\[0\]\[0\]: the input must be the number of a state"),
        ("|tanh~0|+|relu~1|", None),
        ("|tanh~0|relu~1|", "in the domain cnn there must be one line for each of normal, reduce"),
        ("|sep_conv_3x3~0|sep_conv_3x3~1|\nand more|", "a line of the string notation is"),
        ("normal |sep_conv_3x3~0|sep_conv_3x3|\nreduce |a~0|b~1|", "must be nodes joined by"),
        (f"Genotype(normal=[], normal_concat=range(0, {HEX}))", "no number in a genotype is so large"),
        (f"{{{HEX}: 1}}", "no number in a genotype is so large"),
        (f"[[({HEX}, 1), (0, 1)], [(0, 1), (0, 1)]]", "no number in a genotype is so large"),
        (f"domain: cnn\nnormal: {HEX}", "more than 4,096 bits"),
        ("([(1e999, 1), (0, 1)], [(0, 1), (0, 1)])", "must be two lists of"),
        ("([(0.9, 1), (0, 1)], [(0, 1), (0, 1)])", "must be two lists of"),
        ("([(True, 1), (0, 1)], [(0, 1), (0, 1)])", "must be two lists of"),
        ("([('0', 1), (0, 1)], [(0, 1), (0, 1)])", "must be two lists of"),
        ("{'normal': [], 'normal': []}", "'normal': this key is given twice"),
        ("\n\n  Genotype(normal=x)", "line 3, column 19: 'x' is not allowed"),
        ("normal |a~0|b~1|\nnormal |a~0|b~1|", "there must be one line for each"),
        ("domain: [", "not valid YAML"),
        ("domain: cnn", "normal: this cell is missing"),
        ("{domain: cnn}", "normal: this cell is missing"),
    ],
)
def test_what_is_no_genotype(text, message):
    if message is None:
        assert parse(text, "here").domain == "rnn"
        return
    with pytest.raises(DartsError, match=f"^here: .*{message}"):
        parse(text, "here")


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text(alphabet="Genotype(normal=[('sep_conv_3x3', 0)])|~+{}:\n\"range", max_size=200))
def test_any_text_is_a_genotype_or_an_error(text):
    message = ""
    try:
        found = parse(text, "here")
    except DartsError as error:
        message = str(error)
    assert message.startswith("here: ") if message else isinstance(found, Genotype)


def test_a_cell_of_one_node():
    cell = Cell((V2.cells["normal"].nodes[0],), (2,))
    genotype = Genotype("cnn", {"normal": cell, "reduce": cell})
    for write in genotypes.WRITERS.values():
        assert parse(write(genotype), "here") == genotype
