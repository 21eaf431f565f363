"""A scene as SVG: every group has its kind as class and its name as id, so that a page can move it."""

from html import escape

from darts_cli.pictures.cells.shapes import (
    LOWERED,
    SUBSCRIPT,
    Group,
    Line,
    Rectangle,
    Scene,
    Shape,
    curves,
    head,
    shortened,
    typeset,
)
from darts_cli.pictures.colours import PAPER

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def svg(scene: Scene, prefix: str = "", paper: str | None = PAPER, attributes: str = "") -> str:
    """The picture as an SVG element. The prefix begins all ids; without paper it is transparent."""
    size = f'width="{scene.width:.0f}" height="{scene.height - scene.top:.0f}"'
    view = f'viewBox="0 {scene.top:g} {scene.width:.1f} {scene.height - scene.top:.1f}"'
    label = f'role="img" aria-label="{escape(scene.description)}"'
    back = f'<rect y="{scene.top:g}" width="100%" height="100%" fill="{paper}"/>' if paper else ""
    inner = "\n".join(_group(group, prefix) for group in scene.groups)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {label} font-family="{FONT}"{attributes}>\n'
        f"<title>{escape(scene.description)}</title>\n{back}\n{inner}\n</svg>\n"
    )


def file(scene: Scene) -> bytes:
    """The content of an SVG file."""
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + svg(scene)).encode()


def _group(group: Group, prefix: str) -> str:
    hidden = ' style="opacity:0"' if group.hidden else ""
    shapes = "".join(map(_shape, group.shapes))
    return f'<g id="{escape(prefix + group.name)}" class="{group.kind}"{hidden}>{shapes}</g>'


def _shape(shape: Shape) -> str:
    if isinstance(shape, Line):
        return _line(shape)
    if isinstance(shape, Rectangle):
        box, dashes = shape.box, ' stroke-dasharray="5 3"' if shape.dashed else ""
        stroke = f' stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dashes}' if shape.stroke else ""
        kind = ' class="changed"' if shape.fill is None else ""
        return (
            f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
            f'rx="{shape.radius:g}" fill="{shape.fill or "none"}"{stroke}{kind}/>'
        )
    base, sub = map(escape, typeset(shape.text))
    lowered = f'<tspan dy="{LOWERED * shape.size:.1f}" font-size="{SUBSCRIPT * shape.size:.1f}">{sub}</tspan>' if sub else ""
    base = f'<tspan font-style="italic">{base}</tspan>' if sub else base
    place = f'x="{shape.x:.1f}" y="{shape.y + 0.35 * shape.size:.1f}" text-anchor="middle"'
    return f'<text {place} font-size="{shape.size:g}" fill="{shape.colour}">{base}{lowered}</text>'


def _line(line: Line) -> str:
    parts = curves(shortened(line.wire) if line.arrow else line.wire)
    path = "M{:.1f} {:.1f}".format(*parts[0][0])
    for start, *bends, end in parts:
        flat = start[1] == end[1]
        path += f"H{end[0]:.1f}" if flat else "C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in (*bends, end))
    dots = ' stroke-dasharray="2 4"' if line.dotted else ""
    drawn = f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width:.2f}"{dots}/>'
    if not line.arrow:
        return drawn
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in head(line.wire, line.width))
    return f'{drawn}<polygon points="{points}" fill="{line.colour}"/>'
