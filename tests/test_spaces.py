"""Spaces as values, and as the files that are shipped."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from darts_cli import DartsError, files, genotype
from darts_cli.cli import main
from darts_cli.cnn.model import SearchNetwork
from darts_cli.config import SearchCNN
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.methods.derive import derive
from darts_cli.rnn import model as rnn
from darts_cli.spaces.choose import choose, is_shipped, read
from darts_cli.spaces.rules import space_problems
from darts_cli.spaces.space import Space, default, load, names

BAD = sorted((Path(__file__).parent / "data" / "spaces" / "bad").glob("*.yaml"))


def test_the_shipped_spaces_are_those_of_the_paper():
    assert names() == ("darts", "darts-rnn", "nas-bench-201", "s1", "s2", "s3", "s4", "small")
    assert names("rnn") == ("darts-rnn",)
    cnn, rnn = default("cnn"), default("rnn")
    assert (cnn.cells, cnn.inputs, cnn.nodes, cnn.keep, len(cnn.operations)) == (("normal", "reduce"), 2, 4, 2, 8)
    assert (rnn.cells, rnn.inputs, rnn.nodes, rnn.keep) == (("recurrent",), 1, 8, 1)
    assert rnn.operations == ("none", "tanh", "relu", "sigmoid", "identity")
    assert (len(cnn.edges()), len(rnn.edges())) == (14, 36)


def test_the_order_of_edges():
    assert default("cnn").edges()[:6] == [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4)]
    assert default("rnn").edges()[:4] == [(0, 1), (0, 2), (1, 2), (0, 3)]


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_a_table_split_by_node_has_the_edges_of_each_node(domain):
    for nodes in (1, 3, 5):
        space = replace(default(domain), nodes=nodes)
        edges = space.by_node(space.edges())
        assert [node for ((_, node), *_) in edges] == list(space.states())
        assert all([state for state, _ in rows] == list(range(rows[0][1])) for rows in edges)
        assert [len(rows) for rows in space.by_node(torch.zeros(len(space.edges()), 2))] == [len(rows) for rows in edges]


def test_an_unknown_space_is_one_line():
    there = "there are darts, darts-rnn, nas-bench-201, s1, s2, s3, s4, small"
    with pytest.raises(DartsError, match=rf"dart: no space of this name and no such file \(did you mean darts\?\); {there}"):
        read("dart")


@pytest.mark.parametrize("name", names())
def test_every_shipped_space_has_no_problem_and_is_its_plain_form(name):
    space = load(name)
    assert space_problems(space.to_dict()) == []
    assert Space.from_dict(space.to_dict(), "own") == space
    assert is_shipped(space)


def test_the_reduced_spaces_are_those_of_robustdarts():
    edgewise = load("s1").edgewise
    assert {len(row) for rows in edgewise.values() for row in rows} == {2}
    assert (edgewise["normal"][0], edgewise["normal"][13]) == (
        ("skip_connect", "dil_conv_3x3"),
        ("dil_conv_3x3", "dil_conv_5x5"),
    )
    assert (edgewise["reduce"][0], edgewise["reduce"][6]) == (
        ("max_pool_3x3", "avg_pool_3x3"),
        ("max_pool_3x3", "sep_conv_3x3"),
    )
    assert load("s2").operations == ("skip_connect", "sep_conv_3x3")
    assert load("s3").operations == ("none", "skip_connect", "sep_conv_3x3")
    assert load("s4").operations == ("noise", "sep_conv_3x3")


def test_how_many_cells_a_space_has():
    """By counting them: nodes choose two of their inputs, and edges an operation."""
    assert load("nas-bench-201").size() == 5**6
    assert load("small").size() == ((1 * 4**2) * (3 * 4**2)) ** 2
    assert default("rnn").size() == math.factorial(8) * 4**8
    assert load("s3").size() == load("s2").size() == (1 * 3 * 6 * 10 * 2**8) ** 2


def test_a_genotype_names_its_space_only_where_it_is_not_the_default():
    plain = genotype.load("cnn/darts_v2")
    named = Genotype.from_dict(plain.to_dict() | {"space": "darts"})
    assert named == plain == Genotype("cnn", plain.cells, space="darts")
    assert "space" not in named.to_dict()
    for wrong in ("darts-rnn", "other", 3, None):
        with pytest.raises(
            DartsError, match="space: the domain cnn has the spaces darts, nas-bench-201, s1, s2, s3, s4, small, n"
        ):
            Genotype.from_dict(plain.to_dict() | {"space": wrong})
    with pytest.raises(DartsError, match=r"operation 'dil_conv_3x3' is not in the space s3; it has skip_connect, sep_conv"):
        Genotype.from_dict(plain.to_dict() | {"space": "s3"})


@pytest.mark.parametrize("name", names())
def test_found_and_random_cells_name_their_space_and_read_back(name, tmp_path):
    space, rng = load(name), random.Random(0)
    table = {cell: [[rng.random() for _ in row] for row in space.choices(cell)] for cell in space.cells}
    for found in (derive(table, space), random_genotype(space, rng)):
        assert found.space == (None if name in ("darts", "darts-rnn") else name)
        genotype.save(found, tmp_path / "g.yaml")
        assert genotype.load(tmp_path / "g.yaml") == found
        assert genotype.load(tmp_path / "g.yaml").space == found.space


# ---- files, and what narrows a space


def test_there_are_enough_mistakes():
    assert len(BAD) >= 35


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_file_names_file_place_and_rule(path):
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    with pytest.raises(DartsError) as error:
        read(str(path))
    assert str(error.value) == f"{path}: {expected}"


def test_a_space_file_is_a_changed_copy_of_what_is_shown(tmp_path):
    text = CliRunner().invoke(main, ["space", "show", "s3"]).stdout
    (tmp_path / "mine.yaml").write_text(text.replace("skip_connect", "max_pool_3x3").replace("nodes: 4", "nodes: 3"))
    space = read(str(tmp_path / "mine.yaml"))
    assert (space.name, space.nodes, space.operations) == ("mine", 3, ("none", "max_pool_3x3", "sep_conv_3x3"))
    assert not is_shipped(space)
    assert random_genotype(space, random.Random(0)).space is None
    shown = CliRunner().invoke(main, ["space", "show", str(tmp_path / "mine.yaml"), "--json"]).stdout
    assert Space.from_dict(json.loads(shown), "") == space


def test_a_narrowed_space():
    _, searched = choose("cnn", "s1", None, 2)
    assert [len(rows) for rows in searched.edgewise.values()] == [5, 5]
    assert searched.edgewise["normal"] == load("s1").edgewise["normal"][:5]
    _, searched = choose("cnn", None, "sep_conv_3x3, skip_connect", 6)
    assert (searched.operations, searched.nodes) == (("skip_connect", "sep_conv_3x3"), 6)  # in the order of the space
    _, searched = choose("rnn", None, "tanh,relu,identity", 4)
    assert (searched.operations, searched.nodes, len(searched.edges())) == (("tanh", "relu", "identity"), 4, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("cnn", "darts-rnn", None, None),
            "--space darts-rnn: is for rnn, but cnn is searched here; there are darts, nas-bench",
        ),
        (("rnn", "s3", None, None), "--space s3: is for cnn, but rnn is searched here; there are darts-rnn"),
        (("cnn", None, "tanh", None), "--operations: tanh: is not in this space .it is an operation of the domain rnn."),
        (
            ("cnn", None, "sepconv_3x3", None),
            r"--operations: sepconv_3x3: is not in this space \(did you mean sep_conv_3x3\?\)",
        ),
        (("cnn", None, "noise", None), "--operations: noise: is not in this space; a space file can have it; darts has"),
        (("cnn", None, "none", None), "--operations none: the edge from 0 to 2 of normal has no operation left"),
        (("cnn", None, "", None), "--operations: an empty name: is not in this space"),
        (("cnn", None, "noise,noise", None), "--operations: noise is listed twice"),
        (("cnn", None, "skip_connect,,none", None), "--operations: an empty name: is not in this space"),
        (
            ("cnn", "s1", "skip_connect", None),
            "--operations skip_connect: the edge from 3 to 5 of normal has no operation left",
        ),
        (("cnn", "s1", "skip_connect,dil_conv_3x3,max_pool_3x3", None), "leaves some edges of normal with fewer operations"),
        (("cnn", "s1", None, 5), "--nodes 5: s1 names the operations of each edge, for 4 nodes"),
        (("cnn", None, None, 0), "--nodes 0: must be from 1 to 32"),
        (("cnn", None, None, 33), "--nodes 33: must be from 1 to 32"),
    ],
)
def test_what_cannot_be_narrowed(given, message):
    with pytest.raises(DartsError, match=message) as error:
        choose(*given)
    assert error.value.exit_code == 2


def test_a_space_in_the_settings_is_compared_by_what_it_says(tmp_path):
    (tmp_path / "mine.yaml").write_text("domain: cnn\nnodes: 2\nkeep: 2\noperations: [skip_connect, sep_conv_3x3]\n")
    (tmp_path / "same.yaml").write_text("# s3\n" + (files.data_folder("spaces") / "s3.yaml").read_text())
    (tmp_path / "s3.yaml").write_text((tmp_path / "same.yaml").read_text())
    own = SearchCNN(space=str(tmp_path / "mine.yaml"))
    assert own.space["operations"] == ["skip_connect", "sep_conv_3x3"]
    assert SearchCNN.from_dict(yaml.safe_load(yaml.safe_dump(own.to_dict()))) == own
    assert own.arguments("runs/a")[0] == "--space runs/a"
    assert SearchCNN(space=str(tmp_path / "s3.yaml")) == SearchCNN(space="S3") != SearchCNN()
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("nodes: 2", "nodes: 3"))
    assert SearchCNN(space=str(tmp_path / "mine.yaml")).hash() != own.hash()
    for wrong in ({"nodes": "three"}, {"space": 5}, {"operations": ["skip_connect"]}):
        with pytest.raises(DartsError, match="must be") as error:
            SearchCNN(**wrong)
        assert error.value.exit_code == 2
    assert SearchCNN(space="s3", operations="sep_conv_3x3,skip_connect").operations == "skip_connect,sep_conv_3x3"


# ---- networks


def test_a_space_of_other_nodes_and_operations_has_genotypes_of_the_domain():
    own = replace(default("cnn"), name="own", nodes=2, operations=("skip_connect", "sep_conv_3x3"))
    network = SearchNetwork(2, 10, 3, space=own)
    assert {kind: tuple(alpha.shape) for kind, alpha in network.alphas.items()} == {"normal": (5, 2), "reduce": (5, 2)}
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    for found in (network.genotype(), random_genotype(own, random.Random(0))):
        assert found.space is None
        assert len(found.cells["normal"].nodes) == 2
        assert {edge.op for cell in found.cells.values() for node in cell.nodes for edge in node} <= set(own.operations)


def test_a_recurrent_space_without_some_activations():
    own = replace(default("rnn"), name="own", nodes=3, operations=("none", "tanh", "identity"))
    network, full = (
        rnn.SearchNetwork(5, 4, space=own).double(),
        rnn.SearchNetwork(5, 4, space=replace(own, operations=default("rnn").operations)).double(),
    )
    full.load_state_dict({key: value for key, value in network.state_dict().items() if "alphas" not in key}, strict=False)
    table = torch.rand(6, 3, dtype=torch.float64)
    wide = torch.zeros(6, 5, dtype=torch.float64)
    wide[:, [0, 1, 4]] = table
    x, hidden, masks = torch.randint(0, 5, (4, 3)), network.initial(3), network.masks(3)
    found, _ = network(x, hidden, masks, {"recurrent": table})
    torch.testing.assert_close(found, full(x, hidden, masks, {"recurrent": wide})[0])
    assert {edge.op for (edge,) in network.genotype().cells["recurrent"].nodes} <= {"tanh", "identity"}


def test_random_cells_keep_to_the_operations_of_each_edge():
    choices = (("none", "skip_connect"), ("sep_conv_3x3", "max_pool_3x3"), *((("dil_conv_3x3", "skip_connect"),) * 3))
    space = replace(default("cnn"), nodes=2, edgewise={"normal": choices, "reduce": choices})
    rng, seen = random.Random(0), Counter()
    for _ in range(200):
        for cell in random_genotype(space, rng).cells.values():
            for node, rows in zip(cell.nodes, space.by_node(choices), strict=True):
                assert all(edge.op in rows[edge.input] and edge.op != "none" for edge in node)
                seen.update((len(rows), edge.input, edge.op) for edge in node)
    assert len(seen) == 3 + 6


def test_a_recurrent_space_edge_by_edge_is_the_full_one_with_zeros(tmp_path):
    rows = (("none", "tanh"), ("relu", "tanh"), ("identity", "sigmoid"))
    own = replace(default("rnn"), name="own", nodes=2, edgewise={"recurrent": rows}, operations=("none", "tanh", "relu"))
    network, full = (rnn.SearchNetwork(5, 4, space=s).double() for s in (own, replace(default("rnn"), nodes=2)))
    assert network.alphas["recurrent"].shape == (3, 2)
    full.load_state_dict({key: value for key, value in network.state_dict().items() if "alphas" not in key}, strict=False)
    table, wide = torch.rand(3, 2, dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
    for i, row in enumerate(rows):
        for k, name in enumerate(row):
            wide[i, default("rnn").operations.index(name)] = table[i, k]
    x, hidden, masks = torch.randint(0, 5, (4, 3)), network.initial(3), network.masks(3)
    found, _ = network(x, hidden, masks, {"recurrent": table})
    torch.testing.assert_close(found, full(x, hidden, masks, {"recurrent": wide})[0])
    assert network.genotype().cells["recurrent"].nodes[1][0].op in ("relu", "tanh", "identity", "sigmoid")


def test_a_genotype_of_a_space_has_the_operations_of_its_edges():
    cell = {"nodes": [[["sep_conv_3x3", 0], ["skip_connect", 1]]], "concat": [2]}
    data = {"domain": "cnn", "space": "s1", "normal": cell, "reduce": cell}
    with pytest.raises(
        DartsError, match=r"normal.nodes\[0\]\[0\]: operation 'sep_conv_3x3' is not in the space s1; it has skip"
    ):
        Genotype.from_dict(data)
    none = {"nodes": [[["none", 0], ["skip_connect", 1]]], "concat": [2]}
    with pytest.raises(DartsError, match="operation 'none' is not in the space s3; it has skip_connect, sep_conv_3x3 here"):
        Genotype.from_dict(data | {"space": "s3", "normal": none})


def test_a_space_that_only_bears_the_name_of_another_is_not_named_by_its_genotypes():
    assert replace(load("s3"), keep=1).genotype_space is None
    assert replace(load("s3"), nodes=5).genotype_space is None
    assert replace(load("s1"), edgewise=load("s1").edgewise | {"normal": load("s1").edgewise["reduce"]}).genotype_space is None
    assert replace(load("s3"), nodes=2, operations=("skip_connect",)).genotype_space == "s3"


@pytest.mark.parametrize("fused", [True, False])
def test_noise_is_the_same_however_the_network_computes(fused):
    network = SearchNetwork(4, 10, 3, fused=fused, space=load("s4")).double()
    torch.manual_seed(1)
    plain = SearchNetwork(4, 10, 3, fused=False, space=load("s4")).double()
    plain.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    outputs = []
    for one in (network, plain):
        torch.manual_seed(2)
        outputs.append(one(x))
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(network(x), outputs[0])


@pytest.mark.parametrize("name", names())
def test_random_cells_are_uniform_over_the_space(name):
    """Inputs and operations of the last node of every cell within five standard deviations of a binomial count."""
    space, rng, count = load(name), random.Random(1), 3000
    drawn = [random_genotype(space, rng) for _ in range(count)]
    for cell in space.cells:
        rows = space.by_node(space.choices(cell))[-1]
        kept = space.keep or len(rows)
        seen = Counter(edge for genotype in drawn for edge in genotype.cells[cell].nodes[-1])
        for j, row in enumerate(rows):
            chosen = [row[k] for k in space.chosen(row)]
            p = kept / len(rows) / len(chosen)
            for op in chosen:
                assert abs(seen[op, j] - count * p) < 5 * math.sqrt(count * p * (1 - p))
        assert sum(seen.values()) == count * kept
