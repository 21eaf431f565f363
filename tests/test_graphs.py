"""`--cuda-graphs`, without a card: a recorder that, like a CUDA graph, repeats operators on the memory that they had.

It records the operators that PyTorch dispatches on the CPU, in the forms that they have on a GPU. What Python decides while it
records is in the recording for good, as in a CUDA graph, and a number that is read ends the recording.
"""

import dataclasses
import json
import weakref

import pytest
import torch
from conftest import darts
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from benchmarks.operators import as_on_a_gpu, is_view
from darts_cli.cnn import model as cnn
from darts_cli.cnn import step as step_cnn
from darts_cli.cnn import train as train_cnn
from darts_cli.cnn.datasets.batches import Batch
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.methods.catalogue import METHODS
from darts_cli.methods.method import parse
from darts_cli.methods.value import Step
from darts_cli.rnn import model as rnn
from darts_cli.rnn import step as step_rnn
from darts_cli.rnn import train as train_rnn
from darts_cli.runtime import graphs

CPU = torch.device("cpu")


NO_LAUNCH = ("aten::empty", "aten::new_empty", "aten::squeeze_", "aten::unsqueeze_", "aten::transpose_", "aten::t_")


class Recording(TorchDispatchMode):
    """The operators inside, with the tensors that each read and wrote. A number that is read raises, as on CUDA."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name.startswith(("aten::_local_scalar_dense", "aten::nonzero")):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}\nand much more")
        found = func(*args, **kwargs or {})
        if not (is_view(func) or name.startswith(NO_LAUNCH)):
            written = tree_map_only(torch.Tensor, torch.Tensor.detach, found)  # its sizes may be changed in place
            self.made.append((func, args, kwargs or {}, written))
        return found

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, results in self.made:
            again = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor):
                        old.copy_(new)


class Recorder:
    """Of operators on the CPU. Recording computes the step; so that it counts once, the first replay does nothing."""

    def __init__(self, recordings):
        self.recordings = recordings

    def warm_up(self, call):
        return call()

    def record(self, call):
        recording, fresh = Recording(), [True]
        with recording:
            results = call()
        self.recordings.append(recording)
        return lambda: None if fresh and fresh.pop() else recording.replay(), results


@pytest.fixture
def recordings(monkeypatch):
    """The recordings that are made, on the CPU in place of CUDA."""
    found = []
    monkeypatch.setattr(graphs, "recorder", lambda device: Recorder(found))
    with as_on_a_gpu():
        yield found


def same(one, other):
    """Whether they are equal to the bit."""
    pairs = list(zip(tree_leaves(one), tree_leaves(other), strict=True))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def not_told(line):
    pytest.fail(line)


# ---- a step


def test_a_step_is_recorded_after_three_and_then_replayed(recordings):
    """Python runs four times; the numbers are those of every step."""
    state, ran = torch.zeros(2), []

    def step(x, factor):
        ran.append(1)
        state.add_(factor * x)
        return state * 2, {"x": x + 1}

    steps = graphs.Steps(step, graphs.Graphs(True, CPU, not_told))
    results = [steps(torch.full((2,), float(n)), 10) for n in range(6)]
    assert (len(ran), len(recordings)) == (graphs.WARM_UP_STEPS + 1, 1)
    assert [result[0].tolist() for result in results] == [[20.0 * sum(range(n + 1))] * 2 for n in range(6)]
    assert [result[1]["x"].tolist() for result in results] == [[n + 1.0] * 2 for n in range(6)]


def test_every_size_and_value_has_a_recording_of_its_own(recordings):
    steps = graphs.Steps(lambda x, pair: x * pair[0], graphs.Graphs(True, CPU, not_told))
    for _ in range(graphs.WARM_UP_STEPS + 2):
        for x in (torch.ones(2), torch.ones(3), torch.ones(3, dtype=torch.float64), torch.ones(4, 4), torch.ones(4, 4).T):
            for factor in (2, 3):
                assert same(steps(x, (factor, slice(0, 1))), x * factor)
    assert len(recordings) == 2 * 5


def test_what_python_decides_is_in_the_recording_for_good(recordings):
    """Otherwise the tests of this file would show nothing."""
    now = {"lr": 1.0}
    steps = graphs.Steps(lambda x: x * now["lr"], graphs.Graphs(True, CPU, not_told))
    for _ in range(graphs.WARM_UP_STEPS + 1):
        steps(torch.ones(1))
    now["lr"] = 5.0
    assert steps(torch.ones(1)).item() == 1.0


def test_results_are_the_callers_to_keep(recordings):
    steps = graphs.Steps(lambda x: x + 1, graphs.Graphs(True, CPU, not_told))
    results = [steps(torch.full((1,), float(n))) for n in range(8)]
    assert [result.item() for result in results] == [n + 1.0 for n in range(8)]


def test_at_most_so_many_recordings_are_kept(recordings, monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    steps = graphs.Steps(lambda x: x + 1, graphs.Graphs(True, CPU, not_told))
    for _ in range(graphs.WARM_UP_STEPS + 2):
        for size in range(1, 5):
            assert same(steps(torch.ones(size)), torch.ones(size) + 1)
    assert len(recordings) == 2


def reads_a_number(x):
    return x * x.sum().item()


def runs_out_of_memory(x):
    if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return x * x.sum()


def fails_twice(x):
    """As PyTorch does: the end of a recording that has failed fails too."""
    try:
        return reads_a_number(x)
    except RuntimeError as error:
        raise RuntimeError("operation failed due to a previous error during capture") from error


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (reads_a_number, "operation not permitted when stream is capturing"),
        (runs_out_of_memory, "CUDA out of memory"),
        (fails_twice, "operation not permitted when stream is capturing"),
    ],
)
def test_a_step_that_cannot_be_recorded_is_computed_as_it_is(recordings, step, reason):
    """It is said once in a run, whose other graphs are given up."""
    said = []
    of_run = graphs.Graphs(True, CPU, said.append)
    for _ in range(3):
        steps = graphs.Steps(lambda x: x + 1 if len(x) == 1 else step(x), of_run)
        for _ in range(6):
            assert same(steps(torch.ones(1)), torch.full((1,), 2.0))
        for n in range(6):
            assert same(steps(torch.full((2,), float(n))), torch.full((2,), 2.0 * n * n))
        assert not steps._recorded
    assert len(recordings) == 1
    (line,) = said
    assert line.startswith(f"--cuda-graphs: the step cannot be recorded ({reason}")
    assert line.endswith("; every step is computed as it is")


def test_a_step_is_free_of_the_tensors_of_the_recording_that_failed(recordings):
    """Otherwise it would need twice the memory."""
    alive = []

    def step(x):
        temporary = torch.zeros(3)
        assert not [each for each in alive if each() is not None]
        alive.append(weakref.ref(temporary))
        return x * (x + temporary.sum()).sum().item()

    steps = graphs.Steps(step, graphs.Graphs(True, CPU, lambda line: None))
    for _ in range(graphs.WARM_UP_STEPS + 1):
        steps(torch.ones(1))
    assert len(alive) == graphs.WARM_UP_STEPS + 2


def test_nothing_is_recorded_unasked_or_while_every_number_is_looked_at(recordings):
    said = []
    for wanted, anomalies in ((False, False), (True, True)):
        steps = graphs.Steps(lambda x: x + 1, graphs.Graphs(wanted, CPU, said.append))
        with torch.autograd.set_detect_anomaly(anomalies):
            for _ in range(6):
                steps(torch.ones(1))
    assert recordings == []
    assert said == ["--cuda-graphs: not together with --detect-anomaly; every step is computed as it is"]


def test_no_device_but_cuda_has_graphs_and_only_from_some_version_on(monkeypatch):
    assert graphs.recorder(CPU) is graphs.recorder(torch.device("meta")) is None
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.10.1+cu130"))
    said = []
    assert graphs.Graphs(True, torch.device("cuda"), said.append).recorder is None
    assert said == ["--cuda-graphs: there are none on cuda, before PyTorch 2.11; every step is computed as it is"]


# ---- the steps of searches and trainings


def after_search_of_images(method, unrolled, recorded, accumulate=1, device=CPU):
    torch.manual_seed(0)
    config = SearchCNN(method=method, unrolled=unrolled, nodes=2, channels=8, cuda_graphs=recorded, accumulate=accumulate)
    value = dataclasses.replace(parse(config.method), alpha_warmup=0)
    network = cnn.SearchNetwork(config.channels, 10, 3, space=config.searched, method=value).to(device)
    architect, relaxation = step_cnn.make_architect(network, config, device)
    g, found, of_run = torch.Generator().manual_seed(1), [], graphs.Graphs(recorded, device, not_told)
    for epoch in range(2):
        step_cnn.begin(network, architect.w_optimizer, config, [], value.stage(epoch, 50), Step(epoch, 50, 0, 0))
        one_step = step_cnn.steps_of(architect, relaxation, config, of_run)
        for number in range(7):
            size = 6 if number == 5 else 4  # as the last batch of one half, which begins again before the other
            drawn = [(torch.randn(n, 3, 8, 8, generator=g), torch.randint(0, 10, (n,), generator=g)) for n in (4, size)]
            batches = [Batch(x.to(device), y.to(device), None, len(x)) for x, y in drawn]
            found.append(one_step(Step(epoch, 50, 0, number), *batches))
            found.append([alpha.grad.clone() for alpha in network.alphas.values()])
    return found, network.state_dict(), architect.w_optimizer.state_dict(), relaxation.optimizer.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "unrolled"),
    [
        ("darts", False),
        ("darts", True),
        ("pc-darts", False),
        ("beta-darts", True),
        ("fair-darts", False),
        ("darts-minus", False),
    ],
)
def test_a_search_of_convolutional_cells(recordings, method, unrolled):
    """To the bit, over two epochs with their learning rates, and batches of two sizes."""
    plain = after_search_of_images(method, unrolled, False)
    assert recordings == []
    assert same(after_search_of_images(method, unrolled, True), plain)
    assert len(recordings) == 2  # one for each epoch; the other size comes once


@pytest.mark.slow
def test_a_search_in_parts(recordings):
    plain = after_search_of_images("darts", False, False, accumulate=2)
    assert same(after_search_of_images("darts", False, True, accumulate=2), plain)


DRAWS = "--cuda-graphs: the steps of this search draw random numbers, or leave operations out; every step is computed as it is"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        *({"method": name} for name in ("gdas", "drnas", "random-sharing", "sdarts-rs", "sdarts-adv", "p-darts", "darts-pt")),
        {"space": "s4"},
        {"drop_path": 0.3},
    ],
    ids=str,
)
def test_steps_that_draw_or_leave_operations_out_are_not_recorded(recordings, settings):
    """Drop-path begins in the second epoch."""
    config = SearchCNN(**{"nodes": 2, "channels": 24, "cuda_graphs": True} | settings)
    network = cnn.SearchNetwork(config.channels, 10, 3, space=config.searched, method=parse(config.method))
    architect, relaxation = step_cnn.make_architect(network, config, CPU)
    said = []
    of_run, stage = graphs.Graphs(True, CPU, said.append), network.method.stage(0, 50)
    for epoch in range(2):
        step_cnn.begin(network, architect.w_optimizer, config, [], stage, Step(epoch, 50, 0, 0))
        one_step = step_cnn.steps_of(architect, relaxation, config, of_run)
        for number in range(graphs.WARM_UP_STEPS + 1):
            batch = Batch(torch.randn(4, 3, 8, 8), torch.randint(0, 10, (4,)), ("chance", number), 4)
            one_step(Step(epoch, 50, 0, number), batch, batch)
        assert said == ([] if "drop_path" in settings and epoch == 0 else [DRAWS])
    assert recordings == []


class NoChance(Step):
    """A step that only knows its epoch."""

    @property
    def number(self):
        raise AssertionError("the number of the step is read")

    @number.setter
    def number(self, value):
        """Not kept."""

    def generator(self, use):
        raise AssertionError("random numbers are drawn")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_whether_it_draws(method):
    """One that says that it does not reads neither the number of a step nor its random numbers."""
    value, alphas = parse(method), {"normal": torch.randn(14, 8, requires_grad=True)}
    if value.edge_weights:
        alphas["normal_edges"] = torch.randn(14, requires_grad=True)

    def look(step):
        value.mixture(alphas, step)
        value.penalty(alphas, step)
        value.added(step)
        value.trains_alpha(step)
        if value.disturbed is not None:
            value.disturbed({"normal": alphas["normal"].softmax(-1).detach()}, step, lambda m: m["normal"].sum(), list)

    step = object.__new__(NoChance)
    for name, number in (("epoch", 3), ("epochs", 50), ("seed", 0)):
        object.__setattr__(step, name, number)
    if value.chance:
        with pytest.raises(AssertionError, match="drawn|number"):
            look(step)
    else:
        look(step)


def after_search_of_text(unrolled, recorded, device=CPU):
    torch.manual_seed(0)
    config = SearchRNN(unrolled=unrolled, nodes=3, dim=8, cuda_graphs=recorded)
    network = rnn.SearchNetwork(30, 8, space=config.searched).to(device)
    architect, relaxation = step_rnn.make_architect(network, config, device)
    network.begin(Step(0, 50, 0, 0))
    one_step, found = step_rnn.steps_of(architect, relaxation, config, graphs.Graphs(recorded, device, not_told)), []
    hidden = [network.initial(4)] * 2
    for number in range(9):
        length = 3 if number in (1, 4, 7) else 6
        architect.w_optimizer.param_groups[0]["lr"] = config.lr * length / 6
        batches = [
            step_rnn.Batch(*torch.randint(0, 30, (2, rows, 4)).to(device), h, network.masks(4))
            for rows, h in zip((length, 6), hidden, strict=True)
        ]
        sums, norm, *hidden = one_step(Step(0, 50, 0, number), *batches)
        found.append([sums, norm, *hidden, network.alphas["recurrent"].grad.clone()])
    return found, network.state_dict(), relaxation.optimizer.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
def test_a_search_of_recurrent_cells(recordings, unrolled):
    """To the bit, with pieces of two lengths, whose learning rates differ."""
    plain = after_search_of_text(unrolled, False)
    assert same(after_search_of_text(unrolled, True), plain)
    assert len(recordings) == 1  # of the usual length; the other came three times


def after_training_of_images(recorded, device=CPU):
    torch.manual_seed(0)
    network = cnn.Network(load("cnn/darts_v2"), 4, 10, 3, auxiliary=True).to(device)
    network.drop_path = 0.3
    config = TrainCNN(precision="fp32")
    optimizer = torch.optim.SGD(network.parameters(), 0.025, 0.9, fused=True)
    one_step, found = graphs.Steps(train_cnn.training_step, graphs.Graphs(recorded, device, not_told)), []
    for number in range(6):
        torch.manual_seed(number)
        batch = torch.randn(4, 3, 32, 32).to(device), torch.randint(0, 10, (4,)).to(device)
        found.append(one_step(network, optimizer, config, *batch, (4, slice(0, 4))))
    return found, network.state_dict(), optimizer.state_dict()


@pytest.mark.slow
def test_a_training_of_convolutional_cells(recordings):
    """To the bit, drop-path too: random numbers that are seeded before a step are those of the step."""
    plain = after_training_of_images(False)
    assert same(after_training_of_images(True), plain)
    assert len(recordings) == 1


def after_training_of_text(recorded, device=CPU):
    torch.manual_seed(0)
    network, config = rnn.Network(load("rnn/darts_v2"), 30, 8).to(device), TrainRNN(dim=8, bptt=5)
    optimizer = torch.optim.SGD(network.parameters(), config.lr, weight_decay=config.weight_decay, fused=True)
    one_step = graphs.Steps(train_rnn.training_step, graphs.Graphs(recorded, device, not_told))
    found, hidden = [], network.initial(4)
    for number in range(12):
        torch.manual_seed(number)
        x, y = torch.randint(0, 30, (2, 3 + number % 2, 4)).to(device)
        sums, hidden, norm = one_step(network, optimizer, config, x, y, hidden)
        found.append([sums, hidden, norm])
    return found, network.state_dict()


@pytest.mark.slow
def test_a_training_of_recurrent_cells(recordings):
    """To the bit: masks are drawn within the step, and the learning rate depends on the length."""
    plain = after_training_of_text(False)
    assert same(after_training_of_text(True), plain)
    assert len(recordings) == 2


# ---- runs


COMMANDS = {
    "search cnn": "search cnn --dataset digits --epochs 2 --max-images 80 --batch-size 8 --channels 4 --nodes 2",
    "train cnn": "train cnn --genotype darts_v2 --dataset digits --epochs 1 --max-images 60 --batch-size 8 --channels 4",
    "search rnn": "search rnn --dataset text --data TEXT --epochs 1 --batch-size 4 --bptt 5 --dim 8 --nodes 2",
    "train rnn": "train rnn --genotype darts_v2 --dataset text --data TEXT --epochs 1 --batch-size 4 --bptt 5 --dim 8",
}


def records(folder):
    """The metrics of a run, without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if "second" not in key and "time" not in key} for line in lines
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_is_the_run_that_it_is_without_the_option(recordings, command, text, tmp_path):
    words = COMMANDS[command].replace("TEXT", str(text)).split()
    for name, more in (("plain", []), ("recorded", ["--cuda-graphs"])):
        done = darts(*words, "--device", "cpu", "--run", tmp_path / name, *more)
        assert done.exit_code == 0, done.stderr
        assert "--cuda-graphs" not in done.stderr
    assert recordings
    assert records(tmp_path / "plain") == records(tmp_path / "recorded")


@pytest.mark.parametrize("command", COMMANDS)
def test_where_there_are_no_graphs_a_run_says_so(command, text, tmp_path):
    words = COMMANDS[command].replace("TEXT", str(text)).split()
    done = darts(*words, "--epochs", 1, "--cuda-graphs", "--device", "cpu", "--run", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "--cuda-graphs" in line]
    assert said == ["--cuda-graphs: there are none on cpu; every step is computed as it is"]
