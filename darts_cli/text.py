"""How results and messages are printed: on one line, aligned, without what a terminal would obey."""

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Iterable
from typing import TextIO

LESS = (
    "a smaller --batch-size needs less, and so do --recompute (search cnn), --accumulate (train cnn), --batch-chunks "
    "(train rnn) and, on a GPU, --precision bf16"
)
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "memory object",
)  # texts


def printable(message: str) -> str:
    """On one line, without what a terminal would obey."""
    return harmless(" ".join(message.split()))


def harmless(text: str) -> str:
    """Without what a terminal would obey, but for the ends of lines."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


class Unfailing:
    """A stream for what is said besides the result: a reader that is gone, a closed terminal or a full disk ends nothing."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream or io.StringIO()  # of a process without stderr

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def tell(line: str) -> None:
    """Say it on stderr."""
    print(line, file=Unfailing(sys.stderr), flush=True)


def hint(text: str) -> None:
    """Say it on stderr, on one line."""
    tell(printable(text))


def lines(result: dict) -> str:
    """A line for every entry: shares as percentages, large numbers with separators."""
    shown = {}
    for name, value in result.items():
        if isinstance(value, float):
            form = ".4f" if name.endswith("loss") else ".2f" if name.endswith("perplexity") else ".2%"
            shown[name] = f"{value:{form}}"
        elif isinstance(value, list):
            shown[name] = " ".join(map(str, value))
        else:
            shown[name] = f"{value:,}" if isinstance(value, int) else str(value or "without a name")
    width = max(map(len, shown))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {printable(value)}" for name, value in shown.items())


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns aligned, two blanks between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def encodable(drawing: str) -> str:
    """A drawing, in plain characters where stdout has no others."""
    try:
        drawing.encode(sys.stdout.encoding or "ascii")
        return drawing
    except UnicodeEncodeError:
        return drawing.translate(str.maketrans("─┬┤┘▶", "-+++>"))


def meant(word: object, known: Iterable[str]) -> str:
    """The known word that was probably meant, as " (did you mean WORD?)"; empty if none is close."""
    spelled = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelled, 1) if isinstance(word, str) and len(word) < 40 else []
    return f" (did you mean {spelled[close[0]]}?)" if close else ""


def out_of_memory(error: Exception) -> str | None:
    """What to say if Python, or PyTorch on any device, has found no memory.

    Told by name and text, since torch may not be loaded.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if not kinds & {"MemoryError", "OutOfMemoryError"} and not any(text in str(error) for text in NO_MEMORY):
        return None
    return f"out of memory{_asked(error)}; {LESS}"


def _asked(error: Exception) -> str:
    """How much was asked for when it was over, where the error says so."""
    found = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    return f" when {found[1]} were asked for" if found else ""
