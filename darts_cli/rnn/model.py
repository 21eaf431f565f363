"""The recurrent networks: language models around the mixed cell of a search, or the cell of a genotype (sec. 2.1, 3.1.2)."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.methods.relaxation import Searching
from darts_cli.methods.value import DARTS, Method, Tables
from darts_cli.rnn.cells import INIT_RANGE, Cell, Masks, SearchCell
from darts_cli.rnn.fused.next_words import NextWords
from darts_cli.rnn.fused.recurrence import ACTIVATIONS
from darts_cli.runtime.device import autocast_dtype, no_autocast
from darts_cli.spaces.space import Space, default


class LanguageModel(nn.Module):
    """The part that both networks share: an encoder, their cell applied over time, and a decoder tied to the encoder.

    The dropouts have the original's names: `dropout` of the output, `dropouth` of hidden state and nodes, `dropoutx` of the
    cell's input, `dropouti` of the embedded words, `dropoute` of complete words. Raises DartsError when one is not in [0, 1),
    or when there are no words.
    """

    fused = True  # whether to compute quickly what can then be differentiated only once

    def __init__(
        self, vocab: int, dim: int, *, dropout: float, dropouth: float, dropoutx: float, dropouti: float, dropoute: float
    ):
        super().__init__()
        if vocab < 1:
            raise DartsError(f"a vocabulary of {vocab} words; it must have at least one")
        self.vocab, self.dim = vocab, dim
        self.dropouts = {"words": dropoute, "embedding": dropouti, "x": dropoutx, "h": dropouth, "output": dropout}
        for name, p in self.dropouts.items():
            if not 0 <= p < 1:
                raise DartsError(f"the dropout of {name} is {p}; it must be at least 0 and less than 1")
        self.encoder = nn.Embedding(vocab, dim)
        self.decoder = nn.Linear(dim, vocab)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.decoder.bias)

    def cell_over_time(self, x: Tensor, s: Tensor, masks: Masks | None, mixture: Tables | None) -> Tensor:
        """x (T, B, D), s (B, D) -> the hidden states (T, B, D)."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, hidden: Tensor, masks: Masks | None = None, mixture: Tables | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (T, B) word ids, hidden (1, B, D) -> log-probabilities of the next words (T, B, V), hidden (1, B, D).

        mixture    in a search: the operation weights, {"recurrent": (36, 5)}; the strengths of the method if none are given
        """
        _, states, hidden = self._states(x, hidden, masks, mixture)
        return self.decoder(states).log_softmax(dim=-1), hidden

    def loss(
        self,
        x: Tensor,
        y: Tensor,
        hidden: Tensor,
        *,
        ar: float = 0.0,
        tar: float = 0.0,
        masks: Masks | None = None,
        mixture: Tables | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x, y (T, B), hidden (1, B, D) -> loss, mean negative log-likelihood per word in nats, hidden (1, B, D).

        The loss is that likelihood, plus `ar` times the mean square of the output after dropout, plus `tar` times the mean
        square of the output's change over time (Merity et al., arXiv 1708.01009). In training, masks are drawn if none are
        given. `mixture` is that of `forward`. Raises DartsError when x and y differ in shape.
        """
        if x.shape != y.shape:
            raise DartsError(f"words {tuple(x.shape)} and those after them {tuple(y.shape)} must be as many")
        raw, states, hidden = self._states(x, hidden, masks, mixture)
        nll = self._nll(states.flatten(0, 1), y.flatten())
        loss = nll
        if ar:
            loss = loss + ar * states.square().mean()
        if tar and len(raw) > 1:
            loss = loss + tar * (raw[1:] - raw[:-1]).square().mean()
        return loss, nll, hidden

    def masks(self, batch: int) -> Masks:
        """New masks for a batch of `batch` streams."""
        like = self.encoder.weight
        drawn = {}
        for name, p in self.dropouts.items():
            shape = (self.vocab, 1) if name == "words" else (batch, self.dim)
            kept = torch.rand(shape, dtype=like.dtype, device=like.device) >= p
            drawn[name] = kept.to(like.dtype) / (1 - p)
        return Masks(**drawn)

    def initial(self, batch: int) -> Tensor:
        """The hidden state at the start of a text, zeros (1, B, D)."""
        return torch.zeros(1, batch, self.dim, dtype=self.encoder.weight.dtype, device=self.encoder.weight.device)

    def _states(
        self, x: Tensor, hidden: Tensor, masks: Masks | None, mixture: Tables | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The cell's outputs (T, B, D), the outputs after dropout, and the last output as hidden (1, B, D)."""
        if not self.training:
            masks = None
        elif masks is None:
            masks = self.masks(x.shape[1])
        embedded = self.encoder(x)
        if masks is not None:
            embedded = embedded * masks.words[x] * masks.embedding
        raw = self.cell_over_time(embedded, hidden[0], masks, mixture)
        return raw, raw if masks is None else raw * masks.output, raw[-1:]

    def _nll(self, states: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of states (N, D) and words (N,)."""
        weight, bias, dtype = self.decoder.weight, self.decoder.bias, autocast_dtype(states.device)
        if not self.fused:
            return F.cross_entropy(F.linear(states, weight, bias), y)
        if not torch.is_grad_enabled():  # a Function does not see that
            weight, bias = weight.detach(), bias.detach()
        if dtype is not None:
            states, weight = states.to(dtype), weight.to(dtype)
        with no_autocast(states.device):
            return NextWords.apply(states, weight, bias, y) / len(y)


class SearchNetwork(Searching, LanguageModel):
    """The network the search trains; `alphas["recurrent"]` (36 edges, 5 operations) starts at `alpha_scale` N(0, 1).

    `space` says what the cell may be; if none is given, it is the default space of text. `fused=False` computes everything as
    the paper writes it, which can be differentiated twice.
    """

    def __init__(
        self,
        vocab: int,
        dim: int = 300,
        *,
        dropout: float = 0.75,
        dropouth: float = 0.25,
        dropoutx: float = 0.75,
        dropouti: float = 0.2,
        dropoute: float = 0.0,
        space: Space | None = None,
        alpha_scale: float = 1e-3,
        method: Method = DARTS,
        fused: bool = True,
    ):
        dropouts = {"dropout": dropout, "dropouth": dropouth, "dropoutx": dropoutx, "dropouti": dropouti, "dropoute": dropoute}
        super().__init__(vocab, dim, **dropouts)
        self.space, self.method, self.fused = space or default("rnn"), method, fused
        self.cell = SearchCell(self.space, dim, fused)
        self.relax(self.space, method, alpha_scale)

    def regions(self) -> list[nn.Module]:
        """What --compile compiles."""
        return [self.cell.moment]

    def cell_over_time(self, x: Tensor, s: Tensor, masks: Masks | None, mixture: Tables | None) -> Tensor:
        mixture = self.settled() if mixture is None else mixture
        return self.cell(x, s, mixture["recurrent"], masks, self.added.auxiliary_skip)

    def measured(self, fused: bool = True) -> "SearchNetwork":
        """A copy to measure with: without dropout, but normalised by the statistics of each batch.

        Because one BatchNorm serves s_0 and all nodes, its running statistics fit none of them.
        """
        network = copy.deepcopy(self).eval()
        network.cell.bn.train()
        network.fused &= fused
        network.cell.fused &= fused
        return network


class Network(LanguageModel):
    """The network of a genotype. Raises DartsError when the genotype is not recurrent or `init_op` unknown."""

    def __init__(
        self,
        genotype: Genotype,
        vocab: int,
        dim: int = 850,
        *,
        dropout: float = 0.75,
        dropouth: float = 0.25,
        dropoutx: float = 0.75,
        dropouti: float = 0.2,
        dropoute: float = 0.1,
        init_op: str = "tanh",
    ):
        dropouts = {"dropout": dropout, "dropouth": dropouth, "dropoutx": dropoutx, "dropouti": dropouti, "dropoute": dropoute}
        super().__init__(vocab, dim, **dropouts)
        if genotype.domain != "rnn":
            raise DartsError(f"a recurrent network needs a genotype of the domain rnn, not {genotype.domain}")
        if init_op not in ACTIVATIONS:
            raise DartsError(f"init_op {init_op!r}: must be one of {', '.join(ACTIVATIONS)}")
        self.cell = Cell(genotype.cells["recurrent"], dim, init_op)

    def cell_over_time(self, x: Tensor, s: Tensor, masks: Masks | None, mixture: Tables | None) -> Tensor:
        return self.cell(x, s, masks)
