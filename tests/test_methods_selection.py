"""Methods that decide with trained weights, and stages of a search, against numbers of their authors' code (float64)."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from authors import network_of
from hypothesis import given
from hypothesis import strategies as st

from darts_cli import DartsError, legacy
from darts_cli.cnn.model import SearchNetwork
from darts_cli.config import SearchCNN
from darts_cli.methods.decisions import Decisions, fixed
from darts_cli.methods.method import parse
from darts_cli.methods.papers import darts_pt, random_sharing
from darts_cli.methods.relaxation import active
from darts_cli.methods.stages import carry_over, narrowed, spread
from darts_cli.methods.value import NOTHING, Step, plain, softmax
from darts_cli.spaces.choose import choose
from darts_cli.spaces.space import default, load

REFERENCE = torch.load(Path(__file__).parent / "data" / "methods_selection.pt", weights_only=True)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
SPACE = choose("cnn", None, ",".join(op for op in default("cnn").operations if op != "none"), None)[1]


class Scores:
    """Accuracy or, with `loss`, minus the loss of the authors' images at operation weights; a table is measured once."""

    def __init__(self, by, measured):
        self.reference, self.by, self.measured = REFERENCE["dartspt"], by, measured
        self.network = network_of(self.reference, SPACE, fused=True).train()

    def __call__(self, tables, *, training):
        assert training
        key = torch.cat([table.flatten() for table in tables.values()]).numpy().tobytes()
        if key not in self.measured:
            self.measured[key] = self.measure(tables)
        return self.measured[key][0 if self.by == "accuracy" else 1]

    @torch.no_grad()
    def measure(self, tables):
        sums, size = torch.zeros(2, dtype=torch.float64), self.reference["batch"]
        x, y = self.reference["x"].double().split(size), self.reference["y"].split(size)
        for images, labels in zip(x, y, strict=True):
            logits = self.network(images, tables, active(tables, SPACE))
            sums += torch.stack([(logits.argmax(1) == labels).sum(), -F.cross_entropy(logits, labels, reduction="sum")])
        return (sums / len(self.reference["y"])).tolist()


@pytest.fixture(scope="module")
def measured():
    return {}


@pytest.mark.parametrize("by", ["accuracy", "loss"])
def test_what_the_network_misses(by, measured):
    """The scores without one operation, and without one edge, and what is kept by them; every other place of the authors'."""
    reference, score = REFERENCE["dartspt"], Scores(by, measured)
    tables = softmax(reference["alphas"])
    sign, scale = (1, 100) if by == "accuracy" else (-1, 1)
    for case in reference["operation_scores"][::2]:
        found = torch.tensor(darts_pt.without_operation(tables, case["cell"], case["edge"], score), dtype=torch.float64)
        torch.testing.assert_close(sign * scale * found, case[f"{by}_without"], **CLOSE)
        row = darts_pt.missed(tables, case["cell"], case["edge"], score, SPACE)
        assert row.tolist() == [float(k == case[f"best_by_{by}"]) for k in range(7)]
    for case in reference["edge_scores"][::2]:
        gone = darts_pt.discarded(tables, case["cell"], case["node"], score, SPACE)
        assert sorted(set(case["edges"]) - set(gone)) == sorted(case[f"kept_by_{by}"])


@pytest.mark.slow
def test_a_whole_selection(measured):
    """The authors' 34 decisions, of which some of either kind are found again in each cell, and their cells."""
    key = "selection_by_acc"
    reference, score = REFERENCE["dartspt"], Scores("accuracy", measured)
    strength, decisions = softmax(reference["alphas"]), Decisions(SPACE).double()
    decided, found_again = decisions.tables(), (0, 7, 14, 21, 28, 33)
    for number, (cell, kind, place, *kept) in enumerate(reference[key]["steps"]):
        tables = fixed(strength, decided)
        if kind == "operation":
            row = F.one_hot(torch.tensor(kept[0]), 7).double()
            if number in found_again:
                assert torch.equal(darts_pt.missed(tables, cell, place, score, SPACE), row)
            decided[cell][place] = row
        else:
            gone = sorted(set(SPACE.by_node(range(14))[place]) - set(kept))
            if number in found_again:
                assert sorted(darts_pt.discarded(tables, cell, place, score, SPACE)) == gone
            decided[cell][gone] = 0.0
    decisions.set(decided)
    assert decisions.open() == 0
    found = parse("darts-pt").derive(plain(decisions(strength)), SPACE)
    for cell, edges in reference[key]["genotype"].items():
        assert [sorted(node, key=lambda edge: edge.input) for node in found.cells[cell].nodes] == [
            [tuple(edge) for edge in edges[start : start + 2]] for start in range(0, 8, 2)
        ]


def test_the_rounds_of_a_selection():
    """17 rounds at the ends of epochs 50, 55, ..., 130, as the authors' at the starts of 81 epochs after 50."""
    assert darts_pt.rounds(SPACE) == 17
    share = 80 / 130
    due = [darts_pt.due(Step(epoch, 130, 0, 0), share, 17) for epoch in range(130)]
    assert [epoch + 1 for epoch in range(130) if due[epoch] > (due[epoch - 1] if epoch else 0)] == list(range(50, 131, 5))
    assert due[-1] == 17
    assert parse("darts-pt").stages(130) == parse(f"softmax+perturbation-selection:{share}").stages(130)
    assert [stage.start for stage in parse("darts-pt").stages(130)] == [0, 50]
    assert darts_pt.rounds(load("nas-bench-201")) == 6  # all edges are kept
    assert darts_pt.rounds(default("rnn")) == 36 + 7


@given(st.integers(1, 300), st.floats(0, 0.99), st.integers(1, 60))
def test_every_selection_ends_with_the_search(epochs, share, rounds):
    due = [darts_pt.due(Step(epoch, epochs, 0, 0), share, rounds) for epoch in range(epochs)]
    assert due == sorted(due)
    assert due[-1] == rounds


def test_a_selection_goes_on_where_it_stood():
    """Rounds one by one, or in one go, decide the same; what is decided counts the rounds."""
    strength = softmax(REFERENCE["dartspt"]["alphas"])
    passes = []

    def score(tables, *, training):
        passes.append(tables)
        return -float(sum((table * torch.arange(1, 99).view(14, 7)).sin().sum() for table in tables.values()))

    decided = Decisions(SPACE).double().tables()
    for number in range(17):
        assert darts_pt.done(decided, SPACE) == number
        decided = darts_pt.select(strength, decided, Step(5, 9, 1, 0), score, SPACE, number)
    assert darts_pt.done(decided, SPACE) == 17
    assert len(passes) == 2 * (14 * 7 + 3 + 4 + 5)
    for table in decided.values():
        assert [int((rows != 0).any(-1).sum()) for rows in SPACE.by_node(table)] == [2, 2, 2, 2]
        assert set(table.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("fused", [True, False])
def test_random_sharing(fused):
    """Three steps of the authors on one architecture each, then all six in evaluation mode."""
    reference = REFERENCE["randomnas"]
    network = network_of(reference, default("cnn"), fused)
    optimizer = torch.optim.SGD(network.weights(), 0.025, 0.9, weight_decay=3e-4)
    names = {legacy.original_key(network, name): weight for name, weight in network.named_parameters()}
    weights = [names[key] for key in reference["weights"]["keys"]]

    def logits(sample, x):
        """The authors compute all operations, whose BatchNorm and weight decay go on while their weight is 0."""
        mixture = {cell: table.double() for cell, table in sample["mixture"].items()}
        return network(x.double(), mixture, None if network.training else active(mixture, default("cnn")))

    for sample, expected in zip(reference["samples"], reference["steps"], strict=False):
        network.train()
        loss = F.cross_entropy(logits(sample, reference["x"]), reference["y"])
        torch.testing.assert_close(loss, expected["loss"], **CLOSE)
        optimizer.zero_grad()
        loss.backward()
        for weight in weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        norms = torch.stack([weight.grad.norm() for weight in weights])
        torch.testing.assert_close(norms, expected["dw"]["norm"].nan_to_num(), **CLOSE)
        torch.nn.utils.clip_grad_norm_(weights, 5)
        optimizer.step()
    network.eval()
    for sample, expected in zip(reference["samples"], reference["evaluation"], strict=True):
        torch.testing.assert_close(logits(sample, reference["x_valid"]), expected["logits"], rtol=1e-8, atol=1e-10)


def test_random_architectures_are_uniform():
    """Every node has two different inputs, every operation the same chance; without `none` where it must not be."""
    alphas = {"normal": torch.zeros(14, 8), "recurrent": torch.zeros(36, 5), "cell": torch.zeros(6, 5)}
    counts = {cell: torch.zeros_like(alpha) for cell, alpha in alphas.items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        for cell, table in random_sharing.architecture(alphas, generator).items():
            counts[cell] += table
            assert set(table.sum(-1).tolist()) <= {0.0, 1.0}
    assert [rows.sum().item() for rows in SPACE.by_node(counts["normal"])] == [4000] * 4
    assert [rows.sum().item() for rows in default("rnn").by_node(counts["recurrent"])] == [2000] * 8
    assert counts["cell"].sum(-1).tolist() == [2000] * 6
    for start, edges in ((0, 2), (2, 3), (5, 4), (9, 5)):
        mean = 2000 * 2 / edges / 8
        assert (counts["normal"][start : start + edges] - mean).abs().max() < 5 * math.sqrt(mean)
    none = {cell: [row % 2 for row in range(len(table))] for cell, table in alphas.items()}  # of every edge another column
    without = sum(random_sharing.architecture(alphas, generator, none=none)["normal"] for _ in range(100))
    assert without[0::2, 0].sum() == without[1::2, 1].sum() == 0
    assert (without[0::2, 1:] > 0).all()
    assert (without[1::2, 0] > 0).all()


@pytest.mark.parametrize(("keep", "kept"), [(1, "1"), ("all", "all")])
def test_random_architectures_are_refused_where_the_cells_keep_other_inputs(keep, kept):
    """What is scored must be what is derived."""
    space = {"domain": "cnn", "operations": ["skip_connect", "sep_conv_3x3"], "nodes": 2, "keep": 2}
    assert SearchCNN(space=space, method="random-sharing").searched.keep == 2
    with pytest.raises(
        DartsError, match=f"random-sharing: draws 2 inputs for every node of normal cells, but this space keeps {kept}"
    ):
        SearchCNN(space=space | {"keep": keep}, method="random-sharing")


@pytest.mark.parametrize("case", range(len(REFERENCE["pdarts"]["stages"])))
def test_the_stages_of_p_darts(case):
    """From 8 operations of every edge to 5, to 3."""
    space = default("cnn")
    stages = REFERENCE["pdarts"]["stages"][case]
    for stage, keep in zip(stages[:2], (5, 3), strict=True):
        strength = plain(softmax(stage["alphas"]))
        after = narrowed(space, strength, keep)
        for cell in ("normal", "reduce"):
            expected = [tuple(default("cnn").operations[k] for k in row) for row in stage["ops_after"][cell]]
            assert list(after.choices(cell)) == expected
        wide = spread(strength, space, default("cnn"))
        assert narrowed(default("cnn"), wide, keep).edgewise == after.edgewise  # as a resumed run finds them
        space = after


def test_the_dropout_of_p_darts():
    for rate, expected in REFERENCE["pdarts"]["skip_dropout"].items():
        method = parse(f"alpha-warmup:10+skip-dropout:{rate}")
        found = [method.added(Step(epoch, 25, 0, 0)).skip_dropout for epoch in range(25)]
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, **CLOSE)
    shown = parse("p-darts").shown
    assert [shown(Step(epoch, 75, 0, 0))["stage"] for epoch in (0, 24, 25, 49, 50, 74)] == [1, 1, 2, 2, 3, 3]
    assert [round(shown(Step(epoch, 75, 0, 0))["skip_dropout"], 6) for epoch in (0, 25, 50)] == [0.096, 0.384, 0.672]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("partial", [1, 2])
def test_dropout_follows_the_identity_alone(fused, partial):
    """Where all edges skip, a node is the sum of its inputs, each element dropped or doubled; at stride 2 and in evaluation
    mode nothing is."""
    space = choose("cnn", None, "skip_connect,sep_conv_3x3", None)[1]
    network = SearchNetwork(4, 3, 3, space=space, fused=fused, method=parse(f"partial:{partial}" if partial > 1 else "darts"))
    network = network.double().train()
    skips = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(14, 2)
    added = parse("skip-dropout:0.5").added(Step(0, 10**9, 0, 0))
    normal, reduce = network.cells[0], network.cells[1]
    x = torch.randn(2, 2, 4, 8, 8, dtype=torch.float64)
    mixed = normal.order.argsort()[: 4 // partial]  # where the channels are that the operations see

    node = normal.nodes(x, skips, None, None, added)[0]
    options = torch.stack([a * x[0] + b * x[1] for a in (0, 2) for b in (0, 2)])[:, :, : 4 // partial]
    nearest = (node[:, mixed] - options).abs().min(dim=0)
    assert nearest.values.max() < 1e-12
    assert nearest.indices.unique().tolist() == [0, 1, 2, 3]

    normal.eval()
    torch.testing.assert_close(normal.nodes(x, skips, None, None, added)[0][:, mixed], x.sum(0)[:, : 4 // partial])
    x = torch.randn(2, 2, 8, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(*(reduce.nodes(x, skips, None, None, what)[0] for what in (added, NOTHING)))


def test_a_network_is_narrowed_as_it_is():
    """DrNAS: with the same partial channels, the logits are those of the old network without the operations that go."""
    torch.manual_seed(0)
    old = SearchNetwork(8, 5, 3, space=SPACE, method=parse("drnas")).double()
    for cell in old.alphas:
        old.alphas[cell].data.copy_(REFERENCE["drnas"]["alphas"][cell])
    space = narrowed(SPACE, plain(softmax(old.alphas)), 4)
    for cell, mask in REFERENCE["drnas"]["pruned_to_4"]["mask"].items():
        assert [[op in ops for op in SPACE.operations] for ops in space.choices(cell)] == mask.tolist()
    new = SearchNetwork(8, 5, 3, space=space, method=parse("drnas")).double()
    optimizers = moved(old), moved(new, step=False)
    carry_over(old, *optimizers[0], new, *optimizers[1], Step(0, 2, 0, 0))
    mixture = softmax(new.alphas)
    wide = {cell: torch.tensor(rows, dtype=torch.float64) for cell, rows in spread(plain(mixture), space, SPACE).items()}
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(new.eval()(x, mixture), old.eval()(x, wide), **CLOSE)
    kept = torch.tensor([[op in ops for op in SPACE.operations] for ops in space.choices("normal")])
    for key in ("exp_avg", "exp_avg_sq"):
        was, now = (
            alpha.state[network.alphas["normal"]][key] for network, (_, alpha) in zip((old, new), optimizers, strict=True)
        )
        assert torch.equal(now, was[kept].view(14, 4))
    found = parse("drnas").derive(plain(mixture), space)
    for cell, edges in REFERENCE["drnas"]["pruned_to_4"]["genotype"].items():
        assert [list(edge) for node in found.cells[cell].nodes for edge in node] == edges


def moved(network, step=True):
    """The optimisers of a network and, after a step, what they remember."""
    w = torch.optim.SGD(network.weights(), 0.1, 0.9)
    alpha = torch.optim.Adam(network.alphas.values(), 0.1)
    if step:
        network(torch.randn(2, 3, 8, 8, dtype=torch.float64)).sum().backward()
        w.step()
        alpha.step()
    return w, alpha


def test_a_network_is_widened_by_copies():
    """DrNAS' count of parameters from K = 4 to 2; every added channel is a copy, with its momentum; the rest is as it was."""
    old, new = (SearchNetwork(8, 5, 3, space=SPACE, method=parse(f"drnas+partial:{k}")).double() for k in (4, 2))
    count = [sum(weight.numel() for weight in network.weights()) for network in (old, new)]
    reference = REFERENCE["drnas"]
    assert count == [reference["k4_parameters"], reference["wider_4_to_2_parameters"]]
    optimizers = moved(old), moved(new, step=False)
    carry_over(old, *optimizers[0], new, *optimizers[1], Step(0, 2, 0, 0))
    again = copy.deepcopy(new)
    carry_over(old, *optimizers[0], again, *moved(again, step=False), Step(0, 2, 0, 0))
    before = dict(old.named_parameters())
    widened = 0
    for (name, weight), same in zip(new.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same)
        was = before[name]
        if weight.shape == was.shape:
            assert torch.equal(weight, was)
            continue
        widened += 1
        assert torch.equal(weight[tuple(map(slice, was.shape))], was)
        assert set(weight.flatten().tolist()) == set(was.flatten().tolist())
        momentum = optimizers[1][0].state[weight]["momentum_buffer"]
        assert momentum.shape == weight.shape
        assert set(momentum.flatten().tolist()) == set(optimizers[0][0].state[was]["momentum_buffer"].flatten().tolist())
    assert widened > 300
