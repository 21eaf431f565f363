"""The recurrent networks, operation by operation; names of parameters as in the original code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).uniform_(-0.04, 0.04))


class Model(nn.Module):
    """The language model; masks are (words (V, 1), embedding, x, h, output (B, D)), as dropout has drawn them."""

    def __init__(self, vocab: int, dim: int, nodes: int):
        super().__init__()
        self.encoder = nn.Embedding(vocab, dim)
        self.decoder = nn.Linear(dim, vocab)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.04, 0.04)
        self.W0 = _parameter(2 * dim, 2 * dim)
        self.Ws = nn.ParameterList(_parameter(dim, 2 * dim) for _ in range(nodes))

    def first_state(self, x: Tensor, h: Tensor, masks: tuple) -> Tensor:
        c0, h0 = (torch.cat([x * masks[2], h * masks[3]], dim=-1) @ self.W0).chunk(2, dim=-1)
        return h + torch.sigmoid(c0) * (torch.tanh(h0) - h)

    def loss(self, x: Tensor, y: Tensor, hidden: Tensor, masks: tuple, tar: float = 0.0) -> tuple[Tensor, Tensor]:
        """x, y (T, B), hidden (B, D) -> loss and the last hidden state."""
        embedded = F.embedding(x, self.encoder.weight * masks[0]) * masks[1]
        raw = []
        for x_t in embedded:
            hidden = self.cell(x_t, hidden, masks)
            raw.append(hidden)
        raw = torch.stack(raw)
        dropped = raw * masks[4]
        logits = self.decoder(dropped.flatten(0, 1))
        loss = F.nll_loss(F.log_softmax(logits, dim=-1), y.flatten())
        if tar:
            loss = loss + tar * (raw[1:] - raw[:-1]).pow(2).mean()
        return loss, hidden


class SearchNetwork(Model):
    """Every node the weighted sum, over states and operations, of s + c (f(h) - s); BatchNorm after each."""

    OPERATIONS = ("none", *ACTIVATIONS)

    def __init__(self, vocab: int, dim: int = 300):
        super().__init__(vocab, dim, nodes=8)
        self.bn = nn.BatchNorm1d(dim, affine=False)
        self.alphas = nn.ParameterDict({"recurrent": nn.Parameter(1e-3 * torch.randn(36, 5))})

    def weights(self) -> list[nn.Parameter]:
        return [weight for name, weight in self.named_parameters() if not name.startswith("alphas.")]

    def cell(self, x: Tensor, h: Tensor, masks: tuple) -> Tensor:
        weights = F.softmax(self.alphas["recurrent"], dim=-1)
        states, start = self.bn(self.first_state(x, h, masks)).unsqueeze(0), 0
        for i, W in enumerate(self.Ws):
            c, h_i = ((states * masks[3]) @ W).chunk(2, dim=-1)
            c = torch.sigmoid(c)
            node = torch.zeros_like(states[0])
            for k, name in enumerate(self.OPERATIONS):
                if name == "none":
                    continue
                unweighted = states + c * (ACTIVATIONS[name](h_i) - states)
                node = node + (weights[start : start + i + 1, k, None, None] * unweighted).sum(0)
            states = torch.cat([states, self.bn(node).unsqueeze(0)])
            start += i + 1
        return states[1:].mean(0)


class Network(Model):
    def __init__(self, genotype, vocab: int, dim: int = 850):
        cell = genotype.cells["recurrent"]
        super().__init__(vocab, dim, nodes=len(cell.nodes))
        self.edges, self.concat = [edge for (edge,) in cell.nodes], cell.concat

    def cell(self, x: Tensor, h: Tensor, masks: tuple) -> Tensor:
        states = [self.first_state(x, h, masks)]
        for edge, W in zip(self.edges, self.Ws, strict=True):
            s = states[edge.input]
            c, h_i = ((s * masks[3]) @ W).chunk(2, dim=-1)
            states.append(s + torch.sigmoid(c) * (ACTIVATIONS[edge.op](h_i) - s))
        return torch.stack([states[i] for i in self.concat]).mean(0)
