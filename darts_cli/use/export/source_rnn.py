"""The text of a language model for `darts export --format source`."""

from darts_cli.rnn.evaluate import Trained

FUNCTIONS = {"tanh": "torch.tanh({})", "relu": "torch.relu({})", "sigmoid": "torch.sigmoid({})", "identity": "{}"}

CELL = '''class Cell(nn.Module):
    """Each state moves from an earlier one towards an activation, by the fraction that a gate gives."""

    def __init__(self, D: int):
        super().__init__()
        self.W0 = nn.Parameter(torch.empty(2 * D, 2 * D).uniform_(-0.04, 0.04))
        self.Ws = nn.ParameterList(torch.empty(D, 2 * D).uniform_(-0.04, 0.04) for _ in range({nodes}))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """The embedded words (B, D) and the hidden state (B, D) -> the next hidden state (B, D)."""
{steps}
        return {mean}'''

NETWORK = '''class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding({vocab}, {dim})
        self.cell = Cell({dim})
        self.decoder = nn.Linear({dim}, {vocab})
        self.decoder.weight = self.encoder.weight

    def forward(self, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(T, B), (1, B, {dim}) -> log-probabilities of the next words (T, B, {vocab}), hidden (1, B, {dim})."""
        s, outputs = hidden[0], []
        for x in self.encoder(words):
            s = self.cell(x, s)
            outputs.append(s)
        return self.decoder(torch.stack(outputs)).log_softmax(dim=-1), s[None]

    def initial(self, batch: int) -> Tensor:
        """The hidden state at the start of a text (1, B, {dim})."""
        return torch.zeros(1, batch, {dim})'''


def blocks(trained: Trained) -> list[str]:
    """The classes Cell and Network of a trained network."""
    cell, steps = trained.network.cell, []
    for i, (op, j) in enumerate(cell.steps):
        before, gates = ("s", "torch.cat([x, s], dim=1) @ self.W0") if j is None else (f"s{j}", f"s{j} @ self.Ws[{i - 1}]")
        steps.append(f"        c, h = ({gates}).chunk(2, dim=1)")
        steps.append(f"        s{i} = {before} + torch.sigmoid(c) * ({FUNCTIONS[op].format('h')} - {before})")
    total = " + ".join(f"s{i}" for i in cell.concat)
    mean = f"({total}) / {len(cell.concat)}" if len(cell.concat) > 1 else total
    sizes = {"vocab": trained.sizes["vocab"], "dim": trained.sizes["dim"]}
    return [CELL.format(nodes=len(cell.Ws), steps="\n".join(steps), mean=mean), NETWORK.format(**sizes)]
