"""Spaces as values, and as the files that are shipped."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from darts_cli import DartsError, genotype
from darts_cli.cnn.model import SearchNetwork
from darts_cli.genotype import Genotype, random_genotype
from darts_cli.rnn import model as rnn
from darts_cli.spaces import default, load, names


def test_the_shipped_spaces_are_those_of_the_paper():
    assert names() == ("darts", "darts-rnn")
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
    with pytest.raises(DartsError, match=r"dart: no space of this name \(did you mean darts\?\); there are darts, darts-rnn"):
        load("dart")


def test_a_genotype_names_its_space_only_where_it_is_not_the_default():
    plain = genotype.load("cnn/darts_v2")
    named = Genotype.from_dict(plain.to_dict() | {"space": "darts"})
    assert named == plain == Genotype("cnn", plain.cells, space="darts")
    assert "space" not in named.to_dict()
    for wrong in ("darts-rnn", "other", 3, None):
        with pytest.raises(DartsError, match="space: the domain cnn has the spaces darts, not"):
            Genotype.from_dict(plain.to_dict() | {"space": wrong})


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


def test_edges_need_equally_many_operations():
    with pytest.raises(DartsError, match="own: normal: it needs 5 edges with equally many operations each"):
        replace(default("cnn"), name="own", nodes=2, edgewise={"normal": (("none",),) * 4 + (("none", "skip_connect"),)})


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
