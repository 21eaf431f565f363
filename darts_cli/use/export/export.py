"""A trained network for other programs: exported, loaded again, and compared with the network before anything is written."""

import importlib
import keyword
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from darts_cli import DartsError, files
from darts_cli.use import networks
from darts_cli.use.export import programs, source, tensors
from darts_cli.use.export.subject import BATCHES, Call, Subject, subject

MAX_DIFFERENCE = 1e-4  # of any output: a logit, a log-probability in nats, a number of the hidden state


class Format(NamedTuple):
    """How one format is written to a path, and what the written network computes."""

    suffixes: tuple[str, ...]  # of its files, the first one's the path's own
    write: Callable[[Subject, Path], None]
    outputs: Callable[[Path, list[Call]], list[Call]]
    packages: tuple[str, ...] = ()  # that it needs besides torch


FORMATS = {
    "onnx": Format((".onnx",), programs.write_onnx, programs.onnx_outputs, ("onnx", "onnxruntime", "onnxscript")),
    "torch": Format((".pt2",), programs.write_torch, programs.torch_outputs),
    "source": Format((".py", source.WEIGHTS), source.write, source.outputs),
    "safetensors": Format((tensors.SUFFIX,), tensors.write, tensors.outputs, ("safetensors",)),
}


class Exported(NamedTuple):
    """What was written, and how it was checked."""

    paths: list[Path]
    difference: float  # the largest between an output of the export and of the network
    compared_on: str


def export(checkpoint: str, form: str, out: str | None = None, *, preprocessing=False, overwrite=False) -> Exported:
    """Write the trained network of a run folder or a checkpoint in a format, a name of FORMATS.

    out              the file; default: `network` with the suffix of the format, in this folder
    preprocessing    of images: put the normalisation into the network, whose input is bytes then
    overwrite        replace files that exist

    The export is loaded again and run on images or words of the test part, where that is at hand. Raises DartsError, and writes
    nothing, when an output differs by more than MAX_DIFFERENCE from the network's, and for whatever the user can correct.
    """
    exporter = FORMATS[form]
    _check_packages(form, exporter.packages)
    targets = _targets(form, exporter.suffixes, out, overwrite)
    if preprocessing and form == "safetensors":
        raise DartsError("--with-preprocessing: a safetensors file holds weights and no computation; leave it out", exit_code=2)
    trained, _ = networks.restore(checkpoint)
    if preprocessing and trained.genotype.domain == "rnn":
        raise DartsError(f"--with-preprocessing: {checkpoint} holds a language model, whose input is words", exit_code=2)
    for path in targets:
        if path.exists() and path.samefile(trained.path):
            raise DartsError(f"--out {path}: is the checkpoint itself; name another file", exit_code=2)
    exported = subject(trained, preprocessing)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, targets[0].name)
        exporter.write(exported, temporary)
        difference = largest_difference(exporter.outputs(temporary, exported.calls), exported.expected)
        if not difference <= MAX_DIFFERENCE:
            raise DartsError(
                f"--format {form}: the export differs from the network by {difference:.1e}, more than {MAX_DIFFERENCE}, on "
                f"{exported.source}; nothing was written"
            )
        for path in reversed(targets):  # the weights first
            files.write(path, temporary.with_suffix(path.suffix).read_bytes())
    sizes = f"{', '.join(map(str, BATCHES[:-1]))} and {BATCHES[-1]}"
    return Exported(targets, difference, f"{exported.source}, in batches of {sizes}")


def largest_difference(found: list[Call], expected: list[Call]) -> float:
    """The largest absolute difference of any output, infinite for a wrong shape, NaN where a number is none."""
    differences = [
        (a - b).abs().max() if a.shape == b.shape else torch.tensor(math.inf)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return float(torch.stack(differences).max())


def _check_packages(form: str, packages: tuple[str, ...]) -> None:
    missing = []
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise DartsError(
            f"--format {form} needs packages that are not installed: {', '.join(missing)}; run pip install "
            f"{' '.join(packages)}, or in a checkout pip install '.[{form}]'"
        )


def _targets(form: str, suffixes: tuple[str, ...], out: str | None, overwrite: bool) -> list[Path]:
    """The files to write. Raises DartsError when they cannot be written, or exist."""
    path = Path(f"network{suffixes[0]}" if out is None else out)
    if path.is_dir():
        raise DartsError(f"--out {path}: is a folder; name a file in it, such as {path / 'network'}{suffixes[0]}", exit_code=2)
    if path.suffix != suffixes[0]:
        raise DartsError(f"--out {path}: a file of --format {form} must end in {suffixes[0]}", exit_code=2)
    if form == "source" and (not path.stem.isidentifier() or keyword.iskeyword(path.stem)):
        raise DartsError(f"--out {path}: Python cannot import a file of this name; use letters, digits and _", exit_code=2)
    if not path.parent.is_dir():
        raise DartsError(f"--out {path}: there is no folder {path.parent}", exit_code=2)
    targets = [path.with_suffix(suffix) for suffix in suffixes]
    for each in targets:
        if each.is_dir() or (each.exists() and not overwrite):
            raise DartsError(f"{each}: exists; name another file with --out, or add --overwrite", exit_code=2)
    return targets
