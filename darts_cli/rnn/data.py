"""Texts: three parts as word ids, cut into streams that run side by side."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from darts_cli import DartsError
from darts_cli.runtime.device import generator

PARTS = ("train", "valid", "test")
EOS = "<eos>"
FILES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")  # as the data sets are passed round
SOURCES = {
    "ptb": "Mikolov's preprocessed Penn Treebank (ptb.train.txt, ptb.valid.txt, ptb.test.txt)",
    "wt2": "WikiText-2, word level (wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens)",
    "text": "your own text, a sentence a line",
}


class Corpus:
    """The text files train.txt, valid.txt and test.txt of a folder.

    `train`, `valid`, `test`: word ids, 1-D int64, every line ended by <eos>. `vocab`: the words in the order of their first
    appearance in the three files, or those given. `unknown`: how often each word that is not in a given vocabulary was met; it
    is read as <unk>, or left out where there is none. Raises DartsError when a file is missing, empty or not UTF-8.
    """

    def __init__(self, path: str | Path, vocab: Sequence[str] | None = None, parts: Sequence[str] = PARTS):
        self._read({part: _lines(Path(path), part) for part in parts}, vocab)

    @classmethod
    def of(cls, texts: dict[str, Iterable[list[str]]], vocab: Sequence[str] | None = None) -> "Corpus":
        """Of lines of words, for each part."""
        corpus = cls.__new__(cls)
        corpus._read(texts, vocab)
        return corpus

    def _read(self, texts: dict[str, Iterable[list[str]]], vocab: Sequence[str] | None) -> None:
        ids = {} if vocab is None else {word: i for i, word in enumerate(vocab)}
        self.unknown: Counter[str] = Counter()
        found = {}
        for part, lines in texts.items():
            found[part] = []
            for line in lines:
                for word in (*line, EOS):
                    if vocab is None:
                        found[part].append(ids.setdefault(word, len(ids)))
                    elif (known := ids.get(word)) is not None:
                        found[part].append(known)
                    else:
                        self.unknown[word] += 1
                        found[part] += [ids["<unk>"]] if "<unk>" in ids else []
        self.vocab = list(ids)
        self.train, self.valid, self.test = (torch.tensor(found.get(part, []), dtype=torch.long) for part in PARTS)

    def about(self) -> dict:
        """What a trained network needs to know of it, and a fingerprint: whether two runs read the same words."""
        digest = hashlib.sha256("\n".join(self.vocab).encode(errors="surrogateescape"))
        for part in (self.train, self.valid, self.test):
            digest.update(part.numpy())
        return {"fingerprint": digest.hexdigest()[:16], "vocab": list(self.vocab)}


def load(name: str, folder: str | None, vocab: Sequence[str] | None = None, parts: Sequence[str] = PARTS) -> Corpus:
    """The corpus of that name: in `folder`, or built in. Raises DartsError that says what is missing."""
    if name == "pydoc" and folder is not None:
        raise DartsError(f"--data {folder}: pydoc is built in and has no folder; use --dataset text", 2)
    if name == "pydoc":
        texts = _pydoc()
        return Corpus.of({part: texts[part] for part in parts}, vocab)
    if folder is None:
        raise DartsError(
            f"--dataset {name} needs --data DIR: a folder with train.txt, valid.txt and test.txt, {SOURCES[name]}", 2
        )
    return Corpus(folder, vocab, parts)


def _lines(folder: Path, part: str) -> Iterator[list[str]]:
    found = [path for path in (folder / name.format(part) for name in FILES) if path.is_file()]
    if not found:
        raise DartsError(f"{folder / FILES[0].format(part)}: no such file; there must be train.txt, valid.txt and test.txt")
    words = 0
    try:
        with open(found[0], encoding="utf-8") as file:
            for line in file:
                split = line.split()
                words += len(split)
                yield split
    except UnicodeDecodeError as error:
        raise DartsError(f"{found[0]}: not UTF-8 text (byte {error.start} of a block)") from None
    except OSError as error:
        raise DartsError(f"{found[0]}: cannot be read ({error.strerror})") from None
    if not words:
        raise DartsError(f"{found[0]}: holds no words; every part needs some")


def _pydoc() -> dict[str, list[list[str]]]:
    """The language reference that Python's own help shows, in lower case; it changes with Python's version.

    Of ten paragraphs the ninth is for validation, the tenth for testing.
    """
    from pydoc_data.topics import topics

    texts: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    paragraphs = "\n\n".join(topics[name] for name in sorted(topics)).lower().split("\n\n")
    for i, paragraph in enumerate(paragraphs):
        lines = [re.findall(r"\w+|[^\w\s]", line) for line in paragraph.splitlines() if re.search(r"\w", line)]
        texts[{8: "valid", 9: "test"}.get(i % 10, "train")] += lines  # without rules and underlines
    return texts


# ---- streams


def streams(ids: Tensor, batch: int, what: str) -> Tensor:
    """The text cut into `batch` pieces that run side by side: (N,) -> (N // batch, batch), the rest left out.

    Raises DartsError when they are too short to predict anything.
    """
    rows = len(ids) // batch
    if rows < 2:
        raise DartsError(f"the {what} text has {len(ids)} words, too few for {batch} streams; lower the batch size or add text")
    return ids[: rows * batch].view(batch, rows).t().contiguous()


def piece(source: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    """Words and the words that follow them, from a row on: twice (T, B), T at most `length` and what is left."""
    length = min(length, len(source) - 1 - start)
    return source[start : start + length], source[start + 1 : start + 1 + length]


def search_pieces(rows: int, bptt: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(start, length) of every step of the epoch: `bptt` rows or, one time in twenty, half as many."""
    return _pieces(rows, generator(seed, "lengths", epoch), lambda g: _halved(bptt, g))


def train_pieces(rows: int, bptt: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(start, length) of every step of the epoch: N(bptt, 5), one time in twenty N(bptt / 2, 5), within 5 and bptt + 20."""

    def length(g: torch.Generator) -> int:
        mean = bptt if torch.rand((), generator=g) < 0.95 else bptt / 2
        return min(max(5, int(mean + 5 * torch.randn((), generator=g))), bptt + 20)

    return _pieces(rows, generator(seed, "lengths", epoch), length)


def _halved(bptt: int, g: torch.Generator) -> int:
    return bptt if torch.rand((), generator=g) < 0.95 else max(1, bptt // 2)


def _pieces(rows: int, g: torch.Generator, length) -> list[tuple[int, int]]:
    found, start = [], 0
    while start < rows - 2 or not found:
        found.append((start, min(length(g), rows - 1 - start)))
        start += found[-1][1]
    return found
