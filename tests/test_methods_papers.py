"""The formulas of search methods, against numbers of their authors' code (float64, tests/data/methods.pt)."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from authors import network_of

from darts_cli.cnn.model import SearchNetwork
from darts_cli.genotype import Edge
from darts_cli.methods.derive import at_most_skips, derive, derive_above, derive_pairs
from darts_cli.methods.method import parse
from darts_cli.methods.papers import drnas, gdas, pc_darts, sdarts
from darts_cli.methods.value import Added, Step, plain
from darts_cli.spaces.choose import choose
from darts_cli.spaces.space import default, load

REFERENCE = torch.load(Path(__file__).parent / "data" / "methods.pt", weights_only=True)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
WITHOUT_NONE = ",".join(op for op in default("cnn").operations if op != "none")
START = Step(0, 50, 0, 0)


def gradients(value, *tensors):
    return torch.autograd.grad(value, tensors, materialize_grads=True, allow_unused=True)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def of_the_authors(reference, method, fused=True):
    """The authors' weights in our network; eight operations or, with as many columns, seven."""
    columns = reference["alphas"]["normal"].shape[1]
    space = choose("cnn", None, WITHOUT_NONE if columns == 7 else None, None)[1]
    return network_of(reference, space, fused, method=parse(method))


@pytest.mark.parametrize("name", [name for name in REFERENCE["betadarts"] if name.startswith("value_")])
def test_beta_decay(name):
    """The mean over edges of logsumexp, and the sum of that over both kinds of cell; lambda rises from 0 to 50."""
    expected = REFERENCE["betadarts"][name]
    alpha = leaf(expected["alphas"])
    method = parse("beta-darts")
    for epoch in (0, 10, 49):
        weight = 50 * epoch / 50
        penalty = method.penalty({"normal": alpha, "reduce": alpha}, Step(epoch, 50, 0, 0))
        torch.testing.assert_close(penalty, 2 * weight * expected["value"], **CLOSE)
        torch.testing.assert_close(gradients(penalty, alpha)[0], 2 * weight * expected["grad"], **CLOSE)


def test_fair_darts():
    """m = sigmoid(alpha); the zero-one penalty is a mean over all 196 entries, and 0 slope at alpha = 0."""
    reference = REFERENCE["fairdarts"]
    alphas = {cell: leaf(alpha) for cell, alpha in reference["alphas"].items()}
    method = parse("fair-darts")
    for cell, mixture in method.mixture(alphas, START).items():
        torch.testing.assert_close(mixture, 1 / (1 + (-alphas[cell]).exp()), **CLOSE)
    penalty = method.penalty(alphas, START)
    expected = reference["zero_one_l2"]
    torch.testing.assert_close(penalty.item(), 10 * float(expected["unweighted"]), **CLOSE)
    for cell, gradient in zip(alphas, gradients(penalty, *alphas.values()), strict=True):
        torch.testing.assert_close(gradient, expected["weighted_grad"][cell], **CLOSE)
    zeros = {cell: torch.zeros_like(alpha).requires_grad_() for cell, alpha in alphas.items()}
    assert all((gradient == 0).all() for gradient in gradients(method.penalty(zeros, START), *zeros.values()))


@pytest.mark.parametrize("threshold", [0.5, 0.85, 0.97])
def test_the_threshold_of_fair_darts(threshold):
    """Its cells, with (operation, node, input); a node without edges does not exist for us."""
    reference = REFERENCE["fairdarts"]["derive"]
    space = choose("cnn", None, WITHOUT_NONE, None)[1]
    found = derive_above(plain(reference["probabilities"]), space, threshold)
    for cell, edges in reference[f"threshold_sparse_{threshold}"].items():
        nodes = sorted({node for _, node, _ in edges})
        number = {0: 0, 1: 1} | {node: 2 + i for i, node in enumerate(nodes)}
        expected = [{(op, number[state]) for op, to, state in edges if to == node and state in number} for node in nodes]
        assert [{tuple(edge) for edge in node} for node in found.cells[cell].nodes] == expected
    darts = derive(plain(reference["probabilities"]), space)
    for cell, edges in reference["darts"].items():
        assert [list(edge) for node in darts.cells[cell].nodes for edge in node] == edges


def test_a_cell_below_the_threshold_keeps_its_strongest_edge():
    space = replace(load("s2"), nodes=2)
    weak = [[0.1, 0.2], [0.3, 0.1], [0.1, 0.1], [0.2, 0.4], [0.1, 0.3]]
    cell = derive_above({"normal": weak, "reduce": weak}, space, 0.9).cells["normal"]
    assert cell.nodes == ((Edge("sep_conv_3x3", 1),),)
    at = derive_above({"normal": weak, "reduce": weak}, space, 0.3).cells["normal"]  # what equals the threshold stays
    assert at.nodes == ((Edge("skip_connect", 1),), (Edge("sep_conv_3x3", 1), Edge("sep_conv_3x3", 2)))
    assert at.concat == (2, 3)


def test_a_strong_edge_from_a_node_without_edges_goes_with_it():
    """The strongest edge that is left is then one of the cell's inputs."""
    space = replace(load("s2"), nodes=2)
    weak = [[0.1, 0.2], [0.3, 0.1], [0.1, 0.1], [0.2, 0.1], [0.1, 0.9]]
    cell = derive_above({"normal": weak, "reduce": weak}, space, 0.95).cells["normal"]
    assert cell.nodes == ((Edge("skip_connect", 1),), (Edge("sep_conv_3x3", 2),))


def test_a_threshold_after_a_limit_of_skips():
    """Node 2 has no edge above the threshold, so that node 3 moves up; the limit is of its skip connections nevertheless."""
    space = replace(load("s2"), nodes=2)
    table = [[0.1, 0.2], [0.2, 0.1], [0.95, 0.1], [0.9, 0.1], [0.1, 0.1]]
    method = parse("sigmoid+threshold+max-skips:1")
    cells = method.derive({"normal": table, "reduce": table}, space).cells
    assert cells["normal"].nodes == ((Edge("skip_connect", 0),),)
    assert cells["reduce"].nodes == ((Edge("skip_connect", 0), Edge("skip_connect", 1)),)


def test_a_space_that_keeps_all_edges_has_no_threshold():
    """A cell of NAS-Bench-201 has six edges, or it is none."""
    table = [[0.1, 0.2, 0.3, 0.9, 0.1], *[[0.1, 0.2, 0.3, 0.4, 0.1]] * 5]
    found = parse("fair-darts").derive({"cell": table}, load("nas-bench-201"))
    assert [[edge.op for edge in node] for node in found.cells["cell"].nodes] == [["nor_conv_3x3"] * n for n in (1, 2, 3)]


def test_gdas():
    """The hard sample and its gradient for given noise; what it draws is one-hot, as often as the softmax says."""
    for sample in REFERENCE["gdas"]["samples"]:
        alpha = leaf(sample["alphas"])
        hard = gdas.one_hot(alpha, sample["exponential"], float(sample["tau"]))
        torch.testing.assert_close(hard, sample["hard"], **CLOSE)
        assert hard.argmax(-1).tolist() == sample["index"].tolist()
        torch.testing.assert_close(gradients((hard * sample["dhard"]).sum(), alpha)[0], sample["dalphas"], **CLOSE)
    method, taus = parse("gdas"), REFERENCE["gdas"]["tau_schedule_250_epochs"]
    for epoch in range(250):
        assert method.shown(Step(epoch, 250, 0, 0))["temperature"] == pytest.approx(float(taus[epoch]), abs=1e-12)
    alpha = torch.tensor([[0.5, -0.5, 1.0]], dtype=torch.float64).expand(4000, 3)
    drawn = method.mixture({"normal": alpha}, Step(3, 250, 1, 7))["normal"]
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    p = alpha[0].softmax(-1)
    assert ((drawn.mean(0) - p).abs() < 5 * (p * (1 - p) / 4000).sqrt()).all()


def test_drnas():
    """The concentration, the divergence from the flat distribution and the implicit gradient of a sample."""
    for expected in REFERENCE["drnas"]["matrices"]:
        alpha = leaf(expected["alphas"])
        torch.testing.assert_close(drnas.concentration(alpha), expected["concentration"], **CLOSE)
        sample = drnas.Sample.apply(drnas.concentration(alpha), None, expected["sample"])
        found = gradients((sample * expected["dmixture"]).sum(), alpha)[0]
        torch.testing.assert_close(found, expected["dalphas_pathwise"], **CLOSE)
        torch.testing.assert_close(drnas.kl(drnas.concentration(alpha)), expected["kl_per_edge"], **CLOSE)
        penalty = parse("dirichlet+dirichlet-kl:1").penalty({"normal": alpha}, START)
        torch.testing.assert_close(gradients(penalty, alpha)[0], expected["dkl_sum"], **CLOSE)
    alpha = torch.tensor([[0.5, -0.5, 1.0]], dtype=torch.float64).expand(4000, 3)
    drawn = parse("drnas").mixture({"normal": alpha}, START)["normal"]
    c = drnas.concentration(alpha[0])
    mean = c / c.sum()
    torch.testing.assert_close(drawn.sum(-1), torch.ones(4000, dtype=torch.float64))
    assert ((drawn.mean(0) - mean).abs() < 5 * (mean * (1 - mean) / (c.sum() + 1) / 4000).sqrt()).all()


def test_sdarts():
    """The projection, the radius, a random perturbation and the ascent to the worst operation weights."""
    reference = REFERENCE["sdarts"]
    torch.testing.assert_close(sdarts.project(reference["projection"]["before"]), reference["projection"]["after"], **CLOSE)
    radii = [parse("sdarts-adv").shown(Step(epoch, 50, 0, 0))["radius"] for epoch in range(50)]
    torch.testing.assert_close(
        torch.tensor(radii).double(), reference["epsilon_schedule_50_epochs"].double(), rtol=1e-6, atol=0
    )
    for case in reference["random"]:
        for cell, p in case["softmax"].items():
            torch.testing.assert_close(sdarts.project(p + case["delta"][cell]), case["perturbed"][cell], **CLOSE)
    start = of_the_authors(reference, "darts")
    assert {case["random_start"] for case in reference["adversarial"]} == {True, False}
    for case in reference["adversarial"]:
        network = copy.deepcopy(start)
        network(reference["x_before"].double())
        network.eval()
        losses = []

        def loss(m, network=network, losses=losses):
            losses.append(F.cross_entropy(network(reference["x"].double(), m), reference["y"]))
            return losses[-1]

        delta = case["delta"] if case["random_start"] else {cell: torch.zeros_like(p) for cell, p in case["softmax"].items()}
        m = sdarts.climb(case["softmax"], delta, loss, float(case["epsilon"]), 7)
        torch.testing.assert_close(torch.stack(losses).detach(), torch.as_tensor(case["losses"]), **CLOSE)
        for cell, expected in case["perturbed"].items():
            torch.testing.assert_close(m[cell], expected, **CLOSE)


def test_a_perturbation_stays_within_its_radius_and_on_the_simplex():
    p = {"normal": torch.rand(14, 7, dtype=torch.float64).softmax(-1)}
    method = parse("sdarts-rs:radius_start=0.02,radius_end=0.02")
    m = method.disturbed(p, START, None, list)["normal"]
    torch.testing.assert_close(m.sum(-1), torch.ones(14, dtype=torch.float64))
    assert (m != p["normal"]).any()
    assert ((m - p["normal"]).abs() < 7 * 0.02).all()


@pytest.mark.parametrize("fused", [True, False])
def test_pc_darts(fused):
    """Logits, gradients of alpha and of the numbers of edges, and the cell that both derive."""
    reference = REFERENCE["pcdarts"]["network"]
    network = of_the_authors(reference, "pc-darts", fused)
    for cell in ("normal", "reduce"):
        network.alphas[f"{cell}_edges"].data.copy_(reference["betas"][cell])
        expected = reference["edge_weights"][cell]
        torch.testing.assert_close(pc_darts.softmax_by_node(reference["betas"][cell]), expected, **CLOSE)
    logits = network(reference["x"].double())
    torch.testing.assert_close(logits, reference["logits"], **CLOSE)
    F.cross_entropy(logits, reference["y"]).backward()
    for cell in ("normal", "reduce"):
        torch.testing.assert_close(network.alphas[cell].grad, reference["dalphas"][cell], **CLOSE)
        torch.testing.assert_close(network.alphas[f"{cell}_edges"].grad, reference["dbetas"][cell], **CLOSE)
    found = network.genotype()
    assert {cell: [list(edge) for node in found.cells[cell].nodes for edge in node] for cell in found.cells} == reference[
        "genotype"
    ]
    evaluated = network.eval()(reference["x"].double())
    torch.testing.assert_close(evaluated, reference["logits_eval_after_one_train_forward"], **CLOSE)


@pytest.mark.parametrize("name", [name for name in REFERENCE["pcdarts"] if name.startswith("permutation")])
def test_the_shuffle_of_pc_darts(name):
    C, K = map(int, name.split("_")[1:])
    assert pc_darts.shuffled(C, K).tolist() == REFERENCE["pcdarts"][name].tolist()


@pytest.mark.parametrize("fused", [True, False])
def test_the_skip_connections_that_darts_minus_adds(fused):
    """At stride 1 they are as much more of skip_connect; d falls linearly to 0, and the last epoch still has some."""
    method = parse("darts-minus")
    assert [method.added(Step(epoch, 50, 0, 0)).auxiliary_skip for epoch in (0, 25, 49)] == pytest.approx([1, 0.5, 0.02])
    network = SearchNetwork(4, 10, 3, fused=fused, method=method).double().eval()
    for skip in network.cells[1].skips:  # their own layers of the reduction cells do nothing here
        for weight in skip.parameters():
            weight.data.zero_()
    for skip in network.cells[2].skips:
        for weight in skip.parameters():
            weight.data.zero_()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    m = {cell: torch.rand(14, 8, dtype=torch.float64) for cell in ("normal", "reduce")}
    more = copy.deepcopy(m)
    space = default("cnn")
    for cell in more:
        for row, (state, _) in enumerate(space.edges()):
            if cell == "normal" or state >= space.inputs:
                more[cell][row, space.operations.index("skip_connect")] += 0.3
    expected = network(x, more)
    network.added = Added(auxiliary_skip=0.3)
    torch.testing.assert_close(network(x, m), expected)


@pytest.mark.parametrize("case", REFERENCE["pdarts"], ids=range(3))
def test_the_skips_of_p_darts(case):
    """Its last stage: three operations an edge, other ones for each; derived, and restricted to at most M skip connections."""
    operations = default("cnn").operations
    rows = {cell: tuple(tuple(operations[k] for k in row) for row in case["ops_before"][cell]) for cell in ("normal", "reduce")}
    space = replace(default("cnn"), edgewise=rows)
    strength = {cell: alpha.softmax(-1).tolist() for cell, alpha in case["alphas"].items()}
    cells = {"derived": (case["derived"], 8)} | {most: (cells, int(most)) for most, cells in case["restricted"].items()}
    for expected, most in cells.values():
        found = at_most_skips(strength, space, most)
        for cell, edges in expected.items():
            nodes = [sorted(edges[i : i + 2]) for i in range(0, 8, 2)]
            assert [sorted(map(list, node)) for node in found.cells[cell].nodes] == nodes


def test_at_most_so_many_skips():
    """Written plainly: while there are too many, the weakest that is kept goes, and the cell is derived again."""
    space = load("s3")
    g = torch.Generator().manual_seed(0)
    for most in (0, 1, 2, 8):
        strength = {cell: torch.rand(14, 3, generator=g).softmax(-1) for cell in space.cells}
        strength["normal"][:, 1] += 0.2
        table = strength["normal"].clone()
        while True:
            cell = derive({"normal": table.tolist(), "reduce": strength["reduce"].tolist()}, space).cells["normal"]
            kept = [
                space.edges().index((edge.input, node))
                for node, edges in enumerate(cell.nodes, 2)
                for edge in edges
                if edge.op == "skip_connect"
            ]
            if len(kept) <= most:
                break
            table[min(kept, key=lambda row: table[row, 1]), 1] = 0
        found = at_most_skips(plain(strength), space, most)
        assert found.cells["normal"] == cell
        assert found.cells["normal"].count("skip_connect") <= most
        assert found.cells["reduce"] == derive(plain(strength), space).cells["reduce"]


def test_a_draw_depends_on_nothing_but_the_step():
    alphas = {"normal": torch.zeros(14, 8), "reduce": torch.zeros(14, 8)}
    for name in ("gdas", "drnas"):
        method = parse(name)
        first, again, later = (method.mixture(alphas, Step(1, 5, 3, number)) for number in (4, 4, 5))
        assert all(torch.equal(first[cell], again[cell]) for cell in alphas)
        assert any(not torch.equal(first[cell], later[cell]) for cell in alphas)
        assert not torch.equal(first["normal"], first["reduce"])


def test_the_pairs_of_gdas():
    """Two pairs of operation and input a node, none excluded; both may come from one input."""
    reference = REFERENCE["gdas"]["derive_pairs"]
    ours = dict(zip(reference["ops"], default("cnn").operations, strict=True))  # eight operations, none first, in any order
    space = replace(default("cnn"), operations=tuple(ours.values()))
    strength = {cell: reference[f"{cell}_alphas"].softmax(-1).tolist() for cell in ("normal", "reduce")}
    found = derive_pairs(strength, space)
    for cell in ("normal", "reduce"):
        expected = [[(ours[op], state) for op, state in node] for node in reference[cell]]
        assert [[tuple(edge) for edge in node] for node in found.cells[cell].nodes] == expected
    table = [[0.1, 0.5, 0.4], [0.3, 0.35, 0.35]]
    shared = derive_pairs({"normal": table, "reduce": table}, replace(load("s3"), nodes=1))
    assert shared.cells["normal"].nodes == ((Edge("skip_connect", 0), Edge("sep_conv_3x3", 0)),)
