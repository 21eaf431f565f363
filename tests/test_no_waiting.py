"""No step waits for its device: with PyTorch's fake tensors, which hold no numbers to read, every step runs to its end.

(But for ASGD's, which reads its own step count.)
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from darts_cli.architect import Architect, constant
from darts_cli.cnn import model as cnn
from darts_cli.cnn.batches import Batches
from darts_cli.cnn.data import Dataset
from darts_cli.cnn.search import loss_function
from darts_cli.cnn.train import training_step as training_step_cnn
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.genotype import load
from darts_cli.rnn import model as rnn
from darts_cli.rnn.train import training_step as training_step_rnn
from darts_cli.runtime.nonfinite import Watch

WHERE = torch.device("cpu")


def fake():
    """Inside, tensors have sizes and no numbers; reading one raises."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def batches():
    images = torch.zeros(20, 8, 8, 3, dtype=torch.uint8)
    dataset = Dataset(images, torch.zeros(20, dtype=torch.long), ["a", "b"], (0.5,) * 3, (0.2,) * 3, True)
    made = Batches(dataset, 4, 0, "train", WHERE, cutout=4)
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
    network = cnn.SearchNetwork(4, 2, 3)
    weights, alphas = network.weights(), list(network.alphas.values())
    w_optimizer, alpha_optimizer = torch.optim.SGD(weights, 0.1, 0.9), torch.optim.Adam(alphas, 0.1)
    loss, train, watch = loss_function(network, WHERE, "fp32"), batches(), Watch()
    architect = Architect(loss, weights, alphas, w_optimizer, alpha_optimizer, unrolled=unrolled, buffers=network.buffers())
    with fake():
        batch = train.augmented(1, 0)
        valid_sums = architect.step(batch, train.augmented(1, 1))
        w_optimizer.zero_grad()
        with constant(alphas):
            train_loss, train_sums = loss(batch)
        train_loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 5.0)
        w_optimizer.step()
        watch.note(0, 0, train_sums, norm, valid_sums, alphas)


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
def test_a_search_step_of_recurrent_cells(unrolled):
    network = rnn.SearchNetwork(11, 4)
    weights, alphas = network.weights(), list(network.alphas.values())
    w_optimizer, alpha_optimizer = torch.optim.SGD(weights, 0.1), torch.optim.Adam(alphas, 0.1)

    def loss(batch):
        _, nll, hidden = network.loss(*batch[:3], masks=batch[3])
        return nll, hidden

    more = {"clip": 0.25, "buffers": network.buffers()}
    architect = Architect(loss, weights, alphas, w_optimizer, alpha_optimizer, unrolled=unrolled, **more)
    watch, hidden = Watch(), network.initial(3)
    with fake():
        x, y = torch.zeros(2, 5, 3, dtype=torch.long)
        masks = network.masks(3)
        valid = architect.step((x, y, hidden, masks), (x, y, hidden, masks))
        w_optimizer.zero_grad()
        with constant(alphas):
            train_loss, _, _ = network.loss(x, y, hidden, ar=1.0, tar=1.0, masks=masks)
        train_loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 0.25)
        w_optimizer.step()
        watch.note(0, 0, train_loss, norm, valid, alphas)


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
