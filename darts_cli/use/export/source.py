"""A network as one readable Python file of plain torch.nn modules, which needs PyTorch only; its weights beside it.

Text that comes from a checkpoint, such as names of classes and words, enters the file as a Python literal and nowhere else.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import torch

from darts_cli import DartsError, __version__
from darts_cli.text import printable
from darts_cli.use import images
from darts_cli.use.export import source_cnn, source_rnn
from darts_cli.use.export.subject import Call, Subject

WEIGHTS = ".pt"  # the suffix of the file of the weights
LINE_CHARS = 100

RUN = """
import runpy, sys, torch
network = runpy.run_path(sys.argv[1])["load"]()
with torch.no_grad():
    outputs = [network(*call) for call in torch.load(sys.argv[2], weights_only=True)]
torch.save([each if isinstance(each, tuple) else (each,) for each in outputs], sys.argv[3])
"""

HEAD = '''"""{summary}

    from {name} import {names}

    network = load()
    {example}

Written by darts {version}. The file needs PyTorch only. Its weights are in {name}.pt, beside it.
"""

from pathlib import Path

import torch
{functional}from torch import Tensor, nn'''

LOAD = '''def load(path: str | Path = Path(__file__).with_suffix(".pt")) -> Network:
    """The network with its weights, in evaluation mode."""
    network = Network()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()'''

PREPROCESS = '''def preprocess(images: Tensor) -> Tensor:
    """Images, bytes or values from 0 to 255 (B, 3, H, W) -> what the network takes."""
    mean, deviation = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    return (images.float() - mean) / deviation'''


def write(subject: Subject, path: Path) -> None:
    """The file, and the state dict beside it, under the same names as in this package."""
    state = subject.trained.network.state_dict()
    kept = {key: tensor.contiguous() for key, tensor in state.items() if not key.startswith("auxiliary_head.")}
    torch.save(kept, path.with_suffix(WEIGHTS))
    path.write_text(text(subject, path.stem), encoding="utf-8")


def outputs(path: Path, calls: list[Call]) -> list[Call]:
    """The outputs of the network in a file, which another Python process runs."""
    given, found = path.with_name("given.pt"), path.with_name("found.pt")
    torch.save(calls, given)
    done = subprocess.run([sys.executable, "-I", "-c", RUN, path, given, found], capture_output=True, text=True)
    if done.returncode:
        raise DartsError(f"the exported file does not run: {printable(done.stderr)[-200:]}")
    return torch.load(found, weights_only=True)


def text(subject: Subject, name: str) -> str:
    """The text of a file NAME.py. Raises DartsError where an operation has no source here."""
    blocks = _language_model(subject, name) if subject.domain == "rnn" else _classifier(subject, name)
    return "\n\n\n".join(blocks) + "\n"


def _classifier(subject: Subject, name: str) -> list[str]:
    trained, inside = subject.trained, subject.preprocessing
    shape, count = f"(B, 3, {', '.join(map(str, trained.data['size']))})", trained.sizes["num_classes"]
    mean, deviation = (tuple(trained.data[key]) for key in ("mean", "deviation"))
    constants = f"{_literal('CLASSES', images.classes(trained))}\nMEAN = {mean}  # of pixels in [0, 1]\nDEVIATION = {deviation}"
    network = source_cnn.blocks(trained, inside)
    head = HEAD.format(
        summary=f"A network of DARTS: images {shape} -> logits (B, {count}).",
        name=name,
        names="load" if inside else "load, preprocess",
        example=f"logits = network({'images' if inside else 'preprocess(images)'})  # of bytes, or values from 0 to 255",
        version=__version__,
        functional="import torch.nn.functional as F\n" if any("F." in block for block in network) else "",
    )
    return [f"{head}\n\n{constants}", *network, *([] if inside else [PREPROCESS]), LOAD]


def _language_model(subject: Subject, name: str) -> list[str]:
    vocab, sizes = subject.trained.vocab, subject.trained.sizes
    head = HEAD.format(
        summary=f"A language model of DARTS: words so far -> log-probabilities of the next of {sizes['vocab']:,} words.",
        name=name,
        names="load" if vocab is None else "VOCAB, load",
        example="log_probs, hidden = network(words, network.initial(batch=1))  # words (T, 1): indices of words",
        version=__version__,
        functional="",
    )
    return [head, *source_rnn.blocks(subject.trained), LOAD, *([] if vocab is None else [_literal("VOCAB", vocab)])]


def _literal(name: str, words: list[str]) -> str:
    """A list of words as Python text, in lines of a readable length."""
    quoted = [repr(word).replace(" ", "\0") for word in words]  # so that no line breaks inside a word
    rows = textwrap.wrap(", ".join(quoted), LINE_CHARS, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{name} = [", *(f"    {row}" for row in rows), "]"]).replace("\0", " ")
