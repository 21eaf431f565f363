"""Gradients that are written out by hand say that they have none themselves."""

import pytest
import torch
import torch.nn.functional as F

from darts_cli.cnn import model as cnn
from darts_cli.genotype import load
from darts_cli.rnn import model as rnn

IMAGES, LABELS = torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
WORDS = torch.randint(0, 9, (3, 2))


def of_images(network):
    logits = network(IMAGES)
    return F.cross_entropy(logits if isinstance(logits, torch.Tensor) else logits[0], LABELS)


def of_words(network):
    return network.loss(WORDS, WORDS, network.initial(2))[0]


NETWORKS = {
    "cnn-search": lambda: (cnn.SearchNetwork(4, 3, 3), of_images),
    "cnn": lambda: (cnn.Network(load("darts_v2", "cnn"), 4, 3, 3), of_images),
    "rnn-search": lambda: (rnn.SearchNetwork(9, 4), of_words),
    "rnn": lambda: (rnn.Network(load("darts_v2", "rnn"), 9, 4), of_words),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("take", [torch.autograd.grad, torch.autograd.backward])
def test_a_second_derivative_is_refused(name, take):
    """It would be what is left of it where PyTorch goes around the functions that have none."""
    network, loss_of = NETWORKS[name]()
    loss, weights = loss_of(network), list(network.parameters())
    with pytest.raises(RuntimeError, match="leave create_graph out"):
        take(loss, inputs=weights, create_graph=True)
