"""Checkpoint files: checksums, the one before, and files that claim what they do not hold."""

import copy
import io
import pickle
import shutil
import subprocess
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch

from darts_cli import DartsError, legacy
from darts_cli.runs import checkpoint

STATE = {"epoch": 3, "network": {"w": torch.arange(6.0).view(2, 3)}, "names": ["a", "b"], "optimizer": OrderedDict(lr=0.1)}


def written(folder, *epochs):
    for epoch in epochs:
        checkpoint.write(folder / "checkpoint.pt", STATE | {"epoch": epoch})
    return folder / "checkpoint.pt"


def test_what_was_written_is_read(tmp_path):
    found = checkpoint.read(written(tmp_path, 3))
    assert torch.equal(found.pop("network")["w"], STATE["network"]["w"])
    assert found == {name: value for name, value in STATE.items() if name != "network"}


def test_the_one_before_is_kept(tmp_path):
    path = written(tmp_path, 1, 2, 3)
    assert [checkpoint.read(path)["epoch"], checkpoint.read(tmp_path / "previous.pt")["epoch"]] == [3, 2]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint.pt.sha256", "previous.pt"]


def test_the_best_replaces_the_best(tmp_path):
    for epoch in (1, 2):
        checkpoint.write(tmp_path / "best.pt", STATE | {"epoch": epoch})
    assert checkpoint.read(tmp_path / "best.pt")["epoch"] == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.pt", "best.pt.sha256"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_the_checksums_are_those_of_sha256sum(tmp_path):
    written(tmp_path, 1, 2)
    done = subprocess.run(["sha256sum", "--check", "checkpoint.pt.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "checkpoint.pt: OK\nprevious.pt: OK\n"


@pytest.mark.parametrize("name", ["checkpoint.pt", "previous.pt"])
def test_a_flipped_bit_is_noticed(tmp_path, name):
    written(tmp_path, 1, 2)
    damaged, other = tmp_path / name, tmp_path / ("previous.pt" if name == "checkpoint.pt" else "checkpoint.pt")
    content = bytearray(damaged.read_bytes())
    content[10] ^= 4
    damaged.write_bytes(content)
    with pytest.raises(DartsError, match=rf"{name}: is damaged: it is not what was written \(checkpoint\.pt\.sha256"):
        checkpoint.read(damaged)
    with pytest.raises(DartsError, match="previous.pt beside it is intact" if name == "checkpoint.pt" else "name another"):
        legacy.read_checkpoint(damaged)
    checkpoint.read(other)


@pytest.mark.parametrize("text", ["", "no checksum", "0123abc  checkpoint.pt"])
def test_damaged_checksums_condemn_no_checkpoint(tmp_path, text):
    path = written(tmp_path, 1)
    checksums = tmp_path / "checkpoint.pt.sha256"
    checksums.write_text(text)
    with pytest.raises(DartsError, match=r"checkpoint\.pt\.sha256, are damaged; delete that file to go on without"):
        checkpoint.read(path)
    checksums.unlink()
    checkpoint.read(path)


def test_a_write_that_fails_leaves_both_readable(tmp_path):
    """Its checksum is in the list already."""
    path = written(tmp_path, 1, 2)
    (tmp_path / ".checkpoint.pt.tmp").mkdir()  # where the next one would be written
    with pytest.raises(DartsError, match="cannot be written .*; what was there before is untouched"):
        written(tmp_path, 3)
    assert [checkpoint.read(path)["epoch"], checkpoint.read(tmp_path / "previous.pt")["epoch"]] == [2, 1]


def test_the_next_write_keeps_what_a_kill_left(tmp_path):
    """Between the two renamings there is only previous.pt, and the list may be of a checkpoint that never came."""
    path = written(tmp_path, 1, 2)
    path.unlink()
    (tmp_path / "checkpoint.pt.sha256").write_text(f"{'0' * 64}  checkpoint.pt\n" + _line(tmp_path / "previous.pt"))
    written(tmp_path, 3)
    assert [checkpoint.read(path)["epoch"], checkpoint.read(tmp_path / "previous.pt")["epoch"]] == [3, 1]


def _line(path):
    import hashlib

    return f"{hashlib.sha256(path.read_bytes()).hexdigest()}  checkpoint.pt\n"


def test_a_copy_on_its_own_needs_no_checksum(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(written(tmp_path, 5), tmp_path / "elsewhere" / "mine.pt")
    assert checkpoint.read(tmp_path / "elsewhere" / copy.name)["epoch"] == 5


# ---- files that claim what they do not hold


class Storage:
    def __init__(self, count):
        self.count = count


class Claim:
    """A tensor of that size in a storage of `count` numbers."""

    def __init__(self, count, size):
        self.count, self.size = count, size

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Storage(self.count), 0, (self.size,), (1,), False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", value.count) if isinstance(value, Storage) else None


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def archive(state, numbers=b"\0" * 16, compression=zipfile.ZIP_STORED, twice=False):
    """A checkpoint in PyTorch's form, made by hand."""
    pickled = io.BytesIO()
    Pickler(pickled, 2).dump(state)
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as parts:
        warnings.simplefilter("ignore")  # of a name given twice
        for name, content in (("data.pkl", pickled.getvalue()), ("version", b"3\n"), ("data/0", numbers)):
            for _ in range(1 + (twice and name == "data.pkl")):
                parts.writestr(f"archive/{name}", content)
    return file.getvalue()


def counted_twice():
    """Two names for the same bytes."""
    file = io.BytesIO(archive({"w": Claim(4, 4)}, bytes(10**6)))
    with zipfile.ZipFile(file, "a") as parts:
        again = copy.copy(parts.getinfo("archive/data/0"))
        again.filename = "archive/data/1"
        parts.filelist.append(again)
        parts.writestr("archive/end", b"")
    return file.getvalue()


def test_an_archive_made_by_hand_is_read():
    found = checkpoint.loaded(archive({"w": Claim(4, 4)}))
    assert torch.equal(found["w"], torch.zeros(4))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive({"w": Claim(2**29, 4)}), "it claims more numbers than it holds"),
        (archive({"w": Claim(5, 4)}), "it claims more numbers than it holds"),
        (archive({"w": Claim(4, 2**29)}), "a tensor larger than its storage"),
        (archive({"w": Claim(-1, 0)}), "not the address of a storage"),
        (archive({"w": Claim(4, 4)}, bytes(2**22), zipfile.ZIP_DEFLATED), "not in the form in which PyTorch writes one"),
        (counted_twice(), "not in the form in which PyTorch writes one"),
        (archive({"w": Claim(4, 4)}, twice=True), "not in the form in which PyTorch writes one"),
        (archive({"w": Call(bytearray, 2**33)}), r"refers to (__builtin__|builtins)\.bytearray"),
        (archive({"w": Call(torch.FloatTensor, 2**33)}), r"refers to torch\.FloatTensor"),
        (archive({"w": Call(exec, "raise SystemExit")}), r"refers to (__builtin__|builtins)\.exec"),
        (b"PK\x03\x04" + bytes(100), "is no checkpoint, or is damaged"),
    ],
    ids=[
        "2 GB",
        "one too many",
        "size",
        "negative",
        "bomb",
        "two names",
        "two pickles",
        "bytearray",
        "FloatTensor",
        "exec",
        "header",
    ],
)
def test_claims_and_calls_are_refused(data, said):
    with pytest.raises(DartsError, match=said):
        checkpoint.loaded(data)


def test_a_copy_without_its_list_tells_what_was_changed_by_itself(tmp_path):
    """By the checksums that are in the file."""
    path = tmp_path / "copy.pt"
    checkpoint.write(path, {"w": torch.arange(1000.0)})
    checkpoint._list(path).unlink()
    assert torch.equal(checkpoint.read(path)["w"], torch.arange(1000.0))
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(500.0, 510.0).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DartsError, match="a part of it is not what was written"):
        checkpoint.read(path)


def test_equal_states_make_equal_files(tmp_path):
    """Whatever objects they are made of, and whatever their tensors are views of."""
    whole = torch.arange(6.0)
    once = {"a": "step", "b": ["step", (1, 2)], "w": whole[:3], "v": whole[:3]}
    other = {"a": "".join(["st", "ep"]), "b": ["".join(["s", "tep"]), (1, 2)], "w": whole[:3].clone(), "v": whole[:3].clone()}
    for name, state in (("one.pt", once), ("two.pt", other)):
        checkpoint.write(tmp_path / name, state)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
