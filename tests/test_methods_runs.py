"""Every search method from end to end: killed and resumed to the same bits; what a step computes and leaves alone."""

import copy
import json
import re

import pytest
import torch
from conftest import assert_same_run, crash_and_resume, darts

from darts_cli.cnn import step as cnn
from darts_cli.cnn.model import SearchNetwork, search_network
from darts_cli.config import SearchCNN
from darts_cli.formats.genotypes import parse as parse_genotype
from darts_cli.genotype import load
from darts_cli.methods.catalogue import METHODS, PARTS
from darts_cli.methods.derive import derive, derive_above
from darts_cli.methods.method import parse
from darts_cli.methods.spec import read
from darts_cli.methods.value import Step
from darts_cli.spaces.space import load as load_space

FEW = "random-sharing:candidates=3,batches=1,finalists=2"
COMMANDS = {name: ["--method", name] for name in METHODS if name != "darts"} | {
    "pc-darts": ["--method", "pc-darts:k=2,warmup=1", "--unrolled"],
    "gdas": ["--method", "gdas", "--unrolled"],
    "drnas": ["--method", "drnas:warmup=0+dirichlet-kl", "--unrolled"],
    "p-darts": ["--method", "p-darts:warmup=0,second=4,third=2,cells=1", "--epochs", "3"],
    "stages": ["--method", "drnas:warmup=0+partial:2+narrow:second=4,third=0+widen:1", "--unrolled"],
    "random-sharing": ["--method", FEW],
    "sum": ["--method", "edge-weights+beta-decay:3+perturb-adversarial+max-skips:1"],
    "nas-bench-201": ["--method", "gdas+edge-weights", "--space", "nas-bench-201", "--layers", "1"],
    "fade": ["--method", "darts-minus", "--space", "nas-bench-201", "--layers", "1", "--unrolled"],
}
DRAWN = {"darts-pt", "fair-darts", "gdas", "p-darts", "stages", "sum"}  # whose tables differ in kind or size
MEASURED = {"epoch", "lr", "entropy", "parameter_free", "mixed_accuracy", "discrete_accuracy", "discrete_loss"} | {
    f"{part}_{measure}" for part in ("train", "valid") for measure in ("loss", "accuracy", "perplexity")
}
SHOWN = {"gumbel": "temperature", "perturb-random": "radius", "perturb-adversarial": "radius", "beta-decay": "penalty_weight"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_search_of_images_is_resumed(name, tiny, tmp_path):
    nodes = ["--nodes", "3"] if "--space" in COMMANDS[name] else []
    check_resumed([*tiny, "--channels", "4", *nodes, *COMMANDS[name]], tmp_path, read(COMMANDS[name][1]))
    if name in DRAWN:
        drawn = darts("visualize", tmp_path / "whole", "--what", "alphas", "--format", "png", "--output", tmp_path)
        assert drawn.exit_code == 0, drawn.stderr
    if name in ("random-sharing", "darts-pt"):
        refused = darts("genotype", "derive", tmp_path / "whole", "--max-skips", 0)
        assert (refused.exit_code, "--max-skips: every edge is decided" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    "name",
    [name for name in METHODS if all("rnn" in PARTS[p].domains or p in METHODS[name].optional for p in read(name).parts)],
)
def test_a_search_of_text_is_resumed(name, text, tmp_path):
    sizes = "--epochs 2 --batch-size 4 --bptt 5 --dim 8 --seed 0 --nodes 3".split()
    warm = f"{name}:warmup=1" if "alpha-warmup" in read(name).parts else FEW if name == "random-sharing" else name
    check_resumed(["search", "rnn", "--dataset", "text", "--data", text, *sizes, "--method", warm], tmp_path, read(warm, "rnn"))


def check_resumed(command, tmp_path, spec):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = darts(*command, "--run", whole)
    assert done.exit_code == 0, done.stderr
    crash_and_resume(command, killed, 4)
    assert_same_run(whole, killed)
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    for part in spec.parts:
        assert part not in SHOWN or SHOWN[part] in records[-1]
    check_added(whole, records, tmp_path)
    assert load(whole).to_dict() == records[-1]["genotype"]


def check_added(run, records, tmp_path):
    """The report, its curves, the page and the picture of the curves show every number that the method adds."""
    numbers = {name for name, value in records[-1].items() if isinstance(value, int | float)} - MEASURED
    if not numbers:
        return
    darts("visualize", run, "--what", "curves", "--format", "svg", "--output", tmp_path / "drawn")
    darts("visualize", run, "--html", tmp_path / "page.html")
    report = (run / "report.md").read_text()
    plots = [path.read_text() for path in (run / "curves.svg", tmp_path / "page.html", *(tmp_path / "drawn").glob("*.svg"))]
    assert len(plots) == 3
    for name in numbers:
        words = name.replace("_", " ")
        assert f"{words} {records[-1][name]:.3g}" in report
        assert all(words in plot for plot in plots)


def test_alpha_stays_as_it_is_while_the_weights_warm_up(tiny, tmp_path):
    done = darts(*tiny, "--method", "alpha-warmup:1", "--epochs", "2", "--run", tmp_path / "a", "--log-every", "1")
    assert done.exit_code == 0, done.stderr
    assert "alpha is never trained" not in done.stderr
    first, second = (json.loads(line)["alphas"] for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines())
    torch.manual_seed(0)
    network = SearchNetwork(2, 2, 3, space=SearchCNN(nodes=2).searched)
    assert first == {cell: alpha.tolist() for cell, alpha in network.alphas.items()}
    assert first != second


@pytest.mark.parametrize(
    ("method", "epochs", "never"),
    [
        ("pc-darts", 15, True),
        ("pc-darts", 16, False),
        ("p-darts", 30, True),  # each of three stages has ten epochs
        ("p-darts", 31, False),
        ("darts", 1, False),
        ("random-sharing", 5, False),  # as it should be
    ],
)
def test_a_warm_up_of_alpha_that_does_not_end_is_said(method, epochs, never):
    assert bool(parse(method).notes(epochs)) == never


def test_a_search_begins_with_what_its_method_says(tiny, text, tmp_path):
    rnn = "search rnn --dataset text --epochs 1 --batch-size 4 --bptt 5 --dim 4 --nodes 1".split()
    for command in (tiny, [*rnn, "--data", text]):
        shown = darts(*command, "--method", "alpha-warmup:7", "--run", tmp_path / command[1]).stderr
        assert "alpha is never trained: its warm-up of 7 epochs does not end; search for more --epochs" in shown


def a_step(method, space="darts", **settings):
    """Of a small search: the network before and after, and what was seen of every pass."""
    config = SearchCNN(method=method, space=space, channels=8, layers=3, device="cpu", **settings)
    torch.manual_seed(0)
    network = search_network(config.searched)(8, 10, 3, space=config.searched, method=parse(config.method)).double()
    architect, relaxation = cnn.make_architect(network, config, torch.device("cpu"))
    seen, loss = [], architect.loss

    def watched(batch):
        seen.append(
            ({cell: table.detach().clone() for cell, table in relaxation.weights.items()}, relaxation.active, network.training)
        )
        return loss(batch)

    architect.loss = watched
    train, valid = (cnn.Batch(torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.arange(4), (0, k)) for k in (0, 1))
    before = copy.deepcopy(network)
    cnn.search_step(architect, relaxation, Step(20, 50, 0, 3), train, valid, 5.0)
    return before, network, seen


@pytest.mark.parametrize("method", ["gdas", "drnas"])
def test_one_draw_serves_all_passes_of_second_order(method):
    _, _, seen = a_step(method, unrolled=True)
    assert len(seen) == 5  # training, validation, both perturbed ones, and the step of the weights
    for weights, *_ in seen[1:4]:
        assert all(torch.equal(weights[cell], seen[0][0][cell]) for cell in weights)


def test_gdas_computes_one_operation_per_edge():
    before, after, seen = a_step("gdas")
    for weights, active, _ in seen:
        for cell, table in weights.items():
            assert table.sum(-1).tolist() == [1.0] * 14
            assert [len(names) for names in active[cell]] == [1] * 14
    chosen = seen[-1][1]
    unused = 0
    for i, cell in enumerate(after.cells):
        for j, edge in enumerate(cell.edges):
            for name, op in edge.items():
                old = dict(before.cells[i].edges[j][name].named_buffers())
                if name not in chosen[cell.kind][j] and not any(name in active[cell.kind][j] for _, active, _ in seen):
                    unused += 1  # its BatchNorm saw nothing, its weights have no gradient
                    assert all(torch.equal(buffer, old[key]) for key, buffer in op.named_buffers())
                    assert all(weight.grad is None for weight in op.parameters())
    assert unused > 100


@pytest.mark.parametrize("method", ["sdarts-rs", "sdarts-adv"])
def test_a_perturbation_moves_the_step_of_the_weights_only(method):
    """The alpha step sees alpha's own weights; the ascent runs in evaluation mode and leaves the statistics alone."""
    _, after, seen = a_step(method)
    p = seen[0][0]
    assert all(torch.allclose(table.sum(-1), torch.ones(14, dtype=torch.float64)) for table in p.values())
    last, _, training = seen[-1]
    assert training
    assert any(not torch.allclose(last[cell], p[cell], atol=1e-3) for cell in p)
    if method == "sdarts-adv":
        assert [training for *_, training in seen] == [True, *[False] * 9, True]
    counts = {int(b) for name, b in after.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {1}  # the step of the weights


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_gradient_of_the_penalty_is_added_once(unrolled):
    """To that of the validation loss, at the alpha before the step, in either order."""
    _, plain, _ = a_step("darts", unrolled=unrolled)
    before, penalised, _ = a_step("beta-decay:30", unrolled=unrolled)
    penalty = penalised.method.penalty(before.alphas, Step(20, 50, 0, 3))
    for cell, gradient in zip(before.alphas, torch.autograd.grad(penalty, list(before.alphas.values())), strict=True):
        torch.testing.assert_close(penalised.alphas[cell].grad - plain.alphas[cell].grad, gradient, rtol=1e-9, atol=1e-9)


def test_the_step_of_the_weights_sees_the_new_alpha():
    _, after, seen = a_step("darts")
    for cell, weights in after.method.strength(after.alphas).items():
        torch.testing.assert_close(seen[-1][0][cell], weights.detach(), rtol=1e-12, atol=0)
        assert not torch.equal(seen[0][0][cell], seen[-1][0][cell])


@pytest.mark.parametrize("space", ["darts", "nas-bench-201"])
def test_edge_weights_and_penalties_reach_their_alphas(space):
    before, after, _ = a_step("edge-weights+beta-decay:30", space)
    for name, alpha in after.alphas.items():
        assert not torch.equal(alpha, before.alphas[name]), name
    kinds = load_space(space).cells
    assert set(after.alphas) == {*kinds, *(f"{kind}_edges" for kind in kinds)}


def test_cells_are_derived_again_from_a_finished_search(tiny, tmp_path):
    space = SearchCNN(nodes=2).searched
    command = [*tiny, "--channels", "4", "--method", "darts+max-skips:0", "--alpha-lr", "0.3", "--run", tmp_path / "a"]
    done = darts(*command)
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert darts("genotype", "derive", tmp_path / "a").stdout == done.stdout
    for epoch, record in enumerate(records, 1):
        again = parse_genotype(darts("genotype", "derive", tmp_path / "a", "--epoch", epoch).stdout, "again")
        assert again.to_dict() == record["genotype"]
        assert again.cells["normal"].count("skip_connect") == 0
        plain = parse_genotype(
            darts("genotype", "derive", tmp_path / "a", "--epoch", epoch, "--rule", "magnitude").stdout, "plain"
        )
        assert plain == derive(record["operation_weights"], space)
    sparse = darts("genotype", "derive", tmp_path / "a", "--rule", "threshold", "--threshold", "0.2").stdout
    assert parse_genotype(sparse, "sparse") == derive_above(records[-1]["operation_weights"], space, 0.2)
    for given, message in (
        (["--epoch", "9"], "--epoch 9: .* has 2 finished epochs"),
        (["--threshold", "0.2"], "--threshold: only together with --rule threshold"),
    ):
        refused = darts("genotype", "derive", tmp_path / "a", *given)
        assert refused.exit_code == 2
        assert re.search(message, refused.stderr)
