"""The derivation of a cell from alpha, against the rule written plainly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_cli.genotype import Cell, Edge
from darts_cli.methods.derive import derive_cell
from darts_cli.spaces import SPACES


def rule_written_plainly(alphas, domain):
    """Softmax, best operation but none, strongest edges: by looking at all of them."""
    searched, inputs, edges = SPACES[domain].searched, SPACES[domain].inputs, SPACES[domain].edges
    nodes, row = [], 0
    while row < len(alphas):
        candidates = []
        for state in range(inputs + len(nodes)):
            total = math.fsum(math.exp(a - max(alphas[row])) for a in alphas[row])
            for k, a in enumerate(alphas[row]):
                if searched[k] != "none":
                    candidates.append((-math.exp(a - max(alphas[row])) / total, state, k))
            row += 1
        chosen = []
        for _, state, k in sorted(candidates):
            if len(chosen) < edges and state not in [edge.input for edge in chosen]:
                chosen.append(Edge(searched[k], state))
        nodes.append(tuple(chosen))
    return Cell(tuple(nodes), tuple(range(inputs, inputs + len(nodes))))


def tables(domain, nodes, values):
    space = SPACES[domain]
    columns = len(space.searched)
    rows = space.edges_searched(nodes)
    return st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows)


COARSE = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])  # few values: many ties
FINE = st.floats(-5, 5)


@pytest.mark.parametrize(("domain", "nodes"), [("cnn", 4), ("rnn", 8), ("cnn", 1)])
@pytest.mark.parametrize("values", [COARSE, FINE], ids=["ties", "distinct"])
def test_derive_cell_is_the_rule(domain, nodes, values):
    @given(tables(domain, nodes, values))
    def check(alphas):
        cell = derive_cell(alphas, domain)
        assert cell == rule_written_plainly(alphas, domain)
        assert len(cell.nodes) == nodes

    check()


def test_ties_go_to_the_first_operation_and_the_lower_input():
    cell = derive_cell([[0.0] * 8] * 14, "cnn")
    assert cell.nodes == ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),) * 4


def test_a_tie_does_not_depend_on_the_order_of_summation():
    """Two rows with the same numbers in another order have the same strongest weight, to the bit."""
    first = [0.1, 0.2, 0.3, 0.7, 0.11, 0.13, 0.17, 0.19]
    second = [0.19, 0.17, 0.13, 0.11, 0.3, 0.7, 0.2, 0.1]
    assert [edge.input for edge in derive_cell([second, first], "cnn").nodes[0]] == [0, 1]
    assert [edge.input for edge in derive_cell([first, second], "cnn").nodes[0]] == [0, 1]


def test_none_weakens_an_edge_but_is_never_chosen():
    weak = [9.0, 1.0, 0, 0, 0, 0, 0, 0]
    strong = [0.0, 1.0, 0, 0, 0, 0, 0, 0]
    cell = derive_cell([weak, strong], "cnn")
    assert cell.nodes[0] == (Edge("max_pool_3x3", 1), Edge("max_pool_3x3", 0))
