"""Language models in use: writing text, and scoring it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_cli import DartsError
from darts_cli.rnn.data import EOS, piece, word_ids
from darts_cli.rnn.evaluate import BPTT, metrics, scores, sums_dtype
from darts_cli.use import networks

ADVICE = "the weights of this network are damaged"


def language_model(path: str, command: str) -> nn.Module:
    """The language model of a run folder or a checkpoint. Raises DartsError when it is none, or when its words are unknown."""
    network = networks.load(path)
    if not hasattr(network, "vocab"):
        raise DartsError(f"{path}: holds a network of images; {command} needs a language model", exit_code=2)
    if network.vocab is None:
        raise DartsError(f"{path}: holds no vocabulary, as checkpoints of the original do not; {command} needs the words")
    if EOS not in network.vocab:
        raise DartsError(f"{path}: its vocabulary has no {EOS}, the end of a line, which {command} needs")
    return network


class Words(NamedTuple):
    """A line as a network reads it."""

    ids: list[int]  # without the end of the line
    unknown: Counter[str]  # words that the network does not know: read as <unk>, or left out where it has none


def read(words: Iterable[str], vocab: Mapping[str, int]) -> Words:
    """A line of words, where `vocab` gives the index of each known word."""
    unknown: Counter[str] = Counter()
    return Words(list(word_ids(words, vocab, unknown)), unknown)


def indices(network: nn.Module) -> dict[str, int]:
    """The index of every word that a language model knows."""
    return {word: i for i, word in enumerate(network.vocab)}


# ---- writing


@torch.no_grad()
def generate(network: nn.Module, prompt: list[int], count: int, temperature: float, seed: int) -> Iterator[str]:
    """`count` words that go on after the prompt, each drawn from softmax(log p / temperature); at 0 the most probable ones.

    A text starts as after the end of a line. The end of a line is a word, <eos>. The same seed draws the same words. Raises
    DartsError when the weights are not numbers.
    """
    device, g = next(network.parameters()).device, torch.Generator().manual_seed(seed)
    given, hidden = [network.vocab.index(EOS), *prompt], network.initial(1)
    for _ in range(count):
        log_probs, hidden = network(torch.tensor(given, device=device)[:, None], hidden)
        last = log_probs[-1, 0].double().cpu()
        if last.isnan().any():
            raise DartsError(f"the probabilities of the next word are not numbers; {ADVICE}")
        relative = last - last.max()  # so that no temperature is too small
        word = int(last.argmax() if temperature == 0 else (relative / temperature).softmax(0).multinomial(1, generator=g))
        yield network.vocab[word]
        given = [word]


# ---- scoring


class Score(NamedTuple):
    """A line, and how well the network predicts it."""

    line: Sequence[str]
    sums: Tensor  # negative log-likelihood in nats, and the number of predicted words, with the end of the line (2,)
    unknown: Counter[str]

    @property
    def words(self) -> int:
        return int(self.sums[1])

    @property
    def perplexity(self) -> float | None:
        """Per word; None where no word was predicted."""
        return perplexity(self.sums)


def perplexity(sums: Tensor) -> float | None:
    """Of summed scores. Raises NotFinite."""
    return metrics("text", sums, ADVICE)["text_perplexity"] if sums[1] else None


def score(network: nn.Module, lines: Iterable[Sequence[str]], carry: bool = False) -> Iterator[Score]:
    """Every line of words on its own, as after the end of another line; blank lines are passed over.

    With `carry` the lines are one text, read as an evaluation reads it: the hidden state passes from line to line, a blank line
    is an <eos>, and the very first word is not predicted.
    """
    vocab = indices(network)
    start, hidden = [] if carry else [vocab[EOS]], network.initial(1)
    for line in lines:
        if not line and not carry:
            continue
        words = read(line, vocab)
        sums, after = _sums(network, [*start, *words.ids, vocab[EOS]], hidden)
        yield Score(line, sums, words.unknown)
        if carry:
            start, hidden = [vocab[EOS]], after


@torch.no_grad()
def _sums(network: nn.Module, ids: list[int], hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of `scores` over the words after the first one, and the hidden state before the last one is read."""
    text = torch.tensor(ids, device=hidden.device)[:, None]
    sums = torch.zeros(2, dtype=sums_dtype(hidden.device), device=hidden.device)
    for begin in range(0, len(text) - 1, BPTT):
        x, y = piece(text, begin, BPTT)
        _, nll, hidden = network.loss(x, y, hidden)
        sums = sums + scores(nll, y)
    return sums.cpu(), hidden
