"""What the program makes of a text: a check of its parts, and how they begin."""

import mimetypes
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from darts_cli import DartsError
from darts_cli.rnn import texts
from darts_cli.rnn.texts import EOS, KNOWN, PARTS, SOURCES, TOLERANCE
from darts_cli.text import counted, some

LEAST_WORDS = 5  # of a line that should not be in two parts: shorter ones, such as headings, may recur
MANY_UNSEEN = 0.05  # of the words of a part, that the training text lacks
COMMON = 10  # words that are shown
SHOWN_LINES = 3


def is_text(place: str) -> bool:
    """Whether this names a text: a file, a folder with files of a text, or a text in the package."""
    path = Path(place)
    if path.is_file() and (mimetypes.guess_type(path)[0] or "").startswith("image/"):
        raise DartsError(f"{place}: is one image; name a folder that has a folder of images for each class")
    return path.is_file() or (path.is_dir() and texts.holds_parts(path)) or (place in (*SOURCES, "pydoc") and not path.exists())


def check(place: str, tokens: str = "words") -> dict:
    """A text as the program reads it: of every part its lines, words and most common words; the vocabulary; words that the
    training text lacks, lines of it that are in another part too; and what should be looked at.

    Raises DartsError where a part is missing or cannot be read.
    """
    parts = _lines(place, tokens)
    counts = {name: Counter(word for line in lines for word in (*line, EOS)) for name, lines in parts.items()}
    known = {tuple(line) for line in parts["train"] if len(line) >= LEAST_WORDS}
    found = {
        "tokens": tokens,
        "parts": {
            name: {
                "lines": len(lines),
                "words": counts[name].total(),
                "different": len(counts[name]),
                "longest": max(map(len, lines)),
                "common": dict(counts[name].most_common(COMMON)),
            }
            for name, lines in parts.items()
        },
        "vocabulary": len(set().union(*counts.values())),
        "unseen": {name: dict((counts[name] - _only(counts[name], counts["train"])).most_common()) for name in PARTS[1:]},
        "repeated": {name: [" ".join(line) for line in parts[name] if tuple(line) in known] for name in PARTS[1:]},
    }
    return found | {"warnings": _warnings(place, parts, found)}


def _lines(place: str, tokens: str) -> dict[str, list[list[str]]]:
    if place == "pydoc" and not Path(place).exists():
        return texts.pydoc()
    if place in SOURCES and not Path(place).exists():
        raise DartsError(f"{place}: is not in the package; name the folder that holds it, {SOURCES[place]}")
    return {name: list(lines) for name, lines in texts.read(Path(place), PARTS, tokens).items()}


def _only(counts: Counter[str], known: Iterable[str]) -> Counter[str]:
    return Counter({word: count for word, count in counts.items() if word in known})


def _warnings(place: str, parts: dict[str, list[list[str]]], found: dict) -> list[str]:
    """What should be looked at, a line each."""
    said = []
    if found["tokens"] == "words":
        try:
            for name, lines in parts.items():
                list(texts.with_spaces(lines, f"{place}, {name}"))
        except DartsError as error:
            said.append(str(error))
    for name, words in found["unseen"].items():
        share = sum(words.values()) / found["parts"][name]["words"]
        if share >= MANY_UNSEEN:
            said.append(f"{name}: {share:.1%} of its words are not in the training text, such as {some(list(words))}")
    for name, lines in found["repeated"].items():
        if lines:
            least = f"lines of {LEAST_WORDS} words or more"
            said.append(f"{name}: {len(lines):,} of its {least} are in the training text too, such as {some(lines[:1])}")
    if Path(place).is_file():
        said.append("a single file: its first eight tenths are for training, the ninth for validation, the tenth for testing")
    return said


def described(found: dict) -> str:
    """A check in words, a line for every fact."""
    noun = found["tokens"].removesuffix("s")
    lines = []
    for name, part in found["parts"].items():
        longest = f"the longest with {counted(part['longest'], noun)}"
        lines.append(f"{name}: {counted(part['lines'], 'line')}, {longest}; {counted(part['words'], noun)}, <eos> included")
        lines.append(f"  different {part['different']:,}")
        lines.append(f"  common    {some([f'{word} {count:,}' for word, count in part['common'].items()], COMMON)}")
    lines.append(f"vocabulary: {counted(found['vocabulary'], noun)}, those of all parts")
    for name, (title, words, different) in KNOWN.items():
        numbers = zip((found["parts"]["train"]["words"], found["vocabulary"]), (words, different), strict=True)
        if all(abs(a - b) <= TOLERANCE * b for a, b in numbers):
            lines.append(f"this is {title}: --dataset {name}")
    return "\n".join(lines)


def shown(place: str, tokens: str = "words") -> str:
    """The first lines of every part, as the network reads them. Raises DartsError as `check` does."""
    rows = []
    for name, lines in _lines(place, tokens).items():
        rows += [f"{name}:", *(f"  {' '.join([*line, EOS])}" for line in lines[:SHOWN_LINES])]
    return "\n".join(rows)
