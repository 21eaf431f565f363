"""Genotypes in the forms in which they are written down elsewhere: round trips, what is detected, and what is refused."""

import json
import random

import pytest
from click.testing import CliRunner
from conftest import darts
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_cli import DartsError
from darts_cli.cli import main
from darts_cli.formats import genotypes
from darts_cli.formats.genotypes import WRITERS, parse
from darts_cli.genotype import Cell, Edge, Genotype, load, names, random_genotype, save
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
    "Genotype(normal=[], normal_concat=list(open('pwned', 'w')))",
    "Genotype(normal=[], normal_concat=sorted(range(2, 6)))",
    "Genotype(normal=[], normal_concat=list(range(2, 6), 3))",
    "Genotype(normal=[('sep_conv_3x3', 0)], normal_concat=list(map(print, 'a')))",
    "Genotype(normal=Genotype(normal=[]))",
    "Genotype(*[])",
    "Genotype(**{'normal': []})",
    "genotypes.Genotype(normal=genotypes.NORMAL)",
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
        ("", "known notation"),
        ("import os", "known notation"),
        ("[]\n[]", "line 2, column 1: holds no genotype in a known notation .invalid syntax"),
        ("genotype", "known notation"),
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
        ("|sep_conv_3x3~0|sep_conv_3x3~1|\nand more|", "there must be one line for each of normal, reduce; alone stands"),
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


# ---- what must not be misread


def every_edge(nodes, first, op="sep_conv_3x3"):
    """Every edge of a cell in one list, as a search network has them."""
    return [(op if j else "skip_connect", j) for node in range(nodes) for j in range(first + node)]


FLAT = every_edge(4, 2)
ALL_EDGES = {
    "fourteen": f"Genotype(normal={FLAT}, normal_concat=range(2, 6), reduce={FLAT}, reduce_concat=range(2, 6))",
    "list": f"Genotype(normal={FLAT}, normal_concat=[2, 3, 4, 5], reduce={FLAT}, reduce_concat=[2, 3, 4, 5])",
    "mapping": json.dumps({"normal": FLAT, "normal_concat": [2, 3, 4, 5], "reduce": FLAT, "reduce_concat": [2, 3, 4, 5]}),
    "reduction": f"{{'normal': {FLAT}, 'normal_concat': range(2, 6), 'reduction': {FLAT}, 'reduction_concat': range(2, 6)}}",
    "log": f"12:00 genotype = Genotype(normal={FLAT}, normal_concat=range(2, 6), reduce=[], reduce_concat=range(2, 6))",
    "five nodes": f"Genotype(normal={every_edge(5, 2)}, normal_concat=range(2, 7))",
    "three edges": f"Genotype(normal={[('sep_conv_3x3', j) for _ in range(4) for j in (0, 1, 0)]}, normal_concat=range(2, 6))",
    "none": f"Genotype(normal={every_edge(4, 2, 'none')}, normal_concat=range(2, 6))",
    "text": f"Genotype(recurrent={every_edge(8, 1, 'tanh')}, concat=range(1, 9))".replace("skip_connect", "relu"),
}


@pytest.mark.parametrize("text", ALL_EDGES.values(), ids=ALL_EDGES)
def test_all_edges_in_one_list_are_refused(text):
    message = (
        r"^here: (normal|recurrent): \d+ edges in one list are \d+ nodes of [12], but .* uses state \d+ then; write one list"
    )
    with pytest.raises(DartsError, match=message):
        parse(text, "here")


def test_all_edges_by_node_are_read():
    by_node = [[("sep_conv_3x3", j) for j in range(2 + i)] for i in range(4)]
    text = f"Genotype(normal={by_node}, normal_concat=range(2, 6), reduce={by_node}, reduce_concat=range(2, 6))"
    assert [len(node) for node in parse(text, "here").cells["normal"].nodes] == [2, 3, 4, 5]
    assert parse(WRITERS["python"](parse(text, "here")), "here") == parse(text, "here")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_own_output_reads_back_whatever_the_output_joins(seed, data):
    """Also cells with a node that nothing uses: then the flat list would be refused."""
    genotype = random_genotype(default("cnn"), random.Random(seed))
    concat = data.draw(st.lists(st.sampled_from([2, 3, 4, 5]), min_size=1, max_size=4, unique=True))
    cells = {name: Cell(cell.nodes, tuple(concat)) for name, cell in genotype.cells.items()}
    genotype = Genotype("cnn", cells)
    for form in ("yaml", "python", "dict"):
        assert parse(WRITERS[form](genotype), "here") == genotype


@settings(max_examples=300, deadline=None)
@given(name=st.text(), notes=st.text() | st.none())
def test_own_output_reads_back_with_any_name(name, notes):
    cells = Genotype("cnn", V2.cells, name=name, notes=notes)
    for text in (cells.to_yaml(), json.dumps(cells.to_dict()), json.dumps({"genotype": cells.to_dict()})):
        read = parse(text, "here")
        assert (read, read.name, read.notes) == (V2, name, notes)


NAMES = ["a 😀", "😀", "a\x85b", "\u2028", "x\u2029y", "\ufeff", "\U0010ffff", "é\x85", "null", "1", "", " ", "a: b"]
NAMES += ["'", '"', "a\nb", "#", "Genotype(normal=['", "---\ndomain: rnn", "```", "a (", "{", "|a~0|"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_read_back(name, tmp_path):
    cells = Genotype("cnn", V2.cells, name=name)
    save(cells, tmp_path / "cell.yaml")
    (tmp_path / "cell.json").write_text(darts("genotype", "show", tmp_path / "cell.yaml", "--json").stdout)
    for path in ("cell.yaml", "cell.json"):
        assert json.loads(darts("genotype", "show", tmp_path / path, "--json").stdout)["name"] == name
        assert genotypes.load(tmp_path / path).name == name


@pytest.mark.parametrize("name", ["\ud83d", "a\ude00", "\ude00\ud83d"])
def test_half_a_character_is_refused(name):
    with pytest.raises(DartsError, match="^here: name: must be text"):
        parse(json.dumps(V2.to_dict() | {"name": name}), "here")


@pytest.mark.parametrize(("domain", "count"), [("cnn", 1), ("cnn", 2), ("cnn", 5), ("rnn", 3), ("rnn", 12), ("cnn", 30)])
def test_a_stream_of_random_cells_reads_back(domain, count, tmp_path):
    rng = random.Random(7)
    drawn = [random_genotype(default(domain), rng) for _ in range(count)]
    path = tmp_path / "cells.yaml"
    path.write_text(darts("genotype", "random", domain, "--seed", 7, "--count", count).stdout)
    assert [genotypes.load(f"{path}:{i}") for i in range(1, count + 1)] == drawn
    assert darts("genotype", "validate", path).stdout == f"{path}: valid\n"
    if count > 1:
        with pytest.raises(DartsError, match=rf"holds {count} genotypes: 1, 2.*; choose one, such as .*cells.yaml:1"):
            genotypes.load(path)
        with pytest.raises(DartsError, match=f"no genotype of the name {count + 1}; it holds 1, 2"):
            genotypes.load(f"{path}:{count + 1}")


EDGES = "[('sep_conv_3x3', 0), ('skip_connect', 1)]"


@pytest.mark.parametrize(
    "text",
    [
        f"{{'normal': {EDGES}, 'normal_concat': range(2, 3), 'reduction': {EDGES}, 'reduction_concat': range(2, 3)}}",
        f"Genotype(normal={EDGES}, normal_concat=range(2, 3), reduction={EDGES}, reduction_concat=[2])",
        f"Genotype(normal={EDGES}, normal_concat=list(range(2, 3)), reduce={EDGES}, reduce_concat=list(range(2, 3)))",
        f"Genotype(normal={EDGES}, normal_concat=tuple(range(2, 3)), reduce={EDGES}, reduce_concat=tuple([2]))",
        f"Genotype(normal=list({EDGES}), normal_concat=list((2,)), reduce=tuple({EDGES}), reduce_concat=[2])",
        f"Genotype(normal={EDGES}, normal_concat=None, reduce={EDGES}, reduce_concat=None, connects=None)",
        '{"normal": [["sep_conv_3x3", 0], ["skip_connect", 1]], "normal_concat": null, "connects": null, '
        '"reduction": [["sep_conv_3x3", 0], ["skip_connect", 1]], "reduction_concat": null}',
        "12:00 {'normal': [['sep_conv_3x3', 0], ['skip_connect', 1]], 'normal_concat': null, "
        "'reduce': [['sep_conv_3x3', 0], ['skip_connect', 1]]}",
        f"Genotype(normal={EDGES}, normal_concat=range(2, 3), reduce=None, reduction={EDGES})",
    ],
)
def test_fields_that_are_spelled_otherwise(text):
    cell = Cell(((Edge("sep_conv_3x3", 0), Edge("skip_connect", 1)),), (2,))
    assert parse(text, "here") == Genotype("cnn", {"normal": cell, "reduce": cell})


def test_a_cell_that_is_given_by_both_spellings_is_refused():
    with pytest.raises(DartsError, match="here: 'reduction': this key is given twice, the other time as reduce"):
        parse(f"Genotype(normal={EDGES}, reduce={EDGES}, reduction={EDGES})", "here")


# ---- tuples


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("(((0, 3), (1, 2)), ((0, 0), (1, 2)))", True),
        ("([(0, 0), (1, 3)], [(0, 6), (1, 4)])", True),
        ("([(0, 1), (1, 3)], [(0, 6), (1, 4)])", True),
        ("[[[0, 0], [1, 7]], [[0, 6], [1, 4]]]", True),
        ("12:00 best ([(0, 6), (1, 6)], [(0, 6), (1, 6)])", True),
        ("([(0, 7), (1, 3)], [(0, 6), (1, 4)])", False),
        ("[[[0, 1], [1, 7]], [[0, 6], [1, 7]]]", False),
        ("12:00 best (((0, 7), (1, 6)), ((0, 6), (1, 6)))", False),
        ("Genotype(normal=[('none', 0), ('none', 1)], reduce=[('none', 0), ('none', 1)])", False),
    ],
)
def test_a_remark_where_tuples_may_count_without_none(text, remark):
    _, remarks = genotypes.read(text, "here")
    assert [line.startswith("operations are numbered as in BANANAS: 0 none, 1 max_pool_3x3,") for line in remarks] == [
        True
    ] * remark
    done = darts("genotype", "convert", text)
    assert ("the given text: operations are numbered" in done.stderr) == remark
    assert "operations are numbered" not in done.stdout


def test_the_help_says_the_order_of_operations():
    text = " ".join(darts("genotype", "convert", "--help").stdout.split())
    assert ", ".join(f"{i} {op}" for i, op in enumerate(default("cnn").operations)) in text


# ---- strings

CELL_201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL_201.removesuffix("nor_conv_3x3~2|"), r"of NAS-Bench-201 is written .* but node 2 is \|skip_connect~0\|none~1\|"),
        (CELL_201.replace("|none~0|skip", "|skip"), r"of NAS-Bench-201 is written .* but node 1 is \|skip_connect~1\|"),
        (CELL_201.replace("~2", "~3"), "of NAS-Bench-201 is written .* but node 2 is"),
        (CELL_201.replace("none~0|skip_connect~1", "skip_connect~1|none~0"), "of NAS-Bench-201 is written .* but node 1 is"),
        ("|nor_conv_3x3~0|+|none~0|+|skip_connect~0|", "of NAS-Bench-201 is written .* but node 1 is"),
        (CELL_201.replace("~0|+|none", "~0+|none"), r"must be nodes joined by \+, .* but node 0 is '\|nor_conv_3x3~0'"),
        (CELL_201[:-1], r"must be nodes joined by \+, .* but node 2 is"),
        (CELL_201.replace("+|none", "|none"), "of NAS-Bench-201"),
        (CELL_201.replace("~1|+", "~1|++"), r"must be nodes joined by \+, .* but node 2 is ''"),
        (CELL_201.replace("none~1", "none"), r"must be nodes joined by \+, .* but node 2 is"),
        (
            CELL_201.replace("nor_conv_3x3~0", "nor_conv_3x4~0"),
            r"cell.nodes\[0\]\[0\]: unknown operation 'nor_conv_3x4'",
        ),
        (
            CELL_201.replace("~0|+|none~0", "~1|+|none~0"),
            "one line for each of normal, reduce; alone stands a cell of NAS",
        ),
        ("|tanh~0|+|relu~1|tanh~0|", "in the domain rnn a node has one edge"),
        ("recurrent |tanh~0|+|swish~1|", "unknown operation 'swish'; rnn has"),
        ("recurrent |skip_connect~0|", "unknown operation 'skip_connect' .it is an operation of the domain cnn.; rnn has"),
    ],
)
def test_what_is_wrong_with_a_string(text, message):
    for line in (text, f"12:00 arch = {text}\n", f"Structure(4 nodes with {text})", f"arch: '{text}'"):
        with pytest.raises(DartsError, match=f"^here: .*{message}"):
            parse(line, "here")
    done = darts("visualize", text, "--format", "text")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1


# ---- remedies


def test_the_remedy_for_several_problems_works(tmp_path):
    """Where an error counts more problems, darts genotype validate lists as many for the same argument."""
    literal = WRITERS["python"](V2).replace("sep_conv_3x3", "sep_conv_3x4").replace("max_pool_3x3", "max_pool_4x4").strip()
    (tmp_path / "cell.yaml").write_text(
        V2.to_yaml().replace("sep_conv_3x3", "sep_conv_3x4").replace("max_pool_3x3", "max_pool_4x4")
    )
    (tmp_path / "log.txt").write_text(f"12:00 genotype = {literal}\n")
    (tmp_path / "two.py").write_text(f"A = {WRITERS['python'](V2)}B = {literal}\n")
    for spelling in (literal, tmp_path / "cell.yaml", tmp_path / "log.txt", f"{tmp_path}/two.py:B"):
        refused = darts("genotype", "show", spelling)
        assert "(and 9 more: darts genotype validate lists them)" in refused.stderr
        listed = darts("genotype", "validate", spelling)
        assert listed.exit_code == 1
        assert len(listed.stderr.splitlines()) == 10
    for command in ("show", "validate"):
        done = CliRunner().invoke(main, ["genotype", command, "-"], input=literal)
        assert done.exit_code == 1
        assert done.stderr.startswith("stdin: " if command == "validate" else "error: stdin: ")


@pytest.mark.parametrize(
    "args",
    [
        ["genotype", "show", "Genotype(recurrent=[('noise', 0)], concat=[1])"],
        ["genotype", "show", "recurrent |noise~0|+|tanh~1|"],
        ["genotype", "validate", "domain: rnn\nrecurrent: {nodes: [[[noise, 0]]], concat: [1]}"],
        ["space", "validate", "rows.yaml"],
        ["search", "rnn", "--operations", "noise,tanh"],
        ["search", "rnn", "--space", "rows.yaml"],
        ["search", "cnn", "--space", "s1", "--operations", "noise,skip_connect"],
    ],
)
def test_noise_is_not_taken_for_none(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.yaml").write_text("domain: rnn\nnodes: 3\nkeep: 1\noperations: [noise, tanh]\n")
    done = darts(*args)
    assert done.exit_code > 0
    assert "noise" in done.stderr
    assert "did you mean" not in done.stderr
    assert "it is an operation of the domain cnn" in done.stderr or "a space file can have it" in done.stderr
