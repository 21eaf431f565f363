"""The guard against collapse: exact curvature, the rules that stop a search, and a search that stops."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from authors import network_of
from conftest import assert_same_run, crash_and_resume, darts
from hypothesis import given
from hypothesis import strategies as st

from darts_cli import DartsError
from darts_cli.cnn import evaluate, search_cell
from darts_cli.cnn.data import halves
from darts_cli.cnn.model import search_network
from darts_cli.cnn.search import watched
from darts_cli.cnn.search_cell import MixedCell, plain_nodes
from darts_cli.config import SearchCNN
from darts_cli.guard import words
from darts_cli.guard.curvature import hessian_product, largest_eigenvalue
from darts_cli.guard.rules import averages, parse
from darts_cli.guard.watch import discrete, parameter_free
from darts_cli.methods.derive import derive
from darts_cli.methods.method import parse as parse_method
from darts_cli.methods.value import DARTS, NOTHING, Added, Step, plain, softmax
from darts_cli.pictures.curves import curves
from darts_cli.pictures.pages.search import charts_of, page
from darts_cli.rnn import evaluate as rnn_evaluate
from darts_cli.rnn import model as rnn
from darts_cli.runs.history import read
from darts_cli.spaces.space import default, load

REFERENCE = torch.load(Path(__file__).parent / "data" / "guard.pt", weights_only=True)


class Images:
    """The authors' images as a batch of a data set."""

    def __init__(self, reference, dtype=torch.float64):
        self.images, self.labels = reference["x"].to(dtype), reference["y"]

    def plain(self, index):
        return self.images, self.labels


# ---- curvature


@pytest.mark.parametrize("space", ["s2", "s3"])
def test_products_with_the_hessian_are_exact(space):
    reference = REFERENCE[f"network_{space}"]
    network = network_of(reference, load(space))
    alphas = list(network.alphas.values())
    with plain_nodes(network):
        product = hessian_product(F.cross_entropy(network(reference["x"]), reference["y"]), alphas)
    v = reference["vector"]
    expected = reference["hessian_times_vector"] - reference["alpha_weight_decay"] * v
    torch.testing.assert_close(product(v), expected, rtol=1e-9, atol=1e-11)
    assert all(cell.form.fused for cell in network.cells)


def test_the_hessian_is_that_of_torch():
    """Column by column, of a function with terms between two tensors; of a tensor that does not matter it is 0."""
    torch.manual_seed(0)
    A, u, w, unused = (torch.randn(shape, dtype=torch.float64) for shape in ((5, 5), (2,), (3,), (1,)))

    def f(x):
        return (A @ x).sin().sum() * x.exp().sum()

    tensors = [t.requires_grad_() for t in (u, w, unused)]
    product = hessian_product(f(torch.cat([u, w])), tensors)
    columns = torch.stack([product(row) for row in torch.eye(6, dtype=torch.float64)])
    expected = torch.autograd.functional.hessian(f, torch.cat([u, w]).detach())
    torch.testing.assert_close(columns[:5, :5], expected)
    assert columns[5].abs().max() == 0


@pytest.mark.parametrize("space", ["s2", "s3"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_the_eigenvalue_is_that_of_the_authors(space, dtype, tolerance):
    """Statistics, mode and gradients are afterwards what they were."""
    reference = REFERENCE[f"network_{space}"]
    network = network_of(reference, load(space))
    network = network.to(dtype).eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found = evaluate.eigenvalue(network, Images(reference, dtype), reference["alpha_weight_decay"])
    assert found == pytest.approx(reference["dominant_eigenvalue"], rel=tolerance)
    assert not network.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_the_eigenvalue_of_a_recurrent_cell_is_that_of_torch():
    """Of the loss written as a function of alpha alone; the network stays as it is."""
    torch.manual_seed(0)
    space = replace(default("rnn"), nodes=2)
    network = rnn.SearchNetwork(9, 6, space=space, alpha_scale=1.0).double()
    with torch.no_grad():
        for weight in network.weights():
            weight.mul_(20)  # so that alpha matters
    (alpha,), streams = network.alphas.values(), torch.randint(0, 9, (7, 4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def loss(flat):
        mixture = {"recurrent": flat.view_as(alpha).softmax(-1)}
        return measured.loss(streams[:5], streams[1:6], measured.initial(4), mixture=mixture)[1]

    measured = network.measured(fused=False)
    H = torch.autograd.functional.hessian(loss, alpha.detach().flatten())
    found = rnn_evaluate.eigenvalue(network, streams, 5, 1e-3)
    assert found == pytest.approx(torch.linalg.eigvalsh(H)[-1].item() + 1e-3, rel=1e-9)
    assert found > 0.01
    assert (network.fused, network.cell.fused, network.training) == (True, True, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_a_search_of_a_recurrent_cell_records_eigenvalues(text, tmp_path):
    """And nothing else changes by it."""
    command = ["search", "rnn", "--dataset", "text", "--data", text, "--nodes", "2", "--epochs", "2"]
    command += "--dim 4 --batch-size 4 --eval-batch 2 --bptt 5".split()
    records = []
    for every in (0, 2):
        done = darts(*command, "--eigenvalue-every", every, "--run", tmp_path / str(every))
        assert done.exit_code == 0, done.stderr
        records.append(recorded(tmp_path / str(every)))
    assert "  eigenvalue " in done.stderr
    found = [record.pop("eigenvalue", None) for record in records[1]]
    assert [value is not None for value in found] == [True, False]
    assert records[0] == records[1]
    assert f"Hessian in alpha: {found[0]:.3g} after epoch 1, at most" in (tmp_path / "2" / "report.md").read_text()
    history = read(tmp_path / "2")
    assert history.eigenvalues() == [(1, found[0])]
    assert "eigenvalue" in [chart.label for chart in charts_of(history)]
    assert ">eigenvalue<" in curves([history], "svg").decode()


def test_the_eigenvalue_is_the_largest_not_that_of_the_largest_magnitude():
    H = torch.diag(torch.tensor([-9.0, 2.0, 1.0, 0.0], dtype=torch.float64))
    assert largest_eigenvalue(lambda v: H @ v, torch.ones(4)) == pytest.approx(2, abs=1e-12)
    H = REFERENCE["network_s2"]["hessian"]
    start = torch.randn(56, generator=torch.Generator().manual_seed(1))
    assert largest_eigenvalue(lambda v: H @ v, start) == pytest.approx(torch.linalg.eigvalsh(H)[-1].item(), rel=1e-6)


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_lanczos_finds_the_largest_eigenvalue_of_small_matrices(n, seed):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=g, dtype=torch.float64)
    H = A + A.t()
    found = largest_eigenvalue(lambda v: H @ v, torch.randn(n, generator=g))
    assert found == pytest.approx(torch.linalg.eigvalsh(H)[-1].item(), rel=1e-8, abs=1e-8)


def test_lanczos_stops_in_an_invariant_subspace():
    assert largest_eigenvalue(lambda v: 3 * v, torch.ones(7)) == pytest.approx(3)
    assert largest_eigenvalue(lambda v: 0 * v, torch.ones(7)) == 0


def test_a_pass_in_training_mode_leaves_nothing_behind():
    """Whenever the state may be saved in such a pass, the statistics are those from before it."""
    network = network_of(REFERENCE["network_s2"], load("s2"))
    before, seen = {name: buffer.clone() for name, buffer in network.named_buffers()}, []

    class Two:
        def in_order(self):
            yield from [Images(REFERENCE["network_s2"]).plain(0)] * 2

        def share(self, index):
            return 4, slice(4)

    def saved():
        seen.append(all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers()))

    evaluate.measure(network, Two(), "fp32", saved, training=True)
    assert seen == [True, True]


# ---- rules


@pytest.mark.parametrize("sequence", REFERENCE["stop"]["sequences"], ids=lambda s: f"{s['kind']}-{s['every']}")
def test_the_rule_of_robustdarts(sequence):
    """As the authors' code stops, to the epoch; found after every epoch, it is found once and for all."""
    every, values = sequence["every"], dict(zip(sequence["epochs"], sequence["eigenvalues"].tolist(), strict=True))
    records = [{"eigenvalue": values[epoch]} if epoch in values else {} for epoch in range(50)]
    means = averages(list(values.values()))
    assert means[: len(sequence["averages"])] == pytest.approx(sequence["averages"][: len(means)])
    rule = parse("eigenvalue")
    expected = (sequence["decided_after_epoch"], sequence["cell_of_epoch"]) if sequence["stopped"] else None
    assert rule.stopped(records, every) == expected
    for epoch in range(50):
        found = rule.stopped(records[: epoch + 1], every)
        assert found == (expected if expected and epoch >= expected[0] else None)


def test_the_rule_of_skip_connections():
    def records(*skips):
        return [{"skip_connections": {"normal": n, "reduce": 9}} for n in skips]

    assert parse("skips").stopped(records(0, 1, 1, 2, 0), 0) == (3, 2)
    assert parse("skips:3").stopped(records(0, 1, 2, 2), 0) is None
    assert parse("skips:3").stopped(records(4, 3, 2, 5), 0) == (3, 2)  # an untrained alpha says nothing
    assert parse("skips").stopped([], 0) is None
    assert str(parse("eigenvalue:1.23456789")) == "eigenvalue:1.23456789"
    assert str(parse("SKIPS")) == "skips:2"


def test_the_rule_of_the_discretisation():
    def records(*gaps):
        measured = ({"mixed_accuracy": 0.8, "discrete_accuracy": 0.8 - gap / 100} for gap in gaps)
        return [{"valid_accuracy": 0.3 * (i % 2)} | accuracies for i, accuracies in enumerate(measured)]

    assert parse("discretisation").stopped(records(30, 10, 25, 31), 0) == (3, 1)
    assert parse("discretisation:5").stopped(records(10, 14, 16), 0) == (2, 0)
    assert parse("discretisation:50").stopped(records(10, 14, 16), 0) is None
    assert parse("never").stopped(records(10, 99), 0) is None
    former = [{"valid_accuracy": 0.8, "discrete_accuracy": d} for d in (0.5, 0.7, 0.4)]  # of an earlier version
    assert parse("discretisation").stopped(former, 0) == (2, 1)


def test_the_last_return_says_that_nothing_stops_the_search_any_more():
    def said(times, **settings):
        records = [{"regularised": {"times": times, "after_epoch": 7}}]
        return words.regularised(SearchCNN(stop="skips", then="regularise", **settings), records)

    assert said(3).endswith("for the third time.")
    assert said(4).endswith("for the fourth time; from then on nothing stops it.")
    assert said(1, drop_path=0.2).endswith("drop-path 0.4, for the first time.")
    assert said(2, drop_path=0.2).endswith("drop-path 0.6, for the second time; from then on nothing stops it.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skip", "there is no rule 'skip' (did you mean skips?)"),
        ("sometimes", "there is no rule 'sometimes'; there are never, skips, eigenvalue, discretisation"),
        ("", "there is no rule ''"),
        ("never:1", "never takes no number"),
        ("skips:", "skips takes a whole number from 1 to 100"),
        ("skips:0", "skips takes a whole number from 1 to 100"),
        ("skips:1.5", "skips takes a whole number from 1 to 100"),
        ("eigenvalue:0.9", "eigenvalue takes a number from 1 to 100"),
        ("eigenvalue:nan", "eigenvalue takes a number from 1 to 100"),
        ("discretisation:-1", "discretisation takes a number from 0 to 100"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(DartsError) as error:
        parse(text)
    assert message in str(error.value)
    done = darts("search", "cnn", "--stop", text, "--dataset", "digits")
    assert (done.exit_code, message in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


def test_eigenvalues_are_needed_where_they_stop():
    done = darts("search", "cnn", "--stop", "eigenvalue", "--eigenvalue-every", "0", "--dataset", "digits")
    assert (done.exit_code, "needs eigenvalues" in done.stderr) == (2, True)


# ---- what is watched


def test_discrete_cells_in_the_search_network():
    """Two edges of each node have weight 1, and derivation finds the same cells in such tables."""
    space = default("cnn")
    alphas = {cell: torch.randn(14, 8) for cell in ("normal", "reduce")}
    cells = derive(plain(softmax(alphas)), space)
    tables = discrete(cells, space, alphas)
    assert all(table.sum() == 8 and set(table.flatten().tolist()) == {0.0, 1.0} for table in tables.values())
    again = derive(plain(tables), space)
    assert {tuple(sorted(node)) for cell in again.cells.values() for node in cell.nodes} == {
        tuple(sorted(node)) for cell in cells.cells.values() for node in cell.nodes
    }
    free = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3")
    edges = [edge for cell in cells.cells.values() for node in cell.nodes for edge in node]
    assert parameter_free(cells) == sum(edge.op in free for edge in edges) / 16


@pytest.mark.parametrize("method", ["darts", "pc-darts", "darts-minus"])
def test_the_discrete_cells_have_nothing_that_the_cells_lack(method):
    """No channels pass along edges that they do not keep, and no skip connection is added to those that they do."""
    config = SearchCNN(dataset="digits", max_images=16, batch_size=8, layers=3, channels=8, method=method)
    network = search_network(config.searched)(8, 10, 3, space=config.searched, method=parse_method(config.method, "cnn"))
    network.begin(Step(0, 2, 0, 0))
    network.end()
    seen, added = [], network.added
    network.register_forward_pre_hook(lambda _, __, given: seen.append((given.get("mixture"), network.added)), with_kwargs=True)
    watched(config, network, halves(config, torch.device("cpu"))[-1], 1, lambda: None)
    (mixed, in_mixed), (tables, in_discrete) = seen[0], seen[-1]
    assert (in_mixed, in_discrete, network.added) == (added, NOTHING, added)
    assert (added.auxiliary_skip > 0) == (method == "darts-minus")
    assert mixed is None or mixed.keys() == tables.keys()
    assert ("normal_edges" in tables) == (method == "pc-darts")
    for kind in ("normal", "reduce") if method == "pc-darts" else ():
        assert torch.equal(tables[f"{kind}_edges"], tables[kind].sum(dim=1))


COLLAPSING = "--operations none,skip_connect,dil_conv_3x3 --alpha-lr 0.3 --seed 1".split()  # after the first epoch


def test_a_search_stops_and_takes_earlier_cells(tiny, tmp_path):
    """Killed and resumed it stops at the same place; what it leaves are the cells of the epoch that the rule names."""
    command = [*tiny, *COLLAPSING, "--epochs", "5", "--stop", "skips:2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = darts(*command, "--run", whole)
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    last, taken = parse("skips:2").stopped(records, 0)
    assert last + 1 == len(records) < 5
    assert records[last]["skip_connections"]["normal"] >= 2 > records[taken]["skip_connections"]["normal"]
    stored = json.loads(darts("genotype", "show", whole, "--json").stdout)
    assert stored.pop("source") == f"epoch {taken + 1} of a search that --stop skips:2 ended after epoch {last + 1}"
    assert stored == records[taken]["genotype"]
    for spelling in ([f"{whole}@{taken + 1}"], [whole, "--epoch", taken + 1]):
        shown = json.loads(darts("genotype", "show", *spelling, "--json").stdout)
        assert shown == stored | {"source": f"whole, epoch {taken + 1}"}
    said = f"stopped after epoch {last + 1}, by skips:2; the cells are those of epoch {taken + 1}"
    assert said in (whole / "report.md").read_text()
    assert said in done.stderr
    history = read(whole)
    assert said in page(history)
    assert f'"first":{taken + 1},' in page(history)
    assert [(run["done"], run["of"]) for run in json.loads(darts("runs", tmp_path, "--json").stdout)] == [(last + 1, last + 1)]
    again = darts(*command, "--run", whole)
    assert (again.exit_code, "complete already" in again.stderr) == (0, True)
    crash_and_resume(command, killed, 2)
    assert_same_run(whole, killed)


def test_eigenvalues_are_recorded(tiny, tmp_path):
    done = darts(*tiny, "--epochs", "3", "--stop", "eigenvalue:1.5", "--space", "s2", "--run", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert ["eigenvalue" in record for record in records] == [True, False, True]
    assert all(0 <= record["discrete_accuracy"] <= 1 for record in records)
    assert darts("genotype", "show", f"{tmp_path / 'a'}@9").exit_code == 2
    history = read(tmp_path / "a")
    values = [record["eigenvalue"] for record in records if "eigenvalue" in record]
    assert history.eigenvalues() == [(1, values[0]), (3, values[1])]
    charts = {chart.label: {series.name: series.values for series in chart.series} for chart in charts_of(history)}
    assert charts["accuracy"]["discrete cells"] == [record["discrete_accuracy"] for record in records]
    assert charts["edges without weights"]["of all cells"] == [record["parameter_free"] for record in records]
    assert "without weights" in done.stderr
    assert charts["skip connections"]["reduce"] == [record["skip_connections"]["reduce"] for record in records]
    assert charts["eigenvalue"]["largest of the Hessian in alpha"] == [values[0], values[0], values[1]]
    svg = curves([history], "svg").decode()
    assert all(f">{label}<" in svg for label in ("discrete", "eigenvalue", "skip connections of the normal cell"))


def test_what_would_have_stopped_is_said():
    """Without a rule the search goes on, and the report names the cells before the collapse."""
    watched = {"valid_accuracy": 0.5, "discrete_accuracy": 0.25, "parameter_free": 0.375}
    records = [{"epoch": epoch, "skip_connections": {"normal": n}, **watched} for epoch, n in enumerate((0, 1, 1, 3, 4), 1)]
    for epoch, value in ((1, 0.125), (3, 0.5), (5, 0.25)):
        records[epoch - 1]["eigenvalue"] = value
    said = words.reported(SearchCNN(), Path("runs/a"), records)
    assert "By the rule skips:2 the search would have stopped after epoch 4, with the cells of epoch 3" in said
    assert "darts train cnn --genotype runs/a@3" in said
    assert "38% of the edges" in said
    assert "25.00%" in said
    assert said.endswith("in alpha: 0.125 after epoch 1, at most 0.5 after epoch 3, 0.25 after epoch 5, the last.")
    stopped = words.reported(SearchCNN(stop="skips:3"), Path("runs/a"), records)
    assert "By the rule" not in stopped
    assert "stopped after epoch 4, by skips:3; the cells are those of epoch 3" in stopped
    late = words.reported(SearchCNN(stop="skips:3"), Path("runs/a"), records[3:])
    assert "The cell had 3 skip connections or more from the first epoch on, so skips:3 stopped nothing." in late


def test_a_rule_that_cannot_stop_is_said(tiny):
    """RobustDARTS waits ten epochs, and six evaluations."""
    (said,) = words.opening(SearchCNN(stop="eigenvalue", epochs=22))
    assert said.endswith("cannot end a search before epoch 23, and this one has 22")
    assert words.opening(SearchCNN(stop="eigenvalue", epochs=23)) == []
    flat = [{"epoch": i, "skip_connections": {"normal": 0}} for i in range(1, 24)]
    grown = [record | ({"eigenvalue": float(2**i)} if i % 2 == 0 else {}) for i, record in enumerate(flat)]
    assert [bool(parse("eigenvalue").stopped(grown[:n], 2)) for n in (22, 23)] == [False, True]
    done = darts(*tiny, "--operations", "none,sep_conv_3x3", "--stop", "skips")
    assert (done.exit_code, "--stop skips: no edge of this search has a skip connection" in done.stderr) == (2, True)


# ---- more regularisation


@pytest.mark.parametrize("fused", [True, False])
def test_drop_path_is_that_of_the_authors(fused, monkeypatch):
    reference, dropped = REFERENCE["network_s5"], REFERENCE["drop_path"]
    p = dropped["probability"]
    masks = iter(dropped["keep_cell_edge_image"].flatten(0, 1).double() / (1 - p))  # of the cells' edges, one after another
    monkeypatch.setattr(search_cell, "kept", lambda size, drop_path, like: next(masks).view(size, 1, 1, 1))
    network = network_of(reference, default("cnn"), fused=fused)
    network.begin(Step(0, 1, 0, 0), p)
    logits = network(reference["x"].double())
    torch.testing.assert_close(logits, dropped["logits"], rtol=1e-9, atol=1e-11)
    loss = F.cross_entropy(logits, reference["y"])
    gradients = torch.autograd.grad(loss, list(network.alphas.values()))
    for gradient, expected in zip(gradients, dropped["dalphas"].values(), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("space", ["darts", "nas-bench-201"])
@pytest.mark.parametrize("partial", [1, 2])
def test_drop_path_keeps_the_expectation_and_is_off_outside_the_steps(space, partial):
    """A weighted sum over all masks of the few edges would take too long: the mean over many draws comes close."""
    torch.manual_seed(0)
    cell = search_network(load(space))(4, 2, 3, space=load(space), method=replace(DARTS, partial=partial)).double()
    mixed = next(module for module in cell.modules() if isinstance(module, MixedCell))
    x = torch.randn(512, 4, 4, 4).double()[:, :, :1, :1].expand(-1, -1, 4, 4)
    states, weights = [x] * mixed.space.inputs, torch.full_like(cell.alphas[mixed.kind], 0.3)
    for module in mixed.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()  # so that an image does not depend on the others
    same = [state[:1].expand_as(state) for state in states]
    edge_weights = torch.ones(len(mixed.edges))
    (plain,) = mixed.nodes(same, weights, None, edge_weights, NOTHING)[:1]
    (dropping,) = mixed.nodes(same, weights, None, edge_weights, Added(drop_path=0.25))[:1]
    spread = plain.abs().max()
    assert (dropping.mean(0) - plain[0]).abs().max() < 0.2 * spread
    assert len(dropping.unique(dim=0)) == 2**mixed.space.inputs  # each edge, by itself, is there or not
    mixed.eval()
    assert torch.equal(mixed.nodes(same, weights, None, edge_weights, Added(drop_path=0.25))[0], plain)


def test_the_schedule_of_drop_path_and_the_weight_decays_are_those_of_the_authors():
    config = SearchCNN(drop_path=0.6)
    found = [config.regularisation([])[1] * epoch / (config.epochs - 1) for epoch in range(config.epochs)]
    assert found == pytest.approx(REFERENCE["drop_path"]["probability_by_epoch_0.6_of_50"].tolist())
    marks = [[{"regularised": {"times": times}}] for times in range(1, 5)]
    weaker = [SearchCNN().regularisation(records)[0] for records in ([], *marks)]
    assert weaker == pytest.approx(REFERENCE["adaptive_weight_decays"]["times3_to_243e-4"])
    assert [SearchCNN(drop_path=0.1).regularisation(records) for records in marks] == [
        (3e-4, pytest.approx(p)) for p in (0.3, 0.5, 0.6, 0.6)
    ]
    assert SearchCNN(drop_path=0.7).regularisation(marks[3]) == (3e-4, 0.7)


def test_a_search_is_not_regularised_twice_the_same():
    """From 0.2 there are two steps up to 0.6; then nothing stops it any more."""
    config = SearchCNN(stop="skips:1", then="regularise", drop_path=0.2)
    collapsed = [{"skip_connections": {"normal": n}} for n in (0, 1)]
    stops = [config.stopped([collapsed[0] | {"regularised": {"times": times}}, collapsed[1]]) for times in range(4)]
    assert stops == [(1, 0), (1, 0), None, None]
    assert config.candidates([collapsed[0] | {"regularised": {"times": 2}}]) == set()


def recorded(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


RECORD = st.fixed_dictionaries(
    {
        "skip_connections": st.fixed_dictionaries({"normal": st.integers(0, 3)}),
        "valid_accuracy": st.floats(0, 1),
        "discrete_accuracy": st.floats(0, 1),
        "eigenvalue": st.floats(0.01, 1),
    }
)


@pytest.mark.parametrize("rule", ["skips:1", "eigenvalue:1.1", "discretisation:5"])
@given(st.lists(RECORD, min_size=1, max_size=40), st.integers(1, 3))
def test_what_a_rule_takes_was_a_candidate_ever_since(rule, records, every):
    """Its checkpoint is still there: kept when the epoch ended, and never deleted until the search stops."""
    rule = parse(rule)
    records = [record if epoch % every == 0 else record | {"eigenvalue": None} for epoch, record in enumerate(records)]
    records = [{key: value for key, value in record.items() if value is not None} for record in records]
    for last in range(1, len(records) + 1):
        stopped = rule.stopped(records[:last], every)
        if stopped:
            assert stopped[0] == last - 1
            assert all(stopped[1] in rule.candidates(records[:n], every) for n in range(stopped[1] + 1, last + 1))
            return


FEW = "--nodes 2 --operations none,skip_connect,nor_conv_1x1"


@pytest.mark.parametrize(
    ("rule", "epochs", "settings"),
    [
        ("discretisation:0", 6, "--lr 0.1"),
        ("eigenvalue:1", 17, f"{FEW} --lr 0.005 --eigenvalue-every 1 --drop-path 0.5"),
    ],
)
def test_a_search_goes_back_by_every_rule(rule, epochs, settings, tmp_path):
    command = "search cnn --dataset digits --space nas-bench-201 --layers 1".split()
    command += "--channels 2 --max-images 16 --batch-size 8 --alpha-lr 0.1 --then regularise".split()
    done = darts(*command, "--epochs", epochs, "--stop", rule, *settings.split(), "--run", tmp_path / "a")
    assert done.exit_code == 0, done.stderr
    records = recorded(tmp_path / "a")
    assert len(records) == epochs
    assert any("regularised" in record for record in records)


@pytest.mark.slow
def test_a_search_goes_back_and_on_with_more_regularisation(tiny, tmp_path):
    """Killed after it has gone back, it ends with the same bits; it ends with the last epoch, and keeps no old checkpoint."""
    command = [*tiny, *COLLAPSING, "--epochs", "5", "--stop", "skips:2", "--then", "regularise"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = darts(*command, "--run", whole)
    assert done.exit_code == 0, done.stderr
    records = recorded(whole)
    assert len(records) == 5
    marked = [(record["epoch"], record["regularised"]) for record in records if "regularised" in record]
    assert marked
    assert all(mark["after_epoch"] > epoch for epoch, mark in marked)
    assert records[marked[-1][0] - 1]["skip_connections"]["normal"] < 2
    assert not list(whole.glob("epoch-*"))
    decay = torch.load(whole / "checkpoint.pt", weights_only=True)["w_optimizer"]["param_groups"][0]["weight_decay"]
    assert decay == pytest.approx(3e-4 * 3 ** marked[-1][1]["times"])
    said = f"After epoch {marked[-1][1]['after_epoch']} the rule skips:2 led back to the end of epoch {marked[-1][0]}, and on"
    assert said in (whole / "report.md").read_text()
    assert said in done.stderr
    crash_and_resume(command, killed, 26)
    assert "led back to the end of epoch 1, and on" in killed.with_suffix(".txt").read_text()
    assert_same_run(whole, killed)


def test_a_search_says_that_nothing_stops_it(tiny, tmp_path):
    """At its start, and once, after the epoch after which a rule would have stopped it."""
    done = darts(*tiny, "--epochs", "1", "--run", tmp_path / "a")
    assert "warning: --stop never: the search goes on even when its cells collapse; see --stop" in done.stderr
    records = [{"skip_connections": {"normal": n}} for n in (0, 1, 3, 4)]
    warned = [words.endangered(SearchCNN(), records[:n]) for n in range(1, 5)]
    assert [warning is not None for warning in warned] == [False, False, True, False]
    assert warned[2].startswith("warning: by the rule skips:2 the cells collapse")
    assert warned[2].endswith("--stop skips:2 would have ended it with the cells of epoch 2")
    assert words.endangered(SearchCNN(space="nas-bench-201"), records[:3]) is None  # DARTS+ is about other cells
    assert words.endangered(SearchCNN(stop="skips:3"), records[:3]) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"then": "regularise"}, "--then regularise: only together with a rule of --stop"),
        ({"then": "regularise", "stop": "skips", "method": "p-darts"}, "--then regularise: a method with stages"),
        ({"then": "regularise", "stop": "skips", "weight_decay": 0.0}, "--weight-decay 0 leaves nothing to strengthen"),
        ({"then": "regularise", "stop": "skips", "drop_path": 0.6}, "--drop-path 0.6 leaves nothing to strengthen"),
        ({"unrolled": "exact", "precision": "bf16"}, "--unrolled exact: needs --precision fp32"),
        ({"then": "go on", "stop": "skips"}, "--then go on: must be one of end, regularise"),
    ],
)
def test_what_cannot_be_regularised(settings, message):
    with pytest.raises(DartsError, match=message):
        SearchCNN(**settings)
