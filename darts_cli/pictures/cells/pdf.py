"""A scene as a PDF of one page, in vectors and in Helvetica, which every viewer has."""

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
    width,
)

ROUND = 0.5523  # where a Bezier curve that draws a quarter of a circle bends, as a share of its radius
EN_DASH = "\N{EN DASH}"  # Helvetica's encoding has no minus sign


def pdf(scene: Scene) -> bytes:
    """The content of a PDF file. Equal scenes give equal files."""
    shapes = [shape for group in scene.groups if not group.hidden for shape in group.shapes]
    height = scene.height - scene.top
    content = f"1 0 0 -1 0 {scene.height:.2f} cm\n" + "".join(map(_shape, shapes))
    fonts = "".join(
        f"/{key} << /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >> " for key, name in FONTS
    )
    data = content.encode("cp1252", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {scene.width:.2f} {height:.2f}] /Contents 4 0 R "
        f"/Resources << /Font << {fonts}>> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(data), data),
    ]
    return _file(objects)


FONTS = (("R", "Helvetica"), ("I", "Helvetica-Oblique"))


def _file(objects: list[bytes]) -> bytes:
    """The objects with the table of where they begin."""
    text, starts = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(text))
        text += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    size = len(objects) + 1
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(text))
    return text + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + end


def _shape(shape) -> str:
    if isinstance(shape, Line):
        return _line(shape)
    return _rectangle(shape) if isinstance(shape, Rectangle) else _words(shape)


def _line(line: Line) -> str:
    text = f"{_rgb(line.colour)} RG {line.width:.2f} w {'[2 4]' if line.dotted else '[]'} 0 d\n"
    parts = curves(shortened(line.wire) if line.arrow else line.wire)
    text += _points(parts[0][:1]) + "m\n" + "".join(_points(part[1:]) + "c\n" for part in parts) + "S\n"
    if line.arrow:
        tip, *others = head(line.wire, line.width)
        text += f"{_rgb(line.colour)} rg {_points([tip])}m " + "".join(_points([point]) + "l " for point in others) + "f\n"
    return text


def _rectangle(shape: Rectangle) -> str:
    box, r = shape.box, min(shape.radius, shape.box.height / 2)
    bend = r * (1 - ROUND)
    left, right, top, bottom = box.left, box.right, box.top, box.bottom
    path = f"{_points([(left + r, top)])}m {_points([(right - r, top)])}l "
    path += _points([(right - bend, top), (right, top + bend), (right, top + r)]) + "c "
    path += f"{_points([(right, bottom - r)])}l "
    path += _points([(right, bottom - bend), (right - bend, bottom), (right - r, bottom)]) + "c "
    path += f"{_points([(left + r, bottom)])}l "
    path += _points([(left + bend, bottom), (left, bottom - bend), (left, bottom - r)]) + "c "
    path += f"{_points([(left, top + r)])}l "
    path += _points([(left, top + bend), (left + bend, top), (left + r, top)]) + "c h "
    fill = f"{_rgb(shape.fill)} rg " if shape.fill else ""
    dash = "[5 3]" if shape.dashed else "[]"
    stroke = f"{_rgb(shape.stroke)} RG {shape.width:.2f} w {dash} 0 d " if shape.stroke else ""
    return f"{fill}{stroke}{path}{'B' if fill and stroke else 'f' if fill else 'S'}\n"


def _words(words: Words) -> str:
    base, sub = typeset(words.text)
    x, y = words.x - width(words.text, words.size) / 2, words.y + 0.35 * words.size
    text = f"{_rgb(words.colour)} rg " + _text("I" if sub else "R", words.size, x, y, base)
    if sub:
        x += width(base, words.size)
        text += _text("R", words.size * SUBSCRIPT, x, y + LOWERED * words.size, sub.replace(MINUS, EN_DASH))
    return text


def _text(font: str, size: float, x: float, y: float, text: str) -> str:
    quoted = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size:.2f} Tf 1 0 0 -1 {x:.2f} {y:.2f} Tm ({quoted}) Tj ET\n"


def _points(points) -> str:
    return "".join(f"{x:.2f} {y:.2f} " for x, y in points)


def _rgb(colour: str) -> str:
    return " ".join(f"{int(colour[i : i + 2], 16) / 255:.3f}" for i in (1, 3, 5))
