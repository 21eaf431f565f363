"""What TensorBoard shows of a run, as an event file that follows from its records.

After every epoch: scalars; of a search also the operation weights as heat maps, and the cells; of a training its cells, once.
The file has every epoch of the records once and in order, also when a run was killed, resumed, or went back: when a run
starts, and whenever records change that are written already, it is brought to what the records say.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from darts_cli import DartsError, files
from darts_cli.describe import FIGURES
from darts_cli.genotype import Genotype
from darts_cli.pictures.cells.figure import scene, taken
from darts_cli.pictures.cells.shapes import Scene
from darts_cli.pictures.charts.heat import heat_map
from darts_cli.runs.history import timings
from darts_cli.runs.task import Task
from darts_cli.schema import Config

FOLDER, FILE = "tensorboard", "events.out.tfevents.0.darts"
HEAD_BYTES, TAIL_BYTES = 12, 4  # of a record: the length with its checksum, and the checksum of the content
SCALE, PALETTE = 0.8, 128  # of images: pixels to a unit of their layout, and colours
PARTS = ("best_test", "train", "valid", "test", "discrete")
SKIPPED = ("epoch", "skip_connections")  # what is no number, or is shown in another form


def check() -> None:
    """Raises DartsError when TensorBoard is missing."""
    try:
        import tensorboard.compat.proto.event_pb2  # noqa: F401
    except ImportError:
        raise DartsError("--tensorboard: needs TensorBoard; install it with pip install tensorboard") from None


class Events:
    """The event file in the folder of a run. Raises DartsError when TensorBoard is missing."""

    def __init__(self, folder: Path, task: Task, config: Config, genotype: Genotype | None):
        check()
        self.run, self.task, self.config, self.genotype = folder, task, config, genotype
        self.path = folder / FOLDER / FILE
        self.written: list[dict] | None = None  # the records that are in the file; None before it was compared with them

    def follow(self, records: Sequence[dict]) -> None:
        """Bring the file up to these records: append what is new, or write again where earlier ones have changed."""
        times = timings(self.run)
        if self.written is not None and list(records[: len(self.written)]) == self.written:
            new = b"".join(self._epoch(record, times) for record in records[len(self.written) :])
            if new:
                append(self.path, new)
        else:
            known = _by_step(self.path)
            bring(self.path, first() + b"".join(self._epoch(record, times, known.get(record["epoch"])) for record in records))
        self.written = list(records)

    def _epoch(self, record: dict, times: Mapping[int, Mapping], known: bytes | None = None) -> bytes:
        """The event of an epoch; its time is that of the log. One that is known with the same scalars is not drawn again."""
        at = times.get(record["epoch"], {})
        values = [scalar(tag, value) for tag, value in self._scalars(record, at)]
        if known is not None and _scalars_of(known) == _scalars_of(event(values, record["epoch"], at.get("time", 0.0))):
            return known
        values += [_image(tag, drawn) for tag, drawn in self._pictures(record)]
        return event(values, record["epoch"], at.get("time", 0.0))

    def _scalars(self, record: Mapping, at: Mapping) -> Iterator[tuple[str, float]]:
        for name, value in record.items():
            if isinstance(value, int | float) and name not in SKIPPED:
                part = next((part for part in PARTS if name.startswith(f"{part}_")), None)
                yield (f"{name.removeprefix(f'{part}_')}/{part}" if part else name), value
        if "lr" not in record and "narrow" not in getattr(self.config, "method", ""):
            yield "lr", self.config.lr  # that of a text's search or training does not change
        if "seconds_per_step" in at:
            yield "seconds_per_step", at["seconds_per_step"]
        if "genotype" in record:
            cells = Genotype.from_dict(record["genotype"])
            figure = FIGURES[cells.macro]
            for kind, cell in cells.cells.items():
                yield f"{figure.identities.replace(' ', '_')}/{kind}", cell.count(figure.identity)

    def _pictures(self, record: Mapping) -> Iterator[tuple[str, Scene]]:
        if self.task.stage != "search":
            for kind, cell in self.genotype.cells.items() if record["epoch"] == 1 else ():
                yield f"cell/{kind}", scene(cell, self.genotype.macro)
            return
        space, cells = self.config.searched, Genotype.from_dict(record["genotype"])
        for kind, cell in cells.cells.items():
            edges = {(state, node, op) for (state, node, _), op in taken(cell, cells.macro).items()}
            yield f"alpha/{kind}", heat_map(space, kind, record["operation_weights"][kind], edges)
            yield f"cell/{kind}", scene(cell, cells.macro)


# ---- the format: records of events, each with its length and checksums


def first() -> bytes:
    """The beginning of every event file."""
    from tensorboard.compat.proto.event_pb2 import Event

    return _record(Event(file_version="brain.Event:2"))


def event(values: Sequence, step: int, time: float) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return _record(Event(wall_time=time, step=step, summary=Summary(value=values)))


def scalar(tag: str, value: float):
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary.Value(tag=tag, simple_value=value)


def _image(tag: str, drawn: Scene):
    from tensorboard.compat.proto.summary_pb2 import Summary

    from darts_cli.pictures.cells.raster import image

    pixels, buffer = image(drawn, SCALE).quantize(PALETTE), io.BytesIO()
    pixels.save(buffer, "PNG")
    width, height = pixels.size
    return Summary.Value(
        tag=tag, image=Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=buffer.getvalue())
    )


def _record(content) -> bytes:
    """An event as it stands in a file: its length, its bytes, and checksums of both."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(content.SerializeToString(deterministic=True))
    return buffer.getvalue()


def read(path: Path) -> list:
    """The undamaged events at the beginning of a file; a kill may have cut the last one."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    content, found, start = path.read_bytes() if files.is_file(path) else b"", [], 0
    while start + HEAD_BYTES <= len(content):
        end = start + HEAD_BYTES + int.from_bytes(content[start : start + 8], "little") + TAIL_BYTES
        try:
            decoded = Event.FromString(content[start + HEAD_BYTES : end - TAIL_BYTES])
        except DecodeError:
            break
        if _record(decoded) != content[start:end]:
            break
        found.append(decoded)
        start = end
    return found


def _by_step(path: Path) -> dict[int, bytes]:
    return {each.step: _record(each) for each in read(path) if each.step}


def _scalars_of(record: bytes) -> tuple:
    """Step, time and scalars of a record."""
    from tensorboard.compat.proto.event_pb2 import Event

    decoded = Event.FromString(record[HEAD_BYTES:-TAIL_BYTES])
    scalars = [(value.tag, value.simple_value) for value in decoded.summary.value if value.HasField("simple_value")]
    return decoded.step, decoded.wall_time, scalars


def append(path: Path, content: bytes) -> None:
    """Append to a file that a viewer may be reading. Raises DartsError when it cannot be written."""
    try:
        with open(path, "ab") as file:
            file.write(content)
    except OSError as error:
        raise DartsError(f"{path}: cannot be written ({error.strerror})") from None


def bring(path: Path, content: bytes) -> None:
    """Give a file this content.

    Where it holds a part of it, or more, it is only extended or cut, so that a viewer that has read so far can go on.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else None
        if old is not None and old.startswith(content):
            with open(path, "r+b") as file:
                file.truncate(len(content))
            return
    except OSError as error:
        raise DartsError(f"{path}: cannot be written ({error.strerror})") from None
    if old is not None and content.startswith(old):
        append(path, content[len(old) :])
    else:
        files.write(path, content)
