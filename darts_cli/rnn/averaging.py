"""The switch from SGD to averaged SGD once the validation loss stalls (Merity et al., arXiv 1708.02182)."""

import copy
import math

import torch

from darts_cli.config import TrainRNN
from darts_cli.rnn.model import Network
from darts_cli.runtime.device import fused, keep_kind


class Averaging:
    """The optimiser: SGD until `average` switches to torch.optim.ASGD, whose averaged weights are then evaluated.

    ASGD applies a changed learning rate one step late.
    """

    def __init__(self, network: Network, config: TrainRNN):
        self.network, self.weights, self.config = network, list(network.parameters()), config
        self.optimizer: torch.optim.Optimizer
        self.restart(averages=False)

    @property
    def averages(self) -> bool:
        return isinstance(self.optimizer, torch.optim.ASGD)

    def average(self) -> None:
        """Average the weights over all steps from now on."""
        lr, weight_decay = self.config.lr, self.config.weight_decay
        self.optimizer = torch.optim.ASGD(self.weights, lr, lambd=0.0, t0=0, weight_decay=weight_decay)

    def averaged(self) -> Network:
        """The network to evaluate: with averaged weights a copy, else the network itself."""
        if not self.averages:
            return self.network
        mean = copy.deepcopy(self.network)
        with torch.no_grad():
            for weight, source in zip(mean.parameters(), self.weights, strict=True):
                weight.copy_(self.optimizer.state[source]["ax"])
        return mean

    def restart(self, averages: bool) -> None:
        """Start with a new optimiser, which averages or does not yet."""
        if averages:
            self.average()
        else:
            lr, weight_decay, device = self.config.lr, self.config.weight_decay, self.weights[0].device
            self.optimizer = keep_kind(torch.optim.SGD(self.weights, lr, weight_decay=weight_decay, fused=fused(device)))

    def state_dict(self) -> dict:
        return {"averages": self.averages, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        if state["averages"]:
            self.average()
        self.optimizer.load_state_dict(state["optimizer"])


def stalled(config: TrainRNN, records: list[dict]) -> bool:
    """Whether to start averaging: the last validation loss is above the lowest one of more than `asgd_after` epochs ago."""
    *before, last = [record["valid_loss"] for record in records]
    low_enough = config.asgd_below is None or math.exp(min(last, 700)) < config.asgd_below
    return low_enough and len(before) > config.asgd_after and last > min(before[: -config.asgd_after])
