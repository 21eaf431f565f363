"""The colours of all pictures: one per operation and one per curve, the same everywhere, and legible to the colour-blind.

Operations of one family share a hue and differ in lightness. Every colour has a contrast of at least 3:1 to white paper, and
the text on it one of at least 4.5:1 (WCAG 2.2).
"""

INK, FAINT, LINE, PAPER = "#1b1f24", "#5c6570", "#98a1ab", "#ffffff"  # text; quiet text; output edges; what they stand on
NIGHT = "#14171c"  # the paper of a dark page
CHANGED = "#c2410c"  # the mark of what changed since the last frame

OPERATIONS = {
    "none": "#6a717a",
    "skip_connect": "#24292f",
    "identity": "#24292f",
    "sep_conv_3x3": "#0b4a94",
    "sep_conv_5x5": "#4a93d9",
    "sep_conv_7x7": "#12758c",
    "dil_conv_3x3": "#8c2f00",
    "dil_conv_5x5": "#dd7127",
    "max_pool_3x3": "#0b5740",
    "avg_pool_3x3": "#22a07c",
    "conv_7x1_1x7": "#6b5b00",
    "nor_conv_1x1": "#cc72a8",
    "nor_conv_3x3": "#6a2472",
    "noise": "#80604f",
    "tanh": "#0b4a94",
    "relu": "#dd7127",
    "sigmoid": "#22a07c",
}
ADDED = "#5a43ad"  # operations of other packages
PARTS = {"train": "#0b66b2", "valid": "#b84a00", "test": "#007a5c", "discrete": "#8e4a80", "true": "#5c6570"}  # of a run
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c6bb1")  # runs or methods, in order


def operation(name: str) -> str:
    """The colour of an operation."""
    return OPERATIONS.get(name, ADDED)


def on(colour: str) -> str:
    """The colour of text on this one: ink or paper, whichever has more contrast."""
    return max(INK, PAPER, key=lambda text: contrast(text, colour))


def at_night(colour: str) -> str:
    """The colour made light enough for lines and text on a dark page."""
    parts = _parts(colour)
    lighter = (_hex([part + (255 - part) * step / 20 for part in parts]) for step in range(21))
    return next(colour for colour in lighter if contrast(colour, NIGHT) >= 4.6)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21, as WCAG 2.2 defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in _parts(colour)]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _hex(parts: list[float]) -> str:
    return "#" + "".join(f"{round(part):02x}" for part in parts)
