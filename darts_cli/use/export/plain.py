"""Networks as other programs run them: operation by operation, without the fused forms that only a gradient needs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darts_cli.cnn import nasbench201
from darts_cli.cnn.model import Network
from darts_cli.rnn.model import Network as LanguageModel


class Normalise(nn.Module):
    """Bytes (B, 3, H, W) -> float32, normalised; mean and deviation are of pixels in [0, 1]."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("deviation", 255 * torch.tensor(deviation).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation


class Classifier(nn.Module):
    """A convolutional network in evaluation."""

    def __init__(self, network: Network | nasbench201.Network):
        super().__init__()
        self.network = network
        network.auxiliary_head = None

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        network = self.network
        if isinstance(network, nasbench201.Network):
            return network.logits(images)
        s0, s1 = network.stem(images)
        for cell in network.cells:
            states = [cell.preprocess0(s0), cell.preprocess1(s1)]
            operations = iter(cell.edges)
            for node in cell.genotype.nodes:
                first, *others = [next(operations)(states[edge.input]) for edge in node]
                states.append(sum(others, first))
            s0, s1 = s1, torch.cat([states[i] for i in cell.genotype.concat], dim=1)
        return network.classifier(s1.mean(dim=(2, 3)))


class Step(nn.Module):
    """A language model in evaluation, which reads one word of each stream."""

    def __init__(self, network: LanguageModel):
        super().__init__()
        self.network = network

    def forward(self, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(1, B), (1, B, D) -> log-probabilities of the next words (1, B, V), hidden (1, B, D)."""
        network, cell = self.network, self.network.cell
        x, s = network.encoder(words[0]), hidden[0]  # without the time, since PyTorch 2.6 exports only products of matrices
        states: list[Tensor] = []
        for (op, j), W in zip(cell.steps, (cell.W0, *cell.Ws), strict=True):
            before = s if j is None else states[j]
            c, h = ((torch.cat([x, s], dim=-1) if j is None else before) @ W).chunk(2, dim=-1)
            f = h if op == "identity" else getattr(torch, op)(h)
            states.append(before + torch.sigmoid(c) * (f - before))
        s = torch.stack([states[i] for i in cell.concat]).mean(dim=0)
        return network.decoder(s).log_softmax(dim=-1)[None], s[None]
