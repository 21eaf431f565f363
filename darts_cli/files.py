"""Reading and writing of small files: YAML that is checked, and writes that are whole or not at all."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import BinaryIO

import yaml

from darts_cli import DartsError

LARGEST = 1 << 20  # bytes; no genotype or configuration comes near it
HARMLESS = 2000  # characters; a shorter text cannot nest deeply enough to overflow a stack
DEEPEST = 20  # levels of nesting; a genotype has five


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Plain YAML in which a key given twice is an error instead of a silent override."""

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
    if number.bit_length() > 4096:  # Python does not even print much longer ones
        raise yaml.constructor.ConstructorError(None, None, "a number of more than 4,096 bits", node.start_mark)
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_int)


def is_file(path: str | Path) -> bool:
    """Whether a file is there; also of a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file of at most 1 MiB. Raises DartsError, naming the file, when there is none."""
    path = Path(path)
    try:
        if not path.exists():
            raise DartsError(f"{path}: no such file")
        if not path.is_file():
            raise DartsError(f"{path}: not a regular file")
        if path.stat().st_size > LARGEST:
            raise DartsError(f"{path}: {path.stat().st_size:,} bytes, but at most {LARGEST:,} are read")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DartsError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise DartsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file of any size. Raises DartsError, naming the file, when it cannot be read."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise DartsError(f"{path}: not a regular file")
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DartsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None


def read_stream(stream: BinaryIO, name: str) -> str:
    """The text of a stream, such as stdin, under the same rules as that of a file."""
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DartsError(f"{name}: more than {LARGEST:,} bytes, which is all that is read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DartsError(f"{name}: not UTF-8 text (byte {error.start})") from None


def read_yaml(path: str | Path) -> object:
    """The plain data of a YAML file. Raises DartsError with file, line and column when it is not YAML."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: str | Path) -> object:
    """The plain data of a YAML text that comes from there. Raises DartsError with place, line and column when it is none."""
    try:
        if len(text) > HARMLESS:
            _check_depth(text)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise DartsError(f"{path}:{place} not valid YAML: {error.problem}") from None
    except Exception as error:  # a tag with a value that it does not fit, such as `!!int ""`, ends in any exception
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DartsError(f"{path}: not valid YAML: {reason}") from None


def _check_depth(text: str) -> None:
    """Refuse what would overflow the stack of libyaml, which composes nested nodes by recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=event.start_mark)


def write(path: str | Path, content: str | bytes | memoryview, keep: Path | None = None) -> None:
    """Write a whole file: to a temporary name beside it, flushed to the disk, then renamed over it.

    A process killed at any moment leaves either the old or the new content. With `keep` the old content is found under that
    name afterwards; killed between the two renamings, there only. Raises DartsError when it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # never through a link that somebody has put there
            content = content.encode(errors="backslashreplace") if isinstance(content, str) else content
            middle = len(content) // 2
            file.write(content[:middle])
            _crash(file, path, "half")
            file.write(content[middle:])
            file.flush()
            os.fsync(file.fileno())
        _crash(file, path, "written")
        if keep is not None and path.exists():
            os.replace(path, keep)
            _crash(file, path, "kept")
        os.replace(temporary, path)
        _crash(file, path, "renamed")
        _flush_names(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DartsError(f"{path}: cannot be written ({error.strerror}); what was there before is untouched") from None


def _flush_names(folder: Path) -> None:
    """Flush the folder itself to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append(path: str | Path, line: str) -> None:
    """Add a line to a file, after ending one that was cut short. Raises DartsError when it cannot be written."""
    try:
        with open(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            content = line.encode()
            file.write(content[: len(content) // 2])
            _crash(file, Path(path), "half")
            file.write(content[len(content) // 2 :])
    except OSError as error:
        raise DartsError(f"{path}: cannot be written ({error.strerror})") from None


def _crash(file: BinaryIO, path: Path, point: str) -> None:
    """Die as by SIGKILL where a test wants it: DARTS_TEST_CRASH="checkpoint.pt half 3" is in the third writing of that file."""
    wanted = os.environ.get("DARTS_TEST_CRASH")
    if wanted is None:
        return
    _passed[path.name, point] += 1
    if wanted == f"{path.name} {point} {_passed[path.name, point]}":
        if not file.closed:
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


_passed: Counter[tuple[str, str]] = Counter()
