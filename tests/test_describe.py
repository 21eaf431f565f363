"""Facts about a cell: depth, unused nodes, differences; and cells drawn at random."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_cli import DartsError
from darts_cli.describe import collapsed, depth, differences, state_names, unused
from darts_cli.genotype import Cell, Edge, Genotype, load, random_genotype
from darts_cli.spaces.space import default


def chain(*inputs, concat):
    return Cell(tuple((Edge("tanh", state),) for state in inputs), tuple(concat))


def test_the_names_of_the_states():
    assert state_names("darts", 4) == ["c_{k-2}", "c_{k-1}", "2", "3", "4", "5"]
    assert state_names("darts-rnn", 3) == ["0", "1", "2", "3"]


def test_depth_is_the_longest_way_to_the_output():
    assert depth(load("cnn/darts_v2").cells["normal"], "darts") == 2  # dil_conv_3x3 from node 0 to node 3
    assert depth(load("rnn/darts_v2").cells["recurrent"], "darts-rnn") == 4  # 0, 1, 2, 5, 6 and 8
    assert depth(chain(0, 1, 2, concat=[1, 2, 3]), "darts-rnn") == 3
    assert depth(chain(0, 1, 2, concat=[1]), "darts-rnn") == 1  # the rest is unused


def test_what_nothing_uses():
    assert unused(chain(0, 1, 2, concat=[3]), "darts-rnn") == []
    assert unused(chain(0, 1, 2, concat=[1]), "darts-rnn") == [2, 3]  # state 2 is used, but only by an unused node
    assert unused(chain(0, 0, 1, concat=[3]), "darts-rnn") == [2]
    for name in ("normal", "reduce"):
        assert unused(load("amoebanet").cells[name], "darts") == []


def test_three_skip_connections_are_a_warning():
    cells = {name: Cell(((Edge("skip_connect", 0), Edge("skip_connect", 1)),) * 2, (2, 3)) for name in ("normal", "reduce")}
    assert "the normal cell has 4 skip connections" in collapsed(Genotype("cnn", cells))
    assert collapsed(load("nasnet")) is None
    closed = {"nodes": [[["nor_conv_3x3", 0]], [["none", 0], ["none", 1]], [["none", 0], ["none", 1], ["skip_connect", 2]]]}
    plain = {"domain": "cnn", "space": "nas-bench-201", "cell": closed | {"concat": [3]}}
    assert "no path leads through the cell: each ends in `none`" in collapsed(Genotype.from_dict(plain))
    closed["nodes"][1][1][0] = "avg_pool_3x3"
    assert collapsed(Genotype.from_dict(plain)) is None
    assert collapsed(load("enas")) is None


def test_differences_node_by_node():
    one, other = load("cnn/darts_v1"), load("cnn/darts_v2")
    assert differences(one, one) == []
    rows = {key: (before, after) for key, before, after in differences(one, other)}
    assert rows["normal.nodes[1]"] == ("[skip_connect, 0]", "[sep_conv_3x3, 0]")
    assert rows["normal.nodes[3]"] == ("[sep_conv_3x3, 0], [skip_connect, 2]", "[dil_conv_3x3, 2], [skip_connect, 0]")
    assert "normal.nodes[0]" not in rows  # there the two edges stand in the other order
    assert [(key, after, before) for key, before, after in differences(other, one)] == differences(one, other)
    with pytest.raises(DartsError, match="different domains"):
        differences(one, load("enas"))


def test_differences_of_number_and_multiplicity():
    one = Genotype("rnn", {"recurrent": chain(0, 1, concat=[1, 2])})
    other = Genotype("rnn", {"recurrent": chain(0, 1, 2, concat=[2, 3])})
    assert differences(one, other) == [
        ("recurrent.nodes[2]", "", "[tanh, 2]"),
        ("recurrent.concat", "[1, 2]", "[2, 3]"),
    ]
    twice, once = (
        Genotype("cnn", dict.fromkeys(("normal", "reduce"), Cell((edges,), (2,))))
        for edges in (
            (Edge("skip_connect", 0), Edge("skip_connect", 0)),
            (Edge("skip_connect", 0), Edge("skip_connect", 1)),
        )
    )
    assert differences(twice, once)[0] == ("normal.nodes[0]", "[skip_connect, 0]", "[skip_connect, 1]")


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from(["cnn", "rnn"]))
def test_the_hash_is_of_the_cells_up_to_the_order_within_a_node(seed, turn, domain):
    genotype = random_genotype(default(domain), random.Random(seed))
    turned = {
        name: Cell(tuple(node[::-1] if turn else node for node in cell.nodes), cell.concat)
        for name, cell in genotype.cells.items()
    }
    same = Genotype(domain, turned, name="another")
    assert same.hash() == genotype.hash()
    assert differences(same, genotype) == []
    other = random_genotype(default(domain), random.Random(seed + 1))
    assert (other.hash() == genotype.hash()) == (differences(other, genotype) == [])


def test_the_hash_tells_cells_apart():
    genotype = load("cnn/darts_v2")
    swapped = replace(genotype, cells={"normal": genotype.cells["reduce"], "reduce": genotype.cells["normal"]})
    hashes = {genotype.hash(), swapped.hash(), load("cnn/pdarts").hash()}
    assert len(hashes) == 3
    assert load("rnn/darts_v2").hash() != load("rnn/darts_v1").hash()
    assert all(len(text) == 8 for text in hashes)


def test_random_cells_are_uniform():
    """Over 10,000 draws every pair of inputs of every node, and every operation of every edge, is as frequent as it should be,
    within five deviations of its binomial; pairs of edges are independent."""
    rng, draws = random.Random(7), 10_000
    counts = {name: Counter() for name in ("inputs", "ops", "pairs", "rnn")}
    for _ in range(draws):
        for name, cell in random_genotype(default("cnn"), rng).cells.items():
            for i, node in enumerate(cell.nodes):
                counts["inputs"][name, i, tuple(edge.input for edge in node)] += 1
                counts["pairs"][name, i, tuple(edge.op for edge in node)] += 1
                for k, edge in enumerate(node):
                    counts["ops"][name, i, k, edge.op] += 1
        for i, (edge,) in enumerate(random_genotype(default("rnn"), rng).cells["recurrent"].nodes):
            counts["rnn"][i, edge] += 1

    def check(counter, p):
        spread = 5 * math.sqrt(draws * p * (1 - p))
        assert all(abs(count - draws * p) <= spread for count in counter.values())

    assert len(counts["ops"]) == 2 * 4 * 2 * 7
    check(counts["ops"], 1 / 7)
    assert len(counts["pairs"]) == 2 * 4 * 49
    check(counts["pairs"], 1 / 49)
    for i, pairs in enumerate((1, 3, 6, 10)):
        of_node = {key: n for key, n in counts["inputs"].items() if key[1] == i}
        assert len(of_node) == 2 * pairs
        check(Counter(of_node), 1 / pairs)
    for i in range(8):
        of_node = {key: n for key, n in counts["rnn"].items() if key[0] == i}
        assert len(of_node) == 4 * (i + 1)
        check(Counter(of_node), 1 / len(of_node))
