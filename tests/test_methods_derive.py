"""The derivation of cells from operation weights, against the rule written plainly."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_cli.genotype import Cell, Edge
from darts_cli.methods.derive import derive, derive_cell, entropy
from darts_cli.spaces import default


def rule_written_plainly(strength, space):
    """Best operation but none, strongest edges: by looking at all of them."""
    nodes, row = [], 0
    while row < len(strength):
        candidates = []
        for state in range(space.inputs + len(nodes)):
            for k, weight in enumerate(strength[row]):
                if space.operations[k] != "none":
                    candidates.append((-weight, state, k))
            row += 1
        chosen = []
        for _, state, k in sorted(candidates):
            if len(chosen) < space.keep and state not in [edge.input for edge in chosen]:
                chosen.append(Edge(space.operations[k], state))
        nodes.append(tuple(chosen))
    return Cell(tuple(nodes), tuple(range(space.inputs, space.inputs + len(nodes))))


COARSE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])  # few values: many ties
FINE = st.floats(0, 1)


@pytest.mark.parametrize(("domain", "nodes"), [("cnn", 4), ("rnn", 8), ("cnn", 1), ("cnn", 6)])
@pytest.mark.parametrize("values", [COARSE, FINE], ids=["ties", "distinct"])
def test_derive_cell_is_the_rule(domain, nodes, values):
    space = replace(default(domain), nodes=nodes)
    columns = len(space.operations)
    rows = len(space.edges())

    @given(st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    def check(strength):
        cell = derive_cell(strength, space, space.cells[0])
        assert cell == rule_written_plainly(strength, space)
        assert len(cell.nodes) == nodes

    check()


def test_ties_go_to_the_first_operation_and_the_lower_input():
    cell = derive_cell([[0.0] * 8] * 14, default("cnn"), "normal")
    assert cell.nodes == ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),) * 4


def test_none_weakens_an_edge_but_is_never_chosen():
    space = replace(default("cnn"), nodes=1)
    weak = [0.9, 0.1, 0, 0, 0, 0, 0, 0]
    strong = [0.2, 0.8, 0, 0, 0, 0, 0, 0]
    cell = derive_cell([weak, strong], space, "normal")
    assert cell.nodes[0] == (Edge("max_pool_3x3", 1), Edge("max_pool_3x3", 0))


def test_operations_edge_by_edge_and_all_edges_kept():
    choices = (("none", "skip_connect"), ("sep_conv_3x3", "none"), ("skip_connect", "max_pool_3x3"))
    space = replace(default("cnn"), name="own", cells=("normal",), nodes=1, inputs=3, keep=None, edgewise={"normal": choices})
    strength = [[0.9, 0.1], [0.5, 0.5], [0.4, 0.6]]
    cell = derive_cell(strength, space, "normal")
    assert cell.nodes == ((Edge("max_pool_3x3", 2), Edge("sep_conv_3x3", 1), Edge("skip_connect", 0)),)


def test_the_entropy_of_operation_weights():
    assert entropy({"normal": [[1 / 8] * 8] * 14}) == pytest.approx(math.log(8))
    assert entropy({"normal": [[1.0] + [0.0] * 7] * 14}) == 0


def test_genotypes_say_their_space_only_where_it_is_not_the_default():
    table = [[1 / 8] * 8] * 14
    assert derive({"normal": table, "reduce": table}, default("cnn")).space is None
