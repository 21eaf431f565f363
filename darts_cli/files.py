"""Reading and writing of small files: checked YAML, and writes that either complete or change nothing."""

import contextlib
import math
import os
from collections.abc import Hashable
from pathlib import Path
from typing import BinaryIO

import yaml

from darts_cli import DartsError

MAX_BYTES = 1 << 20  # no genotype or configuration comes near it
SAFE_CHARS = 2000  # a shorter text cannot nest deeply enough to overflow a stack
MAX_DEPTH = 20  # levels of nesting; a genotype has five
MAX_INT_BITS = 4096  # Python does not even print much longer integers


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Plain YAML in which a duplicate key is an error instead of a silent override."""

    def construct_mapping(self, node, deep=False):
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, f"expected a mapping, but found a {node.id}", node.start_mark)
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _bounded_int(loader: _Loader, node: yaml.Node) -> int:
    number = loader.construct_yaml_int(node)
    if number.bit_length() > MAX_INT_BITS:
        raise yaml.constructor.ConstructorError(None, None, f"a number of more than {MAX_INT_BITS:,} bits", node.start_mark)
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_int)


def data_folder(name: str) -> Path:
    """A folder of shipped files: inside the package if it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name


def is_file(path: str | Path) -> bool:
    """Whether the path is a file; False also for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_text(path: str | Path, max_bytes: float = MAX_BYTES) -> str:
    """The text of a UTF-8 file. Raises DartsError, naming the file, when it cannot be read or is larger."""
    path = Path(path)
    try:
        if not path.exists():
            raise DartsError(f"{path}: no such file")
        if not path.is_file():
            raise DartsError(f"{path}: not a regular file")
        if path.stat().st_size > max_bytes:
            raise DartsError(f"{path}: {path.stat().st_size:,} bytes, but at most {max_bytes:,} are read")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DartsError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise DartsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file of any size. Raises DartsError, naming the file, when it cannot be read."""
    return read_text(path, max_bytes=math.inf).splitlines()


def read_stream(stream: BinaryIO, name: str) -> str:
    """The UTF-8 text of a stream, for example stdin, of at most 1 MiB. Raises DartsError, naming it, when it is not."""
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DartsError(f"{name}: more than {MAX_BYTES:,} bytes; no more are read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DartsError(f"{name}: not UTF-8 text (byte {error.start})") from None


def read_yaml(path: str | Path) -> object:
    """The plain data of a YAML file. Raises DartsError with file, line and column when it is not valid."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, source: str | Path) -> object:
    """The plain data of a YAML text. Raises DartsError with source, line and column when it is not valid."""
    try:
        if len(text) > SAFE_CHARS:
            _check_depth(text)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        position = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise DartsError(f"{source}:{position} not valid YAML: {error.problem}") from None
    except Exception as error:  # a tag whose value does not fit it, such as `!!int ""`, can raise any exception
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DartsError(f"{source}: not valid YAML: {reason}") from None


def _check_depth(text: str) -> None:
    """Refuse deep nesting: libyaml composes nested nodes by recursion and would overflow its stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)


def write(path: str | Path, content: str | bytes | memoryview, keep: Path | None = None) -> None:
    """Write a file completely or not at all: to a temporary name beside it, flushed to the disk, then renamed over it.

    A process killed at any moment leaves either the old or the new content. With `keep` the old file is renamed to that name
    first; a kill between the two renamings leaves it under that name only. Raises DartsError when the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # "x": never through a link that somebody has put there
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DartsError(f"{path}: cannot be written ({error.strerror}); what was there before is untouched") from None


def _flush_folder(folder: Path) -> None:
    """Flush the renaming to the disk too, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append(path: str | Path, line: str) -> None:
    """Append a line to a file; a last line that was cut short is ended first. Raises DartsError when it cannot be written."""
    try:
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise DartsError(f"{path}: cannot be written ({error.strerror})") from None
