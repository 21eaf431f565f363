"""The derivation of cells from operation weights, against the rule written plainly."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_cli.genotype import Cell, Edge, Genotype
from darts_cli.genotype import load as load_genotype
from darts_cli.methods.derive import derive, derive_cell, entropy
from darts_cli.runs.display import cell_table
from darts_cli.spaces.space import default, load, names


def rule_written_plainly(strength, space, cell):
    """Best operation but none, strongest edges: by looking at all of them."""
    nodes, row, choices = [], 0, space.choices(cell)
    while row < len(strength):
        candidates = []
        for state in range(space.inputs + len(nodes)):
            for k, weight in enumerate(strength[row]):
                if choices[row][k] != "none":
                    candidates.append((-weight, state, k, choices[row][k]))
            row += 1
        chosen = []
        for _, state, _, op in sorted(candidates):
            if len(chosen) < space.keep and state not in [edge.input for edge in chosen]:
                chosen.append(Edge(op, state))
        nodes.append(tuple(chosen))
    return Cell(tuple(nodes), tuple(range(space.inputs, space.inputs + len(nodes))))


def best_of_every_edge(strength, space, cell):
    """The rule of NAS-Bench-201: every edge its strongest operation, none included."""
    best = [row.index(max(row)) for row in strength]
    ops = [space.operations[k] for k in best]
    nodes, first = [], 0
    for count in range(1, space.nodes + 1):
        nodes.append(tuple(Edge(op, j) for j, op in enumerate(ops[first : first + count])))
        first += count
    return Cell(tuple(nodes), (space.nodes,))


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
        assert cell == rule_written_plainly(strength, space, space.cells[0])
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


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("values", [COARSE, FINE], ids=["ties", "distinct"])
def test_every_space_has_its_rule(name, values):
    space = load(name)
    rule = best_of_every_edge if name == "nas-bench-201" else rule_written_plainly
    columns, rows = len(space.choices(space.cells[0])[0]), len(space.edges())

    @given(st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    def check(strength):
        for cell in space.cells:
            assert derive_cell(strength, space, cell) == rule(strength, space, cell)

    check()


def test_a_cell_of_darts_that_keeps_all_edges():
    space = replace(default("cnn"), name="own", nodes=2, keep=None, operations=("none", "skip_connect"))
    cell = derive_cell([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.1, 0.9], [0.6, 0.4]], space, "normal")
    assert [[edge.op == "skip_connect" for edge in node] for node in cell.nodes] == [[False, False], [True, True, False]]
    assert cell.concat == (2, 3)


def test_the_entropy_of_operation_weights():
    assert entropy({"normal": [[1 / 8] * 8] * 14}) == pytest.approx(math.log(8))
    assert entropy({"normal": [[1.0] + [0.0] * 7] * 14}) == 0


def test_genotypes_say_their_space_only_where_it_is_not_the_default():
    table = [[1 / 8] * 8] * 14
    assert derive({"normal": table, "reduce": table}, default("cnn")).space is None


def test_cells_of_different_lengths_are_shown():
    """Where a threshold leaves nodes out of one of them."""
    whole = load_genotype("cnn/darts_v2").cells["normal"]
    short = Cell(whole.nodes[:3], (2, 3, 4))
    lines = cell_table(Genotype("cnn", {"normal": short, "reduce": whole})).splitlines()
    assert [len(line.split()) for line in lines] == [3, 9, 9, 9, 5]
    assert lines[-1].split()[0] == "5"
