"""Checkpoint files: each with a checksum, the one before kept, and nothing in them ever executed.

    checkpoint.pt           the newest state of a run
    previous.pt             the one before
    checkpoint.pt.sha256    the checksums of both, as `sha256sum` writes them; likewise best.pt.sha256

A file on its own, copied elsewhere or written by another program, is read without a checksum.
"""

import codecs
import contextlib
import hashlib
import io
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from darts_cli import DartsError, files
from darts_cli.formats import unpickle

NEWEST, PREVIOUS, BEST = "checkpoint.pt", "previous.pt", "best.pt"
# What makes the numbers of NumPy that training scripts save beside the weights, where NumPy 1 and 2 have it, and their types.
_NUMBERS = [(np.float64().__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
_NUMBERS += [np.dtype, codecs.encode, *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd")]


def write(path: Path, state: dict) -> None:
    """Write a state: first its checksum, then the file. The checkpoint.pt before is kept as previous.pt.

    A kill may come between the two, so the list also has the checksums of the files that the write replaces, as comments. Equal
    states make equal files. Raises DartsError when they cannot be written.
    """
    keep = path.with_name(PREVIOUS) if path.name == NEWEST else None
    before = _lines_before(path, keep)
    buffer = io.BytesIO()
    torch.save(_canonical(state), buffer)
    content = buffer.getbuffer()
    files.write(_list(path), "\n".join([f"{_checksum(content)}  {path.name}", *before]) + "\n")
    files.write(path, content, keep)


def read(path: Path) -> dict:
    """The state in a checkpoint of this program, on the CPU. Raises DartsError when it is damaged or not a checkpoint."""
    try:
        return loaded(verified(path))
    except OSError as error:
        raise DartsError(f"{path}: cannot be read ({error.strerror})") from None
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None


def spare(path: Path) -> dict | None:
    """The state in previous.pt beside a damaged checkpoint.pt, if that is intact."""
    previous = path.with_name(PREVIOUS)
    with contextlib.suppress(DartsError):
        return read(previous) if path.name == NEWEST and previous.exists() else None


def verified(path: Path) -> bytes:
    """The bytes of a checkpoint. Raises DartsError when the list beside it does not have their checksum."""
    if path.exists() and not path.is_file():
        raise DartsError("is not a regular file")
    data = path.read_bytes()
    listed = _listed(path)
    if listed is not None and _checksum(data) not in listed:
        if not listed:
            raise DartsError(f"its checksums, {_list(path)}, are damaged; delete that file to go on without")
        raise DartsError(f"is damaged: it is not what was written ({_list(path).name} has another checksum)")
    return data


def loaded(data: bytes) -> object:
    """The contents of a checkpoint in PyTorch's format since 1.6, through PyTorch's own restricted reader.

    Raises DartsError when the file claims more numbers than it holds, refers to something that no checkpoint needs, or is not a
    checkpoint.
    """
    try:
        _check(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it then refuses
            with torch.serialization.safe_globals(_NUMBERS):
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DartsError:
        raise
    except Exception as error:  # on a damaged file torch.load can raise any exception
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise DartsError(f"is no checkpoint, or is damaged ({reason})") from None


def file(path: str | Path) -> Path:
    """The checkpoint at a path: a file itself, or a run folder's best network, else its newest state.

    Raises DartsError when the folder has none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (BEST, NEWEST, PREVIOUS):
        if (path / name).exists():
            return path / name
    runs = [newest.parent for runs in ("select/seed-*", "seed-*") for newest in sorted(path.glob(f"{runs}/{NEWEST}"))]
    remedy = f"name one of its runs, such as {runs[0]}" if runs else "a run writes one after its first epoch"
    raise DartsError(f"{path}: holds no checkpoint, neither {BEST} nor {NEWEST}; {remedy}")


def network(make: Callable[[], nn.Module], state: dict[str, Tensor]) -> nn.Module:
    """The network that `make` builds, with that state.

    It is built only if names and shapes match, so that a network never takes more memory than its file. Raises ValueError if
    they do not.
    """
    with torch.device("meta"):  # where a tensor has a shape but no memory
        expected = {(name, tensor.shape) for name, tensor in make().state_dict().items()}
    differing = sorted({name for name, _ in expected ^ {(name, tensor.shape) for name, tensor in state.items()}})
    if differing:
        raise ValueError(f"{', '.join(differing)[:80]}: not as the settings say")
    network = make()
    network.load_state_dict(state)
    return network


def data_folder(path: Path) -> str | None:
    """The folder of the data set according to the run folder that the checkpoint is in, if it is still in one."""
    config = path.with_name("config.yaml")
    settings = files.read_yaml(config) if config.exists() else None
    folder = settings.get("data") if isinstance(settings, dict) else None
    return folder if isinstance(folder, str) else None


# ---- inside


def _canonical(value):
    """The same value, built of objects that depend on nothing but the value.

    Otherwise files of equal states could differ: pickle writes an object that it meets again as a reference to the first, and
    PyTorch writes the complete storage of a view.
    """
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_canonical(item) for item in value])
    if isinstance(value, Tensor):
        is_view = value.untyped_storage().nbytes() != value.numel() * value.element_size()
        return value.detach().clone() if is_view else value.detach()
    return sys.intern(value) if isinstance(value, str) else value


def _check(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        apart = sum(member.file_size for member in members) <= len(data)  # no two names for the same bytes
        if len(pickles) != 1 or not stored or not apart or len({member.filename for member in members}) < len(members):
            raise DartsError("is no checkpoint, or is damaged (not in the form in which PyTorch writes one)")
        if archive.testzip() is not None:  # compares the checksums inside the archive, which PyTorch ignores
            raise DartsError("is damaged: a part of it is not what was written")
        folder = pickles[0].filename.removesuffix("data.pkl")
        unpickle.check(archive.read(pickles[0]), {m.filename.removeprefix(folder): m.file_size for m in members})


def _list(path: Path) -> Path:
    return path.with_name(f"{NEWEST if path.name == PREVIOUS else path.name}.sha256")


def _listed(path: Path) -> set[str] | None:
    """The checksums in the list beside a checkpoint; None if there is no list."""
    if not files.is_file(_list(path)):
        return None
    with open(_list(path), encoding="utf-8", errors="replace") as file:
        return set(re.findall(r"^(?:# )?([0-9a-f]{64})  \S+$", file.read(files.MAX_BYTES), re.MULTILINE))


def _lines_before(path: Path, keep: Path | None) -> list[str]:
    """The lines of the list for the files that are there before a write; none for a damaged file.

    The newest of them will be `keep` after the write; the others will be gone, so their lines are comments.
    """
    listed = _listed(path)
    present = [file for file in (path, keep) if file is not None and file.exists()]
    lines = []
    for file in present:
        checksum = _checksum(file.read_bytes())
        if listed is None or checksum in listed:
            stays = keep is not None and file == present[0]
            lines.append(f"{checksum}  {keep.name}" if stays else f"# {checksum}  {file.name}")
    return lines


def _checksum(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
