"""The geometry of cells: nothing overlaps, nothing is crossed, everything is inside; and the contrast of every colour."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_cli.genotype import load, names, random_genotype
from darts_cli.pictures import colours
from darts_cli.pictures.cells.figure import Film, scene
from darts_cli.pictures.cells.pdf import pdf
from darts_cli.pictures.cells.raster import image
from darts_cli.pictures.cells.shapes import Line, Rectangle, Words, curves, width
from darts_cli.pictures.colours import contrast
from darts_cli.spaces import space as spaces

SPACES = ["darts", "darts-rnn", "nas-bench-201", "s1"]


def points(wire):
    """The points of a wire, densely."""
    for a, b, c, d in curves(wire):
        for t in (step / 30 for step in range(31)):
            shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            yield tuple(sum(s * p[k] for s, p in zip(shares, (a, b, c, d), strict=True)) for k in (0, 1))


def check(drawn):
    """Boxes are apart by the space that a mark needs, no wire is in a box, and all of it is in the picture."""
    boxes = [(g.name, s.box) for g in drawn.groups for s in g.shapes if isinstance(s, Rectangle) and s.fill]
    for i, (name, a) in enumerate(boxes):
        assert a.left > 0, name
        assert a.right < drawn.width, name
        assert drawn.top < a.top, name
        assert a.bottom < drawn.height, name
        for other, b in boxes[:i]:
            apart = a.right + 5 < b.left or b.right + 5 < a.left or a.bottom + 5 < b.top or b.bottom + 5 < a.top
            assert apart, (name, other)
    for group in drawn.groups:
        for line in (shape for shape in group.shapes if isinstance(shape, Line)):
            for x, y in points(line.wire):
                assert 0 < x < drawn.width
                assert 0 < y < drawn.height
                for name, box in boxes:
                    assert not (box.left + 0.1 < x < box.right - 0.1 and box.top - 2 < y < box.bottom + 2), (group.name, name)
    for group in drawn.groups:
        for shape, words in zip(group.shapes, group.shapes[1:], strict=False):
            if isinstance(shape, Rectangle) and isinstance(words, Words):
                assert width(words.text, words.size) * 1.2 < shape.box.width


@pytest.mark.parametrize("name", names())
def test_published_cells(name):
    genotype = load(name)
    for cell in genotype.cells.values():
        check(scene(cell, genotype.macro))


@pytest.mark.parametrize("space", SPACES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_random_cells_and_films(space, seed):
    rng = random.Random(seed)
    genotypes = [random_genotype(spaces.load(space), rng) for _ in range(3)]
    for kind in genotypes[0].cells:
        cells = [genotype.cells[kind] for genotype in genotypes]
        check(scene(cells[0], genotypes[0].macro))
        check(Film(cells, genotypes[0].macro).frame(cells[1], cells[0]))


@pytest.mark.parametrize("colour", [*colours.OPERATIONS.values(), colours.ADDED])
def test_operations_can_be_read(colour):
    assert contrast(colours.on(colour), colour) >= 4.5
    assert contrast(colour, colours.PAPER) >= 3
    assert contrast(colours.at_night(colour), colours.NIGHT) >= 4.5


def test_other_text_can_be_read():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for colour in (*colours.PARTS.values(), colours.INK, colours.FAINT, colours.CHANGED):
        assert contrast(colour, colours.PAPER) >= 4.5
        assert contrast(colours.at_night(colour), colours.NIGHT) >= 4.5


def test_an_operation_has_its_colour_in_pixels():
    cell = load("rnn/enas").cells["recurrent"]
    drawn = scene(cell, "darts-rnn")
    label = next(s.box for g in drawn.groups if g.kind == "edge" for s in g.shapes if isinstance(s, Rectangle))
    pixel = image(drawn).getpixel((round(label.left + 6), round(label.y)))
    assert "#{:02x}{:02x}{:02x}".format(*pixel) == colours.operation("tanh")


def test_the_table_of_a_pdf_tells_where_its_objects_begin():
    content = pdf(scene(load("cnn/darts_v2").cells["normal"], "darts"))
    start = int(content.split(b"startxref\n")[1].split()[0])
    entries = content[start:].split(b"\n")[3:7]
    for number, entry in enumerate(entries, 1):
        assert content[int(entry[:10]) :].startswith(b"%d 0 obj" % number)


# what red-blind and green-blind people see of linear red, green and blue (Machado et al., 2009, severity 1)
BLIND = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def lab(colour, matrix):
    """A colour in CIE Lab, as someone sees it."""
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    r, g, b = (min(1, max(0, sum(m * part for m, part in zip(row, linear, strict=True)))) for row in matrix)
    xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b
    x, y, z = (
        v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (*xyz, (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("shown", [str, colours.at_night], ids=["day", "night"])
@pytest.mark.parametrize("matrix", BLIND.values(), ids=BLIND)
@pytest.mark.parametrize("space", ["darts", "darts-rnn", "nas-bench-201"])
def test_the_colour_blind_can_tell_the_operations_of_a_space_apart(space, matrix, shown):
    """A difference of 2.3 in CIE Lab is just noticeable."""
    seen = {op: lab(shown(colours.operation(op)), matrix) for op in spaces.load(space).operations}
    for (one, a), (other, b) in itertools.combinations(seen.items(), 2):
        assert math.dist(a, b) > 10, (one, other, math.dist(a, b))
