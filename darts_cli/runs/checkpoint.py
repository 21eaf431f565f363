"""Checkpoint files: each with a checksum, the one before kept, and nothing in them ever executed.

    checkpoint.pt           the newest state of a run
    previous.pt             the one before
    checkpoint.pt.sha256    the checksums of both, as `sha256sum` writes them; likewise best.pt.sha256

A file on its own, copied elsewhere or of another program, is read without a checksum.
"""

import contextlib
import hashlib
import io
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from darts_cli import DartsError, files
from darts_cli.formats import unpickle

NEWEST, PREVIOUS, BEST = "checkpoint.pt", "previous.pt", "best.pt"


def write(path: Path, state: dict) -> None:
    """Write a state: its checksum, then the file; what was at checkpoint.pt is kept as previous.pt.

    A kill may come between the two, so the checksums of all that is there stay in the list, of what will be gone as a comment.
    Equal states make equal files. Raises DartsError when they cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(_canonical(state), buffer)
    content = buffer.getbuffer()
    keep = path.with_name(PREVIOUS) if path.name == NEWEST else None
    checksum, listed = _checksum(content), _listed(path)
    present = [place for place in (path, keep) if place is not None and place.exists()]
    intact = [place for place in present if listed is None or _checksum_of(place) in listed]
    lines = [f"{checksum}  {path.name}"]
    for place in intact:
        stays = keep is not None and place == present[0]  # as previous.pt
        lines.append(f"{_checksum_of(place)}  {keep.name}" if stays else f"# {_checksum_of(place)}  {place.name}")
    files.write(_list(path), "\n".join(lines) + "\n")
    files.write(path, content, keep)
    _known[_identity(path)] = checksum


def read(path: Path) -> dict:
    """The state in a checkpoint of this program, on the CPU. Raises DartsError when it is not what was written, or is none."""
    try:
        return loaded(verified(path))
    except OSError as error:
        raise DartsError(f"{path}: cannot be read ({error.strerror})") from None
    except DartsError as error:
        raise DartsError(f"{path}: {error}") from None


def spare(path: Path) -> dict | None:
    """The state in previous.pt beside a damaged checkpoint.pt, where that is intact."""
    previous = path.with_name(PREVIOUS)
    with contextlib.suppress(DartsError):
        return read(previous) if path.name == NEWEST and previous.exists() else None


def verified(path: Path) -> bytes:
    """The bytes of a checkpoint. Raises DartsError when there are checksums beside it and it has none of them."""
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
    """What PyTorch's own restricted reader makes of a checkpoint in the form of PyTorch since 1.6.

    Before, it is checked that the file holds all the numbers that it claims. Raises DartsError when it does not, when it refers
    to what a checkpoint has no need of, or is none.
    """
    try:
        _check(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it then refuses
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except DartsError:
        raise
    except Exception as error:  # torch.load raises whatever its reader meets in a damaged file
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise DartsError(f"is no checkpoint, or is damaged ({reason})") from None


def file(path: str | Path) -> Path:
    """The checkpoint at that path: of a run folder its best network, or else its newest state. Raises DartsError if none."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (BEST, NEWEST, PREVIOUS):
        if (path / name).exists():
            return path / name
    inside = [each.parent for place in ("select/seed-*", "seed-*") for each in sorted(path.glob(f"{place}/{NEWEST}"))]
    remedy = f"name one of its runs, such as {inside[0]}" if inside else "a run writes one after its first epoch"
    raise DartsError(f"{path}: holds no checkpoint, neither {BEST} nor {NEWEST}; {remedy}")


def network(make: Callable[[], nn.Module], state: dict[str, Tensor]) -> nn.Module:
    """The network that `make` gives, with that state; made only where names and shapes fit, so that none takes more memory than
    its file. Raises ValueError where they do not."""
    with torch.device("meta"):  # where tensors have shapes and no numbers
        wanted = {(name, tensor.shape) for name, tensor in make().state_dict().items()}
    differing = sorted({name for name, _ in wanted ^ {(name, tensor.shape) for name, tensor in state.items()}})
    if differing:
        raise ValueError(f"{', '.join(differing)[:80]}: not as the settings say")
    network = make()
    network.load_state_dict(state)
    return network


def data_folder(path: Path) -> str | None:
    """Where the run of that checkpoint last had its data set, if the checkpoint is still in its run folder."""
    settings = path.with_name("config.yaml")
    found = files.read_yaml(settings) if settings.exists() else None
    folder = found.get("data") if isinstance(found, dict) else None
    return folder if isinstance(folder, str) else None


# ---- inside


def _canonical(value):
    """The same of objects that only its values determine: pickle writes an object that it meets again as a reference to the
    first, and of a view PyTorch writes all that it is a view of."""
    if isinstance(value, dict):
        return {_canonical(key): _canonical(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_canonical(each) for each in value])
    if isinstance(value, Tensor):
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value.detach() if whole else value.detach().clone()
    return sys.intern(value) if isinstance(value, str) else value


def _check(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = archive.infolist()
        pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
        whole = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
        whole = whole and sum(part.file_size for part in parts) <= len(data)  # a part that is counted twice would exceed it
        if len(pickles) != 1 or not whole or len({part.filename for part in parts}) < len(parts):
            raise DartsError("is no checkpoint, or is damaged (not in the form in which PyTorch writes one)")
        folder = pickles[0].filename.removesuffix("data.pkl")
        if archive.testzip() is not None:  # the checksum of a part, which PyTorch does not look at
            raise DartsError("is damaged: a part of it is not what was written")
        unpickle.check(archive.read(pickles[0]), {part.filename.removeprefix(folder): part.file_size for part in parts})


def _list(path: Path) -> Path:
    return path.with_name(f"{NEWEST if path.name == PREVIOUS else path.name}.sha256")


def _listed(path: Path) -> set[str] | None:
    """The checksums beside that file; None where there are none."""
    if not files.is_file(_list(path)):
        return None
    with open(_list(path), encoding="utf-8", errors="replace") as file:
        return set(re.findall(r"^(?:# )?([0-9a-f]{64})  \S+$", file.read(files.LARGEST), re.MULTILINE))


def _checksum_of(path: Path) -> str:
    """That of a file, which need not be read again when this process has written it."""
    identity = _identity(path)
    return _known[identity] if identity in _known else _checksum(path.read_bytes())


def _identity(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


_known: dict[tuple[int, ...], str] = {}  # of the files that this process has written


def _checksum(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
