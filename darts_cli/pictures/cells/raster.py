"""A scene as pixels, by Pillow: PNG files and the frames of animations."""

import io

from PIL import Image, ImageDraw, ImageFont

from darts_cli.pictures.cells.layout import Box
from darts_cli.pictures.cells.shapes import (
    LOWERED,
    MINUS,
    SUBSCRIPT,
    Line,
    Rectangle,
    Scene,
    Words,
    curves,
    head,
    shortened,
    typeset,
)
from darts_cli.pictures.colours import PAPER

SMOOTH = 3  # drawn so many times larger, then reduced
STEPS = 24  # of a curve


def image(scene: Scene, scale: float = 1.0) -> Image.Image:
    """The picture, scale pixels to a unit of its layout."""
    factor = scale * SMOOTH
    size = round(scene.width * scale), round((scene.height - scene.top) * scale)
    canvas = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), PAPER)
    pen = _Pen(ImageDraw.Draw(canvas), factor, scene.top)
    for group in scene.groups:
        for shape in () if group.hidden else group.shapes:
            pen.draw(shape)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def png(scene: Scene) -> bytes:
    """The content of a PNG file, at twice the size of the layout."""
    buffer = io.BytesIO()
    image(scene, 2.0).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Pen:
    """Draws shapes at a scale."""

    def __init__(self, canvas: ImageDraw.ImageDraw, factor: float, top: float):
        self.canvas, self.factor, self.top = canvas, factor, top

    def at(self, x: float, y: float) -> tuple[float, float]:
        return x * self.factor, (y - self.top) * self.factor

    def draw(self, shape) -> None:
        if isinstance(shape, Line):
            self.line(shape)
        elif isinstance(shape, Rectangle):
            self.rectangle(shape)
        else:
            self.words(shape)

    def line(self, line: Line) -> None:
        points = []
        for curve in curves(shortened(line.wire) if line.arrow else line.wire):
            points += [self.at(*_on(curve, step / STEPS)) for step in range(STEPS + 1)]
        stroke = max(1, round(line.width * self.factor))
        pieces = [points[i : i + 4] for i in range(0, len(points), 7)] if line.dotted else [points]
        for piece in pieces:
            self.canvas.line(piece, line.colour, stroke, joint="curve")
        if line.arrow:
            self.canvas.polygon([self.at(*point) for point in head(line.wire, line.width)], line.colour)

    def rectangle(self, shape: Rectangle) -> None:
        box: Box = shape.box
        corners = [self.at(box.left, box.top), self.at(box.right, box.bottom)]
        stroke = round(shape.width * self.factor) if shape.stroke else 0
        self.canvas.rounded_rectangle(corners, shape.radius * self.factor, shape.fill, shape.stroke, stroke)
        if shape.dashed:  # gaps in the frame
            step = 10 * self.factor
            (left, top), (right, bottom) = corners
            for k in range(1, int((right - left) / step)):
                x = left + k * step
                for y in (top, bottom):
                    gap = [(x - step / 4, y - stroke), (x + step / 4, y + stroke)]
                    self.canvas.rectangle(gap, shape.fill)

    def words(self, words: Words) -> None:
        base, sub = typeset(words.text)
        sub = sub.replace(MINUS, "-")  # Pillow's own typeface has no minus sign
        large, small = (ImageFont.load_default(words.size * size * self.factor) for size in (1.0, SUBSCRIPT))
        x, y = self.at(words.x, words.y + 0.35 * words.size)
        x -= (large.getlength(base) + small.getlength(sub)) / 2
        self.canvas.text((x, y), base, words.colour, large, anchor="ls")
        self.canvas.text(
            (x + large.getlength(base), y + LOWERED * words.size * self.factor), sub, words.colour, small, anchor="ls"
        )


def _on(curve, t: float) -> tuple[float, float]:
    """The point of a Bezier curve at t."""
    shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    x, y = (sum(share * point[k] for share, point in zip(shares, curve, strict=True)) for k in (0, 1))
    return x, y
