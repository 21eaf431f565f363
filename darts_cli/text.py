"""How results and messages are printed: on one line, aligned, with control characters escaped."""

import contextlib
import difflib
import io
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

SAVE_MEMORY = (
    "--fit-memory auto computes batches in parts that fit; a smaller --batch-size needs less, and so do --recompute "
    "(search cnn) and, on a GPU, --precision bf16"
)
OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "ALLOC_FAILED",
    "memory object",
)


def printable(message: str) -> str:
    """On one line, with control characters escaped."""
    return harmless(" ".join(message.split()))


def harmless(text: str) -> str:
    """With control characters escaped, except line ends."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def first_line(text: str) -> str:
    """Its first line that says something, shortened; nothing where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:120]


class Unfailing:
    """A stream for everything but the result: a closed pipe or terminal, or a full disk, does not end the program."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream or io.StringIO()  # a process may have no stderr

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
    """Print a line on stderr."""
    print(line, file=Unfailing(sys.stderr), flush=True)


def tell_at_once(line: str) -> None:
    """Print a line on stderr from the handler of a signal, which may have interrupted any other printing."""
    with contextlib.suppress(OSError):  # such as of a terminal that was closed
        os.write(2, f"{line}\n".encode())


def hint(text: str) -> None:
    """Print text on stderr, on one line."""
    tell(printable(text))


def lines(result: dict) -> str:
    """One line per entry: shares as percentages, large numbers with separators."""
    shown = {}
    for name, value in result.items():
        if isinstance(value, float):
            form = ".4f" if name.endswith("loss") else ".2f" if name.endswith("perplexity") else ".2%"
            shown[name] = f"{value:{form}}"
        elif isinstance(value, list):
            shown[name] = " ".join(map(str, value))
        else:
            shown[name] = f"{value:,}" if isinstance(value, int) else str(value or "unnamed")
    width = max(map(len, shown))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {printable(value)}" for name, value in shown.items())


def on_lines(command: str, width: int) -> str:
    """A command that is longer than a line, on several that a shell reads as one; no word is broken."""
    if len(command) <= width:
        return command
    words, lines = [shlex.quote(word) for word in shlex.split(command)], [""]
    for word in words:
        if lines[-1].strip() and len(lines[-1]) + len(word) + 3 > width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def table(rows: list[tuple[str, ...]]) -> str:
    """Aligned columns with two spaces between them.

    Not a table of rich: that would fit its columns to the width of the terminal, and scripts read this one line by line.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def exact(value: float) -> str:
    """The shortest text that is read as this number: 30, not 30.0."""
    return str(int(value)) if value == int(value) else repr(value)


def counted(count: int, noun: str) -> str:
    """Such as 1 epoch, 2 epochs, 1,200 words."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def encodable(drawing: str) -> str:
    """A drawing, in ASCII if stdout cannot encode its lines."""
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
    """The message if Python, or PyTorch on any device, ran out of memory.

    The error is recognised by name and text, since torch may not be loaded.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if not names & {"MemoryError", "OutOfMemoryError"} and not any(text in str(error) for text in OUT_OF_MEMORY_TEXTS):
        return None
    size = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    return f"out of memory{f' when allocating {size[1]}' if size else ''}; {SAVE_MEMORY}"


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def sparkline(values: Sequence[float]) -> str:
    """A curve as a row of blocks, the lowest value as the lowest block."""
    low, high = min(values), max(values)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / (high - low)) if high > low else 0] for value in values)


def size(count: float) -> str:
    """Such as "870 kB", "640 MB", "1.25 GB"."""
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
