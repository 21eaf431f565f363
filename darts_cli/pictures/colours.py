"""The colours of all pictures: one per operation and one per curve, the same everywhere, and legible to the colour-blind.

Operations of one family share a hue and differ in lightness. Every colour has a contrast of at least 3:1 to white paper, and
the text on it one of at least 4.5:1 (WCAG 2.2).
"""

import colorsys

INK, FAINT, LINE, PAPER = "#1b1f24", "#5c6570", "#98a1ab", "#ffffff"  # text; quiet text; output edges; what they stand on
INPUT = "#e9edf1"  # the fill of nodes that are inputs or outputs
NIGHT = "#14171c"  # the paper of a dark page
CHANGED = "#c2410c"  # the mark of what changed since the last frame
GREY = "#6a717a"  # what is there for comparison, such as random cells

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
DASHES = {"train": "2 3", "valid": "", "test": "7 3", "discrete": "1 4", "true": "8 3 2 3"}  # of their lines
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c6bb1")  # runs or methods, in order
_NIGHTLY = {
    INK: "#e8ebef",
    FAINT: "#a2abb5",
    GREY: "#aeb5be",
    LINE: "#6d7783",
    PAPER: NIGHT,
    INPUT: "#2a313a",
    CHANGED: "#fb923c",
}


def operation(name: str) -> str:
    """The colour of an operation."""
    return OPERATIONS.get(name, ADDED)


def on(colour: str) -> str:
    """The colour of text on this one: ink or paper, whichever has more contrast."""
    return max(INK, PAPER, key=lambda text: contrast(text, colour))


def at_night(colour: str) -> str:
    """The colour on a dark page: lightened until its contrast to the dark is what it had to white, and at least 4.6:1.

    So two colours of one hue stay as far apart as they are by day.
    """
    if colour in _NIGHTLY:
        return _NIGHTLY[colour]
    wanted = max(4.6, contrast(colour, PAPER))
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in _parts(colour)))
    steps = (lightness + (1 - lightness) * step / 40 for step in range(41))
    lighter = (_hex([255 * part for part in colorsys.hls_to_rgb(hue, step, saturation)]) for step in steps)
    return next((light for light in lighter if contrast(light, NIGHT) >= wanted), PAPER)


def night_css() -> str:
    """The CSS rules that give the shapes of inline SVG pictures their colours on a dark page."""
    operations = {*OPERATIONS.values(), ADDED, GREY}
    rules = []
    for colour in dict.fromkeys([*_NIGHTLY, *sorted(operations), *PARTS.values(), *RUNS]):
        night, shapes = at_night(colour), ":is(rect, polygon, circle)" if colour == PAPER else ""
        rules.append(f'svg {shapes}[fill="{colour}"] {{ fill: {night} }} svg [stroke="{colour}"] {{ stroke: {night} }}')
    rules += [f'.edge rect[fill="{colour}"] + text {{ fill: {on(at_night(colour))} }}' for colour in sorted(operations)]
    return "\n".join(rules)


def mixed(one: str, other: str, share: float) -> str:
    """A colour between two: the first at 0, the other at 1."""
    return _hex([a + (b - a) * share for a, b in zip(_parts(one), _parts(other), strict=True)])


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
