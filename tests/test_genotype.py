"""Genotypes: the published cells, and the file format and its errors."""

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_cli import DartsError, files
from darts_cli.genotype import Cell, Edge, Genotype, load, names, save
from darts_cli.spaces.rules import genotype_problems

BAD = sorted(Path(__file__).with_name("data").joinpath("genotypes", "bad").glob("*.yaml"))


def test_the_published_cells_are_there():
    cnn = ["ASHA200", "AmoebaNet", "BANANAS", "DARTS_V1", "DARTS_V2", "NASNet", "PC_DARTS_cifar", "PC_DARTS_image", "PDARTS"]
    assert names("cnn") == cnn
    assert names("rnn") == ["DARTS_V1", "DARTS_V2", "ENAS"]
    assert names() == [f"cnn/{name}" for name in cnn] + ["rnn/DARTS_V1", "rnn/DARTS_V2", "rnn/ENAS"]


def test_the_cells_of_the_paper():
    """Figures 4, 5 and 6 of the paper."""
    normal = load("cnn/darts_v2").cells["normal"]
    assert normal.nodes[3] == (Edge("skip_connect", 0), Edge("dil_conv_3x3", 2))
    assert normal.concat == (2, 3, 4, 5)
    assert normal.count("sep_conv_3x3") == 5
    assert load("cnn/darts_v2").cells["reduce"].count("max_pool_3x3") == 5
    recurrent = load("rnn/darts_v2").cells["recurrent"]
    assert [edge.op for (edge,) in recurrent.nodes] == "sigmoid relu relu identity tanh sigmoid tanh relu".split()
    assert [edge.input for (edge,) in recurrent.nodes] == [0, 1, 1, 1, 2, 5, 3, 5]


@pytest.mark.parametrize("name", names())
def test_every_published_cell_survives_writing_and_reading(name, tmp_path):
    genotype = load(name)
    save(genotype, tmp_path / "copy.yaml")
    again = load(tmp_path / "copy.yaml")
    assert again == genotype
    assert (again.name, again.source) == (genotype.name, genotype.source)
    assert genotype.source


def test_how_a_name_is_found():
    assert load("DaRtS", "cnn") == load("cnn/DARTS_V2") == load("darts_v2", "cnn")
    assert load("enas").domain == "rnn"
    assert load("rnn/darts") == load("DARTS_V2", "rnn")
    with pytest.raises(DartsError, match="darts_v1: both domains .* write cnn/darts_v1 or rnn/darts_v1"):
        load("darts_v1")
    with pytest.raises(DartsError, match="darts_v3: no genotype of this name and no such file .did you mean DARTS_V"):
        load("darts_v3")
    with pytest.raises(DartsError, match=r"nowhere\.yaml: no such file"):
        load("nowhere.yaml")
    with pytest.raises(DartsError, match="rnn/nasnet: no genotype of this name .*; rnn has DARTS_V1, DARTS_V2, ENAS"):
        load("rnn/nasnet")
    with pytest.raises(DartsError, match="no genotype of this name"):
        load("/nasnet")
    with pytest.raises(DartsError, match="no genotype of this name"):
        load("n" * 5000)


def test_the_other_domain_is_refused(tmp_path):
    save(load("enas"), tmp_path / "cell.yaml")
    with pytest.raises(DartsError, match=r"cell\.yaml: its domain is rnn, but cells of the domain cnn are needed"):
        load(tmp_path / "cell.yaml", "cnn")
    with pytest.raises(DartsError, match="its domain is rnn"):
        load("rnn/darts_v2", "cnn")


def test_a_run_folder_is_a_genotype(tmp_path):
    with pytest.raises(DartsError, match=r"holds no genotype\.yaml"):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text("command: search cnn\n")
    with pytest.raises(DartsError, match="this run has no genotype yet; a search writes it after its first epoch"):
        load(tmp_path)
    save(load("nasnet"), tmp_path / "genotype.yaml")
    assert load(tmp_path) == load("nasnet")


def test_there_are_enough_bad_files():
    assert len(BAD) >= 25


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_names_file_place_and_rule(path):
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(DartsError) as error:
        load(path)
    assert str(error.value) == f"{path}: {expected}"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    (tmp_path / "large.yaml").write_bytes(b"#" * (files.MAX_BYTES + 1))
    for path, rule in (("latin.yaml", "not UTF-8 text"), ("large.yaml", "at most 1,048,576 are read")):
        with pytest.raises(DartsError, match=rule):
            load(tmp_path / path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 30_000, "nested deeper than 20 levels|exceeded maximum nesting depth"),
        ("{a: " * 30_000, "nested deeper than 20 levels"),
        ("- " * 30_000, "nested deeper than 20 levels"),
        ("[" * 2000, "not valid YAML"),
        ("[" * 1000 + "]" * 1000, "not valid YAML|is a mapping"),
        ("domain: !!map [a]", "expected a mapping, but found a sequence"),
        ("name: !!bool foo", "not valid YAML"),
        ("name: !!timestamp x", "not valid YAML"),
        ('name: !!int ""', "not valid YAML"),
    ],
    ids=["lists", "mappings", "dashes", "short", "short and closed", "map", "bool", "timestamp", "int"],
)
def test_yaml_that_trips_its_reader(tmp_path, text, message):
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(DartsError, match=rf"odd\.yaml: .*{message}"):
        load(tmp_path / "odd.yaml")


def test_a_wrong_genotype_cannot_be_built():
    with pytest.raises(DartsError, match="unknown operation 'conv'"):
        Genotype("rnn", {"recurrent": Cell(((Edge("conv", 0),),), (1,))})
    with pytest.raises(DartsError, match="reduce: this cell is missing"):
        Genotype("cnn", {"normal": load("nasnet").cells["normal"]})


def test_all_problems_are_found():
    data = load("cnn/darts_v2").to_dict()
    data["normal"]["nodes"][0][0] = ["conv", 0]
    data["normal"]["nodes"][1][1] = ["skip_connect", 7]
    data["reduce"]["concat"] = [2, 2]
    data["nots"] = "x"
    assert [problem.split(":")[0] for problem in genotype_problems(data)] == [
        "nots",
        "normal.nodes[0][0]",
        "normal.nodes[1][1]",
        "reduce.concat[1]",
    ]


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_nonsense_is_refused_in_words(data):
    assert genotype_problems(data)


@given(st.data())
def test_a_damaged_genotype_is_refused_or_valid(data):
    """Anything put anywhere into a good genotype gives problems or a genotype, never another exception."""
    plain = copy.deepcopy(load(data.draw(st.sampled_from(names()))).to_dict())
    part = plain
    while True:
        key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], dict | list) or data.draw(st.booleans()):
            break
        part = part[key]
    junk = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.floats()
    part[key] = data.draw(junk)
    if not genotype_problems(plain):
        assert Genotype.from_dict(plain).to_dict() == {key: value for key, value in plain.items() if value is not None}


def test_a_domain_that_does_not_exist():
    for call in (names, lambda domain: load("darts_v2", domain)):
        with pytest.raises(DartsError, match="one of cnn, rnn"):
            call("gnn")
