"""No step waits for its device: with PyTorch's fake tensors, which hold no numbers to read, every step runs to its end.

(But for ASGD's, which reads its own step count.)
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from darts_cli.cnn import model as cnn
from darts_cli.cnn.batches import Batches
from darts_cli.cnn.data import Dataset
from darts_cli.cnn.search import make_architect as make_architect_cnn
from darts_cli.cnn.search import search_step as search_step_cnn
from darts_cli.cnn.train import training_step as training_step_cnn
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.methods.value import Step
from darts_cli.rnn import model as rnn
from darts_cli.rnn.search import Batch
from darts_cli.rnn.search import make_architect as make_architect_rnn
from darts_cli.rnn.search import search_step as search_step_rnn
from darts_cli.rnn.train import training_step as training_step_rnn
from darts_cli.runtime.nonfinite import Watch

CPU = torch.device("cpu")


def fake():
    """Inside, tensors have sizes and no numbers; reading one raises."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def batches():
    images = torch.zeros(20, 8, 8, 3, dtype=torch.uint8)
    dataset = Dataset(images, torch.zeros(20, dtype=torch.long), ["a", "b"], (0.5,) * 3, (0.2,) * 3, True)
    made = Batches(dataset, 4, 0, "train", CPU, cutout=4)
    for epoch in range(2):
        made.augmented(epoch, 0)  # an epoch's order is drawn, and copied to the device, once
    return made


@pytest.mark.parametrize("read", [torch.Tensor.item, bool, torch.nonzero])
def test_reading_a_number_is_noticed(read):
    with fake(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        read(torch.zeros(1) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
def test_a_search_step_of_convolutional_cells(unrolled):
    network = cnn.SearchNetwork(4, 2, 3, space=SearchCNN(nodes=2).searched)
    architect, relaxation = make_architect_cnn(network, SearchCNN(unrolled=unrolled), CPU)
    train, watch = batches(), Watch()
    with fake():
        sums, norm = search_step_cnn(architect, relaxation, Step(1, 2, 0, 0), train.augmented(1, 0), train.augmented(1, 1), 5.0)
        watch.note(0, 0, sums[0], norm, sums[1], list(network.alphas.values()))


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
def test_a_search_step_of_recurrent_cells(unrolled):
    network, config = rnn.SearchNetwork(11, 4), SearchRNN(unrolled=unrolled, ar=1.0, tar=1.0)
    (architect, relaxation), watch, hidden = make_architect_rnn(network, config, CPU), Watch(), network.initial(3)
    with fake():
        x, y = torch.zeros(2, 5, 3, dtype=torch.long)
        batch = Batch(x, y, hidden, network.masks(3))
        sums, norm, *_ = search_step_rnn(architect, relaxation, Step(1, 2, 0, 0), network, config, batch, batch)
        watch.note(0, 0, sums[0], norm, sums[1], list(network.alphas.values()))


def test_a_training_step_of_convolutional_cells():
    network = cnn.Network(load("cnn/darts_v2"), 4, 2, 3)
    network.drop_path = 0.3
    optimizer, train = torch.optim.SGD(network.parameters(), 0.1, 0.9), batches()
    with fake():
        for step in range(2):
            training_step_cnn(network, optimizer, TrainCNN(cutout=4, accumulate=2), *train.augmented(1, step))


def test_a_training_step_of_recurrent_cells():
    network = rnn.Network(load("rnn/darts_v2"), 11, 4)
    optimizer, hidden = torch.optim.SGD(network.parameters(), 1.0), network.initial(3)
    config = TrainRNN(ar=1.0, tar=1.0, batch_chunks=3)
    with fake():
        for _ in range(2):
            x, y = torch.zeros(2, 5, 3, dtype=torch.long)
            _, hidden, _ = training_step_rnn(network, optimizer, config, x, y, hidden)
