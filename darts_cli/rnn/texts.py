"""Text files as lines of tokens: their names, their encoding, and what a token is."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from darts_cli import DartsError
from darts_cli.text import counted

EOS = "<eos>"
SOURCES = {
    "ptb": "Mikolov's preprocessed Penn Treebank (ptb.train.txt, ptb.valid.txt, ptb.test.txt)",
    "wt2": "WikiText-2, word level (wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens)",
    "text": "your own text, one sentence per line",
}
KNOWN = {"ptb": ("the Penn Treebank", 929_589, 10_000), "wt2": ("WikiText-2", 2_088_628, 33_278)}  # words, different ones
TOLERANCE = 0.01  # of these numbers: editions of WikiText-2 differ by a few words

PARTS = ("train", "valid", "test")
FILES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens", "wiki.{}.raw")  # names under which the data sets circulate
SPELLINGS = {"valid": ("valid", "val", "dev", "validation")}  # of a part, in these names
SPLIT = {"train": (0, 8), "valid": (8, 9), "test": (9, 10)}  # of a single file: tenths of its lines, in their order
WIDE = {  # encodings of more than a byte a letter, by the mark that a text begins with; that of UTF-32 begins as UTF-16 does
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# A text whose lines are single words of this mean length has no spaces between words, as Chinese or Thai has none.
SINGLE_WORDS, LEAST_LINES, LEAST_LETTERS = 0.9, 10, 12


def read(
    path: Path, parts: Sequence[str], tokens: str = "words", *, check_spaces: bool = False
) -> dict[str, Iterable[list[str]]]:
    """The lines of each part, as lists of tokens: of the three files in a folder, or of a single file, which is split 8:1:1.

    Raises DartsError when a file is missing, is not UTF-8, or holds nothing, and with `check_spaces` when its words have no
    spaces between them.
    """
    if path.is_file():
        whole = list(_of_file(path, tokens, check_spaces))
        return {part: _tenths(whole, part, path) for part in parts}
    return {part: _of_file(_find(path, part), tokens, check_spaces) for part in parts}


def lines(file: Iterable[bytes], path: str | Path, tokens: str = "words") -> Iterator[list[str]]:
    """The tokens of every line of a text in UTF-8, or in UTF-16 or UTF-32 with its byte-order mark.

    Raises DartsError, naming its path, when it is neither or holds no words.
    """
    empty = True
    for number, line in enumerate(_in_utf_8(file, path), 1):
        for text in _decoded(line, path, number).rstrip("\r\n").split("\r"):
            words = text.split()
            empty = empty and not words
            yield words if tokens == "words" else list(" ".join(words))
    if empty:
        raise DartsError(f"{path}: holds no words; it needs some")


def with_spaces(lines: Iterable[list[str]], path: str | Path) -> Iterator[list[str]]:
    """The lines of a text. Raises DartsError at its end when nearly all of them are one long word."""
    count = single = letters = 0
    for line in lines:
        count += bool(line)
        if len(line) == 1:
            single, letters = single + 1, letters + len(line[0])
        yield line
    if count >= LEAST_LINES and single >= SINGLE_WORDS * count and letters >= LEAST_LETTERS * single:
        found = f"{single:,} of {count:,} lines are a single word each"
        raise DartsError(f"{path}: {found}; a text without spaces is read with --tokens characters")


def _tenths(whole: list[list[str]], part: str, path: Path) -> list[list[str]]:
    start, end = (tenths * len(whole) // 10 for tenths in SPLIT[part])
    if not any(whole[start:end]):
        raise DartsError(f"{path}: has {counted(len(whole), 'line')}, too few for 8 tenths, 1 and 1 with words in each")
    return whole[start:end]


def holds_parts(folder: Path) -> bool:
    """Whether a folder has a file of a part of a text."""
    return any(_present(folder, part) for part in PARTS)


def _present(folder: Path, part: str) -> list[Path]:
    """The files of a part, by the usual names, in any case."""
    there = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    names = (name.format(word) for word in SPELLINGS.get(part, (part,)) for name in FILES)
    return [there[name] for name in names if name in there and there[name].is_file()]


def _find(folder: Path, part: str) -> Path:
    present = _present(folder, part)
    if not present:
        first = folder / FILES[0].format(part)
        reason = "not a regular file" if first.exists() else "no such file"
        raise DartsError(f"{first}: {reason}; there must be train.txt, valid.txt and test.txt, or one file to split")
    return present[0]


def _of_file(path: Path, tokens: str, check_spaces: bool) -> Iterator[list[str]]:
    try:
        with open(path, "rb") as file:
            found = lines(file, path, tokens)
            yield from with_spaces(found, path) if check_spaces else found
    except OSError as error:
        raise DartsError(f"{path}: cannot be read ({error.strerror})") from None


def _in_utf_8(file: Iterable[bytes], path: str | Path) -> Iterator[bytes]:
    """The lines of a file; those of a text that begins with the mark of UTF-16 or UTF-32 in UTF-8."""
    file = iter(file)
    first = next(file, b"")
    encoding = next((name for mark, name in WIDE.items() if first.startswith(mark)), None)
    if encoding is None:
        yield from chain([first], file)
        return
    try:
        yield from b"".join([first, *file]).decode(encoding).encode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise DartsError(f"{path}: begins as {encoding} and is none (byte {error.start + 1})") from None


def _decoded(line: bytes, path: str | Path, number: int) -> str:
    """A line of a UTF-8 text, without the byte-order marks that some editors write. Raises DartsError where it is not UTF-8."""
    if (zero := line.find(b"\0")) >= 0:  # which UTF-8 takes for a letter
        likely = "utf-16be" if zero % 2 == 0 else "utf-16le"
        raise DartsError(
            f"{path}: not UTF-8 text (line {number}, byte {zero + 1} is 0); if it is UTF-16 without its byte-order mark, "
            f"convert it: iconv -f {likely} -t utf-8"
        )
    try:
        return line.decode("utf-8").replace("\ufeff", "")
    except UnicodeDecodeError as error:
        raise DartsError(
            f"{path}: not UTF-8 text (line {number}, byte {error.start + 1}); if it is LATIN-1, convert it: "
            "iconv -f latin-1 -t utf-8"
        ) from None


def pydoc() -> dict[str, list[list[str]]]:
    """The language reference that Python's own help shows, in lower case; it changes with the Python version.

    Of every ten paragraphs the ninth is for validation, the tenth for testing.
    """
    from pydoc_data.topics import topics

    parts: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    paragraphs = "\n\n".join(topics[name] for name in sorted(topics)).lower().split("\n\n")
    for i, paragraph in enumerate(paragraphs):
        lines = [re.findall(r"\w+|[^\w\s]", line) for line in paragraph.splitlines() if re.search(r"\w", line)]
        parts[{8: "valid", 9: "test"}.get(i % 10, "train")] += lines  # lines without a letter or digit, such as rules, are out
    return parts
