"""Several pictures on one sheet, each with its heading; those that are there for comparison in grey."""

from collections.abc import Sequence

from darts_cli.pictures.cells.layout import Run
from darts_cli.pictures.cells.shapes import Group, Line, Rectangle, Scene, Shape, Words, width
from darts_cli.pictures.colours import GREY, INK, on

HEADING_SIZE, HEADING_HEIGHT = 16.0, 34.0
GAP = 24.0  # between pictures


def sheet(pictures: Sequence[tuple[str, Scene]], columns: int) -> Scene:
    """The pictures row by row, with their headings above them."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    room = max(max(drawn.width, width(heading, HEADING_SIZE) * 1.25 + 2 * GAP) for heading, drawn in pictures)
    groups, y = [], 0.0
    for i, row in enumerate(rows):
        for k, (heading, drawn) in enumerate(row):
            x = k * (room + GAP) + (room - drawn.width) / 2
            words = Words(k * (room + GAP) + room / 2, y + HEADING_HEIGHT / 2 + 4, heading, HEADING_SIZE, INK)
            groups.append(Group("title", f"title-{i}-{k}", (words,)))
            groups += [
                group._replace(
                    name=f"{i}-{k}-{group.name}",
                    shapes=tuple(_moved(shape, x, y + HEADING_HEIGHT - drawn.top) for shape in group.shapes),
                )
                for group in drawn.groups
            ]
        y += HEADING_HEIGHT + max(drawn.height - drawn.top for _, drawn in row)
    across = min(columns, len(pictures))
    words = ". ".join(f"{heading}: {drawn.description}" for heading, drawn in pictures)
    return Scene(across * room + (across - 1) * GAP, y, groups, words)


def greyed(scene: Scene) -> Scene:
    """The picture with all its operations in grey."""
    return scene._replace(groups=[_grey(group) if group.kind == "edge" else group for group in scene.groups])


def _grey(group: Group) -> Group:
    return group._replace(shapes=tuple(map(_grey_shape, group.shapes)))


def _grey_shape(shape: Shape) -> Shape:
    if isinstance(shape, Rectangle):
        return shape._replace(fill=shape.fill and GREY)
    return shape._replace(colour=GREY if isinstance(shape, Line) else on(GREY))


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Line):
        return shape._replace(wire=tuple(Run(run.start + x, run.end + x, run.y + y) for run in shape.wire))
    if isinstance(shape, Rectangle):
        return shape._replace(box=shape.box._replace(x=shape.box.x + x, y=shape.box.y + y))
    return shape._replace(x=shape.x + x, y=shape.y + y)
