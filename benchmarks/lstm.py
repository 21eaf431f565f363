"""An LSTM in place of the cell: what a recurrent cell has to beat, with as many parameters, the same text and training.

The cell's dropout of the hidden state (--dropouth) has no counterpart here; all else is that of `darts train rnn`.

    python -m benchmarks.lstm --dataset ptb --data DIR --dim 128 --epochs 2 --seed 2 --run lstm/seed-2

The options are those of `darts train rnn`; --run is needed, as the folder's own name would be that of another training, and
--genotype has no effect. The report shows the cells of that genotype all the same.
"""

import sys

import torch
from torch import Tensor, nn

from darts_cli.cli import main as darts
from darts_cli.rnn import model, train

CELL_PARAMETERS = 20  # of a cell of DARTS, in squares of the dimension: 4 of the two inputs, and 2 of each of the 8 nodes


class LSTM(model.LanguageModel):
    """An LSTM of one layer with a projection to the dimension D; the hidden state (1, B, D + H) is its output and memory.

    H cells and a projection to D have 9 H D weights, so H = 20/9 D.
    """

    def __init__(self, _genotype, vocab: int, dim: int, *, init_op: str, **dropouts: float):
        super().__init__(vocab, dim, **dropouts)
        self.cell = nn.LSTM(dim, round(CELL_PARAMETERS * dim / 9), proj_size=dim)

    def initial(self, batch: int) -> Tensor:
        hidden = super().initial(batch)
        memory = torch.zeros(1, batch, self.cell.hidden_size, dtype=hidden.dtype, device=hidden.device)
        return torch.cat([hidden, memory], dim=2)

    def _states(self, x: Tensor, hidden: Tensor, masks, mixture=None) -> tuple[Tensor, Tensor, Tensor]:
        self.memory = hidden[..., self.dim :].contiguous()
        raw, states, last = super()._states(x, hidden[..., : self.dim], masks, mixture)
        return raw, states, torch.cat([last, self.memory], dim=2)

    def cell_over_time(self, x: Tensor, s: Tensor, masks, mixture) -> Tensor:
        x = x if masks is None else x * masks.x
        states, (_, self.memory) = self.cell(x, (s[None].contiguous(), self.memory))
        return states


if __name__ == "__main__":
    if "--run" not in sys.argv:
        raise SystemExit(__doc__)
    train.Network = LSTM
    darts(["train", "rnn", *sys.argv[1:]])
