"""Genotypes wherever they stand in a text: logs, source code, JSON, YAML, Markdown; which of several is read."""

import contextlib
import json
import time

import pytest
from click.testing import CliRunner
from conftest import darts
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_cli import DartsError
from darts_cli.cli import main
from darts_cli.formats.finding import find
from darts_cli.formats.genotypes import WRITERS, parse, problems, read, to_dict, to_python, to_string, to_tuples
from darts_cli.genotype import Cell, Edge, Genotype, load, names

V1, V2, RNN, NASNET = load("cnn/darts_v1"), load("cnn/darts_v2"), load("rnn/darts_v2"), load("nasnet")
PYTHON = to_python(V2).strip()
CELL_201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


# ---- one genotype

LINES = [
    "2019-05-22 12:22:39,123 genotype = {}",
    "2019-05-22 12:22:39,123 Genotype: {}",
    "05/16 11:30:25PM search.py:28 [INFO] genotype = {}",
    "03/14 11:07:23 AM genotype = {}",
    "[2021-05-03 10:11:12,345][__main__][INFO] - genotype = {}",
    "INFO:root:genotype = {}",
    "INFO:root:{}",
    "[INFO] {}",
    "2022-01-01T10:00:00.123Z | DEBUG | search:main:28 - {}",
    "I0522 12:22:39.123456 140 search.py:28] genotype = {}",
    "0: epoch 49 (final) genotype = {}, took 3.2 s",
    "100%|##########| 390/390 [01:02<00:00, 6.25it/s] {}",
    "\x1b[32m12:22:39\x1b[0m {}",
    "epoch 3 :-) see [1, genotype = {}",
    "# {}",
    "#genotype={}",
    "    # BEST = {}  # of three",
    "// {}",
    " * {}",
    "> {}",
    '"{}"',
    "`{}`",
    "print({})",
    "GENOTYPE='{}'",
    'python train.py --arch "{}" --auxiliary',
    "python train.py --genotype={} --layers 20",
    "g = genotypes.{}",
    "    return {}",
    "A: Genotype = {}",
    "darts: {}",
    "darts: '{}'",
    "- {}",
    "- cell: {}",
    "space_1:\n  0.2:\n    1: {}",
    "cells: |\n  {}",
    "Found:\n\n```python\nA = {}\n```\n",
    "Found:\n\n```\n{}\n```\nand nothing else.",
    "Found `{}` in 4 days.",
    "1. {}",
    "| best | {} |",
    "<pre>{}</pre>",
    "\ufeff{}",
    "\r\n{}\r\n",
    "{},",
    "{};",
    "Genotype = namedtuple('Genotype', 'normal normal_concat')\n\nA = {}",
    "class Genotype(NamedTuple):\n    normal: list\n\n\nA = {}",
    "A = {}\n\n\ndef derive():\n    return Genotype(normal=gene, normal_concat=concat)\n",
    "def derive():\n    return Genotype(normal=gene, normal_concat=concat)\n\n\n{}",
]


@pytest.mark.parametrize("genotype", [V2, RNN], ids=["cnn", "rnn"])
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_literal_is_found_wherever_it_stands(line, genotype):
    assert parse(line.replace("{}", to_python(genotype).strip()), "here") == genotype


@pytest.mark.parametrize("name", names())
def test_every_notation_of_every_published_cell_is_found_in_a_log(name):
    genotype = load(name)
    for form in ("python", "dict"):
        assert parse(f"2019-05-22 12:22:39,123 genotype = {WRITERS[form](genotype)}", "here") == genotype
    assert parse(f"12:22 INFO {genotype.to_dict()}", "here") == genotype
    assert parse(f"12:22 INFO {json.dumps(genotype.to_dict())} after 50 epochs", "here") == genotype


def test_a_character_that_json_writes_as_two_is_read_as_one():
    named = json.dumps(V2.to_dict() | {"name": "a 😀"})
    assert "\\ud83d\\ude00" in named
    for line in ("{}", "12:00 best {}", "12:00 best {} after 50 epochs\n", "# {}", "- {}", "```\n{}\n```"):
        assert parse(line.replace("{}", named), "here").name == "a 😀"


MULTILINE = PYTHON.replace("normal_concat", "\n    normal_concat").replace("reduce=", "\n    reduce=")


@pytest.mark.parametrize("mark", ["# ", "#", "## ", "    # ", "> ", "// ", " * "])
def test_a_literal_of_several_lines_is_found_in_a_comment(mark):
    text = "".join(f"{mark}{line}\n" for line in f"A = {MULTILINE}".splitlines())
    assert parse(f"import os\n{text}x = 3\n", "here") == V2
    assert parse(f"import os\nA = {MULTILINE}\n", "here") == V2


@pytest.mark.parametrize(
    "text",
    [
        repr(PYTHON),
        json.dumps(PYTHON),
        json.dumps({"arch": PYTHON, "epochs": 50}),
        json.dumps([{"epoch": 0}, {"cells": PYTHON}]),
        repr({"arch": PYTHON}),
        json.dumps(json.dumps({"arch": PYTHON})),
        repr(repr(PYTHON)),
        "arch: " + json.dumps(to_dict(V2)),
    ],
)
def test_a_literal_in_quotes_is_found(text):
    assert parse(text, "here") == V2


@pytest.mark.parametrize("mapping", [json.loads(to_dict(V2)), V2.to_dict()], ids=["fields", "file"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: {"genotype": data},
        lambda data: {"epoch": 49, "genotype": data, "loss": 0.3},
        lambda data: {"results": {"best": {"genotype": data}}},
        lambda data: [{"epoch": 1}, {"genotype": data}],
        lambda data: {"operation_weights": {"normal": [[0.1, 0.9]], "reduce": [[0.5, 0.5]]}, "genotype": data},
        lambda data: {**data, "connects": None} if "domain" not in data else {**data, "name": None, "notes": None},
    ],
    ids=["genotype", "record", "deep", "list", "alphas", "null"],
)
def test_a_mapping_is_found_inside_others(mapping, wrap):
    wrapped = wrap(mapping)
    for text in (json.dumps(wrapped), json.dumps(wrapped, indent=2), repr(wrapped), f"12:00 result {wrapped!r}"):
        assert parse(text, "here") == V2


@pytest.mark.parametrize(
    "text",
    [
        V2.to_yaml(),
        f"---\n{V2.to_yaml()}",
        f"---\n{V2.to_yaml()}...\n",
        f"# My cells\n\n```yaml\n{V2.to_yaml()}```\nas found.\n",
        f"```\n{V2.to_yaml()}```",
        "genotype:\n" + "".join(f"  {line}\n" for line in V2.to_yaml().splitlines()),
        "command: train cnn\nepochs: 3\ngenotype:\n" + "".join(f"  {line}\n" for line in V2.to_yaml().splitlines()),
        "".join(f"  {line}\n" for line in V2.to_yaml().splitlines()),
        f"notes: 'from {PYTHON.replace(chr(39), chr(34))}'\n{V1.to_yaml()}",
    ],
)
def test_a_genotype_file_is_found(text):
    assert parse(text, "here") == (V1 if text.startswith("notes") else V2)


@pytest.mark.parametrize(
    "text", ["|a|b|\n|---|---|\n", "see [[[0.1, 0.9]]]", "{'normal': 0.3, 'reduce': 0.1}", "normal: 3", "~", '{"epoch": 1}']
)
def test_other_text_is_no_genotype(text):
    assert find(text) == []
    with pytest.raises(DartsError, match="known notation|must be a list of edges"):
        parse(text, "here")


# ---- several


def of_epoch(i):
    """The literal of one epoch of a search."""
    cell = Cell(
        ((Edge("sep_conv_3x3", 0), Edge("skip_connect", 1)), (Edge("max_pool_3x3", i), Edge("skip_connect", 1 - i))), (2, 3)
    )
    return Genotype("cnn", {"normal": cell, "reduce": cell})


FIRST, LAST = of_epoch(0), of_epoch(1)


@pytest.mark.parametrize(
    "line",
    [
        "03/14 02:11:1{i} PM genotype = {python}\n03/14 02:11:1{i} PM valid_acc 90.0\n",
        "2019-05-22 12:22:3{i},123 genotype = {python}\n",
        "INFO: {python}\nDEBUG: loss 0.{i}\n",
        "genotype = {python}\ntrain_acc 9{i}\n",
        "{python}\n",
        "{json}\n",
        "{record}\n",
        "epoch {i}: {plain}\n",
        "{strings}\n\n",
        "epoch {i}\n{strings}\n",
    ],
)
def test_of_a_log_the_last_is_read(line):
    text = ""
    for i, genotype in enumerate((LAST, FIRST, LAST)):
        forms = {
            "python": to_python(genotype).strip(),
            "json": to_dict(genotype).strip(),
            "record": json.dumps({"epoch": i, "genotype": genotype.to_dict(), "operation_weights": {"normal": [[0.5]]}}),
            "plain": genotype.to_dict(),
            "strings": to_string(genotype).strip(),
            "i": i,
        }
        text += line.format(**forms)
        assert parse(text, "log.txt") == genotype
    genotype, remarks = read(text, "log.txt")
    assert len(find(text)) == 3
    assert len(remarks) == 1
    assert f"3 genotypes; the last, on line {find(text)[2].line}, is read" in remarks[0]
    assert parse(text, "log.txt", "2") == FIRST
    assert problems(text, "log.txt") == []


def test_of_a_log_of_nas_bench_201_the_last_is_read():
    first = CELL_201.replace("none", "avg_pool_3x3")
    for line in ("genotype : Structure(4 nodes with {})\n", "{}\n", "12:30 <<<>>> {} acc 90 %\n", "arch: '{}'.\n"):
        text = line.format(first) + line.format(CELL_201)
        assert to_string(parse(text, "here")) == CELL_201 + "\n"
        assert to_string(parse(text, "here", "1")) == first + "\n"


def test_a_last_literal_that_is_cut_off_is_refused():
    for end in ("Genotype(normal=[('sep_conv_3x3', 0), (", PYTHON[:-1], "{'normal': [('sep_conv_3x3', 0)"):
        with pytest.raises(DartsError, match="^log.txt: line 2: a bracket of this genotype is never closed"):
            parse(f"genotype = {PYTHON}\ngenotype = {end}", "log.txt")
        with pytest.raises(DartsError, match=r"line 1: a bracket of this genotype is never closed|known notation"):
            parse(end, "log.txt")


A, B = to_python(FIRST).strip(), to_python(LAST).strip()
NAMED = {
    "python": f"from x import Genotype\n\nA = {A}\nB = {B}\nC = B\n",
    "annotated": f"A: Genotype = {A}\nB: Genotype = genotypes.{B}\n",
    "commented": f"# A = {A}\n# B = {B}\n",
    "yaml": f"A: {A}\nB: {B}\n",
    "quoted": f'A: "{A}"\nB: "{B}"\n',
    "json": json.dumps({"A": json.loads(to_dict(FIRST)), "B": json.loads(to_dict(LAST))}),
    "json of literals": json.dumps({"A": A, "B": B}),
    "markdown": f"```python\nA = {A}\n```\nand\n```python\nB = {B}\n```\n",
    "documents": f"name: A\n{FIRST.to_yaml()}---\nname: B\n{LAST.to_yaml()}",
    "twice": f"A = {A}\nB = {A}\nB = {B}\n",
    "with code": f"A = {A}\nB = {B}\n\ndef derive():\n    return Genotype(normal=gene, normal_concat=concat)\n",
}


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_of_several_names_one_is_chosen(text):
    with pytest.raises(DartsError, match=r"^here: holds \d genotypes: A, B; choose one, such as --name A$"):
        parse(text, "here")
    assert parse(text, "here", "A") == parse(text, "here", "a") == FIRST
    assert parse(text, "here", "B") == LAST
    assert parse(text, "here", "B").name == "B"
    with pytest.raises(DartsError, match=r"^here: no genotype of the name D; it holds A, B$"):
        parse(text, "here", "D")


def test_names_that_lead_to_a_genotype():
    assert parse(NAMED["python"], "here", "C") == LAST
    nested = f"s1:\n  0.2:\n    1: {A}\n    2: {B}\n  0.3:\n    1: {B}\ns2:\n  0.2:\n    1: {B}\n"
    assert parse(nested, "here", "s1.0.2.1") == FIRST
    assert parse(nested, "here", "s1.0.2.2") == parse(nested, "here", "s2.0.2.1") == LAST
    with pytest.raises(DartsError, match=r"s1.0.2.1, s1.0.2.2, s1.0.3.1, s2.0.2.1; choose one"):
        parse(nested, "here")
    many = "".join(f"cell_{i} = {A}\n" for i in range(30))
    with pytest.raises(DartsError, match=r"holds 30 genotypes: cell_0, .*, cell_19, ...; choose one, such as --name cell_0"):
        parse(many, "here")
    with pytest.raises(DartsError, match=r"no genotype of the name cel_3 \(did you mean cell_3\?\)"):
        parse(many, "here", "cel_3")
    with pytest.raises(DartsError, match="no genotype of the name 31; it holds cell_0"):
        parse(many, "here", "31")
    with pytest.raises(DartsError, match="no genotype of the name B; it holds 1 genotype without a name; leave it out"):
        parse(A, "here", "B")


def test_the_place_of_an_error_among_several():
    wrong = PYTHON.replace("sep_conv_3x3", "sep_conv_3x4", 1)
    text = f"A = {PYTHON}\n\nB = {wrong}\nC = Genotype(normal=[('sep_conv_3x3', i)])\n"
    with pytest.raises(DartsError, match=r"^here: line 3: normal.nodes\[0\]\[0\]: unknown operation 'sep_conv_3x4'"):
        parse(text, "here", "B")
    with pytest.raises(DartsError, match=r"^here: line 4, column 39: 'i' is not allowed"):
        parse(text, "here", "C")
    first, second = problems(text, "here")
    assert first.startswith("here: line 3: normal.nodes[0][0]: unknown operation")
    assert second.startswith("here: line 4, column 39: 'i' is not allowed")
    stream = f"{V2.to_yaml()}---\n{V2.to_yaml()}oops\n"
    assert parse(stream, "here", "1") == V2
    with pytest.raises(DartsError, match=f"^here: line {stream.count(chr(10)) + 1}, column 1: not valid YAML"):
        parse(stream, "here", "2")


# ---- time

UNITS = ["\n", " ", "\t", "a", "a ", "'", '"', "\\", "(", "([{", "()", "((( ", "(((0, ", "[[[0,0]"]
UNITS += ["|", "|a~0", "|a~0|", "|a~0|+", "~", "normal ", "normal:\n", "'normal': ['", "{'normal': ['"]
UNITS += ["Genotype", "Genotype ", "Genotype(", "Genotype(a=['", "A = Genotype()\n", "  a: Genotype()\n"]
UNITS += ["domain", "domain:", "domain: cnn\n", "---\n", "---\ndomain: cnn\n", "```\n", "# ", "-", "a: ", "a = a\n", "'a/"]
UNITS += ["{\n", '{"genotype": 1}\n', f"genotype = {A}\n", f"{A} ", "{domain: ", "name:", "😀", "\u2028"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("before", ["", "{"])
def test_a_text_is_searched_in_linear_time(before, unit):
    """One MiB takes about a second at most; in quadratic time, hours."""
    text = (before + unit * ((1 << 20) // len(unit)))[: 1 << 20] + "x"
    start = time.process_time()
    with contextlib.suppress(DartsError):
        parse(text, "here")
    assert time.process_time() - start < 20


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet="Genotype(normal=['a', 0])|~+{}:\n\"-`domain# ", max_size=200), st.text(max_size=5))
def test_any_text_is_searched(before, after):
    for passage in find(before + after):
        assert passage.line <= (before + after).count("\n") + 1
    found = find(f"{before}\n{PYTHON}\n{after}")
    assert len(found) >= 1


# ---- commands


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text(f"12:00 genotype = {A}\n12:01 genotype = {B}\n")
    (tmp_path / "genotypes.py").write_text(NAMED["python"])
    (tmp_path / "cell.txt").write_text(CELL_201 + "\n")
    (tmp_path / "tuples.txt").write_text(to_tuples(V2))
    return tmp_path


@pytest.mark.parametrize(
    ("spelling", "genotype"),
    [
        ("log.txt", LAST),
        ("log.txt:1", FIRST),
        ("genotypes.py:A", FIRST),
        ("genotypes.py:C", LAST),
        (B, LAST),
        (to_dict(LAST), LAST),
        (LAST.to_yaml(), LAST),
        (to_string(LAST), LAST),
        ("tuples.txt", V2),
        ("cell.txt", parse(CELL_201, "here")),
        (CELL_201, parse(CELL_201, "here")),
    ],
)
def test_every_command_reads_every_notation(folder, spelling, genotype):
    for command in ("show", "convert"):
        assert parse(darts("genotype", command, spelling).stdout, "stdout") == genotype
    assert json.loads(darts("genotype", "info", spelling, "--json").stdout)["hash"] == genotype.hash()
    assert darts("genotype", "diff", spelling, spelling).stdout == "the same cells\n"
    assert darts("genotype", "validate", spelling).stdout.endswith("valid\n")
    done = darts("visualize", spelling, "--format", "dot", "--output", "pictures")
    assert done.exit_code == 0, done.stderr
    assert len(list((folder / "pictures").iterdir())) == len(genotype.cells)


@pytest.mark.parametrize("spelling", ["log.txt", "genotypes.py:B", B, to_dict(LAST), "-"])
def test_a_training_reads_every_notation(folder, spelling):
    small = ["--dataset", "digits", "--epochs", "1", "--layers", "3", "--channels", "2", "--max-images", "32", "--run", "run"]
    done = CliRunner().invoke(main, ["train", "cnn", "--genotype", spelling, *small], prog_name="darts", input=B)
    assert done.exit_code == 0, done.stderr
    assert load(folder / "run") == LAST


def test_a_name_is_an_option_too(folder):
    for command in ("show", "convert"):
        assert parse(darts("genotype", command, "genotypes.py", "--name", "A").stdout, "stdout") == FIRST
    assert darts("genotype", "info", "genotypes.py", "--name", "A").exit_code == 0
    refused = darts("genotype", "show", "nasnet", "--name", "A")
    assert refused.exit_code == 2
    assert "--name A: nasnet is not a file with several genotypes; leave --name out" in refused.stderr
    refused = CliRunner().invoke(main, ["genotype", "show", "-"], input=NAMED["yaml"])
    assert refused.stderr == "error: stdin: holds 2 genotypes: A, B; choose one, such as --name A\n"
    chosen = CliRunner().invoke(main, ["genotype", "show", "-", "--name", "B"], input=NAMED["yaml"])
    assert parse(chosen.stdout, "stdout") == LAST
    refused = darts("genotype", "show", "genotypes.py")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "error: genotypes.py: holds 2 genotypes: A, B; choose one, such as genotypes.py:A\n"
    assert darts("genotype", "show", "log.txt").stderr == "log.txt: holds 2 genotypes; the last, on line 2, is read\n"
    assert darts("visualize", "log.txt", "--format", "text").stderr.count("the last") == 1


def test_pictures_are_named_after_the_genotype(folder):
    def drawn(*spellings):
        done = darts("visualize", *spellings, "--format", "dot")
        assert done.exit_code == 0, done.stderr
        return done.stdout.split()

    assert drawn("genotypes.py:A", "genotypes.py:B") == ["A-normal.dot", "A-reduce.dot", "B-normal.dot", "B-reduce.dot"]
    assert drawn(B) == ["genotype-normal.dot", "genotype-reduce.dot"]
    assert drawn(json.dumps({"name": "../../up and away"} | LAST.to_dict())) == [
        "..-..-up-and-away-normal.dot",
        "..-..-up-and-away-reduce.dot",
    ]
    assert drawn("log.txt") == ["log-normal.dot", "log-reduce.dot"]


def test_a_log_may_be_larger_than_a_genotype_file(folder):
    (folder / "long.txt").write_text("12:00 train 000 0.5 90.0 99.0\n" * 50_000 + f"12:01 genotype = {B}\n")
    assert (folder / "long.txt").stat().st_size > 1 << 20
    assert parse(darts("genotype", "show", "long.txt").stdout, "stdout") == LAST
