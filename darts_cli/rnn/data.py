"""Texts: three parts as word ids, cut into parallel streams."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts_cli import DartsError
from darts_cli.rnn import texts
from darts_cli.rnn.texts import EOS, KNOWN, PARTS, SOURCES, TOLERANCE
from darts_cli.runtime.device import generator


class Corpus:
    """The text files train.txt, valid.txt and test.txt of a folder, or a single file, split 8:1:1.

    train, valid, test    word ids, 1-D int64; every line ends with <eos>
    vocab                 the given words, or all words in the order of their first appearance in the three files
    unknown               the words outside a given vocabulary, with counts; they are read as <unk>, or skipped without it
    tokens                what is a word: `words`, between blanks, or `characters`

    Raises DartsError when a file is missing, empty or not UTF-8.
    """

    def __init__(
        self, path: str | Path, vocab: Sequence[str] | None = None, parts: Sequence[str] = PARTS, tokens: str = "words"
    ):
        self._read(texts.read(Path(path), parts, tokens, check_spaces=vocab is None and tokens == "words"), vocab)

    @classmethod
    def of(cls, texts: dict[str, Iterable[list[str]]], vocab: Sequence[str] | None = None) -> "Corpus":
        """A corpus from each part's lines, which are lists of words."""
        corpus = cls.__new__(cls)
        corpus._read(texts, vocab)
        return corpus

    def _read(self, texts: dict[str, Iterable[list[str]]], vocab: Sequence[str] | None) -> None:
        ids = {} if vocab is None else {word: i for i, word in enumerate(vocab)}
        self.unknown: Counter[str] = Counter()

        def read(lines: Iterable[list[str]]) -> Iterator[int]:
            words = (word for line in lines for word in (*line, EOS))
            if vocab is not None:
                return word_ids(words, ids, self.unknown)
            return (ids.setdefault(word, len(ids)) for word in words)

        tensors = {part: torch.tensor(list(read(lines)), dtype=torch.long) for part, lines in texts.items()}
        self.train, self.valid, self.test = (tensors.get(part, torch.tensor([], dtype=torch.long)) for part in PARTS)
        self.vocab = list(ids)

    def about(self) -> dict:
        """What a trained network needs to know, and a fingerprint of all words."""
        digest = hashlib.sha256("\n".join(self.vocab).encode(errors="surrogateescape"))
        for part in (self.train, self.valid, self.test):
            digest.update(part.numpy())
        return {"fingerprint": digest.hexdigest()[:16], "vocab": list(self.vocab)}


def word_ids(words: Iterable[str], ids: Mapping[str, int], unknown: Counter[str]) -> Iterator[int]:
    """The ids of words. Those without an id are counted in `unknown`, and read as <unk>, or skipped if that has none either."""
    for word in words:
        if word in ids:
            yield ids[word]
        else:
            unknown[word] += 1
            if "<unk>" in ids:
                yield ids["<unk>"]


def load(
    name: str,
    folder: str | None,
    vocab: Sequence[str] | None = None,
    parts: Sequence[str] = PARTS,
    tokens: str = "words",
) -> Corpus:
    """The corpus of that name, in `folder` or built in. Raises DartsError when something is missing, saying what."""
    if name == "pydoc" and folder is not None:
        raise DartsError(f"--data {folder}: pydoc is built in and has no folder; use --dataset text", 2)
    if name == "pydoc":
        paragraphs = texts.pydoc()
        return Corpus.of({part: paragraphs[part] for part in parts}, vocab)
    if folder is None:
        raise DartsError(
            f"--dataset {name} needs --data DIR: a folder with train.txt, valid.txt and test.txt, {SOURCES[name]}", 2
        )
    return Corpus(folder, vocab, parts, tokens)


def remarks(name: str, corpus: Corpus) -> list[str]:
    """What should be said of a corpus that goes by a published name and is another one."""
    if name not in KNOWN:
        return []
    title, words, different = KNOWN[name]
    found = len(corpus.train), len(corpus.vocab)
    if all(abs(a - b) <= TOLERANCE * b for a, b in zip(found, (words, different), strict=True)):
        return []
    return [
        f"warning: this is not {title}: {found[0]:,} words to train on, {found[1]:,} different ones, instead of {words:,} and "
        f"{different:,}; --dataset text is for texts of your own"
    ]


# ---- streams


def streams(ids: Tensor, batch: int, what: str) -> Tensor:
    """The text cut into `batch` parallel streams: (N,) -> (N // batch, batch), without the remainder.

    Raises DartsError when the streams are too short to predict anything.
    """
    rows = len(ids) // batch
    if rows < 2:
        raise DartsError(f"the {what} text has {len(ids)} words, too few for {batch} streams; lower the batch size or add text")
    return ids[: rows * batch].view(batch, rows).t().contiguous()


def piece(source: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    """The words from row `start` on, and the words after them: (T, B) twice, T at most `length`."""
    length = min(length, len(source) - 1 - start)
    return source[start : start + length], source[start + 1 : start + 1 + length]


def search_pieces(rows: int, bptt: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(start, length) of every step of an epoch: `bptt` rows or, one time in twenty, half as many."""

    def length(g: torch.Generator) -> int:
        return bptt if torch.rand((), generator=g) < 0.95 else max(1, bptt // 2)

    return _pieces(rows, generator(seed, "lengths", epoch), length)


def train_pieces(rows: int, bptt: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(start, length) of every step of an epoch: N(bptt, 5), one time in twenty N(bptt / 2, 5), from 5 to bptt + 20 rows."""

    def length(g: torch.Generator) -> int:
        mean = bptt if torch.rand((), generator=g) < 0.95 else bptt / 2
        return min(max(5, int(mean + 5 * torch.randn((), generator=g))), bptt + 20)

    return _pieces(rows, generator(seed, "lengths", epoch), length)


def _pieces(rows: int, g: torch.Generator, length: Callable[[torch.Generator], int]) -> list[tuple[int, int]]:
    pieces, start = [], 0
    while start < rows - 2 or not pieces:
        pieces.append((start, min(length(g), rows - 1 - start)))
        start += pieces[-1][1]
    return pieces
