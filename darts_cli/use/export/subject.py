"""What is exported: a trained network in plain form, its description, and calls to compare exports on."""

import copy
import json
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_cli import DartsError, __version__
from darts_cli.cnn import data as pictures
from darts_cli.cnn import evaluate as cnn
from darts_cli.cnn.datasets.batches import Dataset
from darts_cli.rnn import data as texts
from darts_cli.rnn import evaluate as rnn
from darts_cli.use import images
from darts_cli.use.export import plain

BATCHES = (1, 3, 64)  # sizes of the batches that exports are compared on
WORDS = 4  # of a stream
Call = tuple[Tensor, ...]  # the inputs, or the outputs, of one call


class Subject(NamedTuple):
    """A trained network, ready to be exported. A language model reads one word of each stream in a call.

    The inputs are images (B, 3, H, W), or word ids (1, B) and hidden (1, B, D); the outputs are logits (B, num_classes), or
    log-probabilities (1, B, V) and hidden.
    """

    trained: cnn.Trained | rnn.Trained
    module: nn.Module  # made of plain torch.nn modules; inputs -> outputs
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    preprocessing: bool  # whether the images are bytes, which the module normalises
    calls: list[Call]  # inputs
    expected: list[Call]  # the outputs of the network itself
    source: str  # where the inputs come from

    @property
    def domain(self) -> str:
        return self.trained.genotype.domain

    def metadata(self) -> dict[str, str]:
        """The description that travels with an export; every value is JSON."""
        trained = self.trained
        described = {"domain": self.domain, "genotype": trained.genotype.to_dict(), **trained.sizes, "dataset": trained.dataset}
        if self.domain == "rnn":
            described |= {"words": trained.vocab, "tokens": trained.tokens}
        else:
            kept = {key: trained.data[key] for key in images.Preprocess.KEYS if key in trained.data}
            described |= {"auxiliary": False, "classes": images.classes(trained), **kept, "preprocessing": self.preprocessing}
        return {key: json.dumps(value) for key, value in (described | {"darts": __version__}).items()}


def subject(trained: cnn.Trained | rnn.Trained, preprocessing: bool) -> Subject:
    """What is exported of a trained network. Raises DartsError where its outputs cannot be compared."""
    if any(cell.count("noise") for cell in trained.genotype.cells.values()):
        raise DartsError(f"{trained.path}: its cells add noise, so that no export can be compared with the network")
    network = trained.network.eval().requires_grad_(False)
    own = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        return _of_text(trained, own) if isinstance(trained, rnn.Trained) else _of_images(trained, own, preprocessing)


def _of_images(trained: cnn.Trained, network: nn.Module, preprocessing: bool) -> Subject:
    prepare, module = images.Preprocess.of(trained), plain.Classifier(network)
    if preprocessing:
        module = nn.Sequential(plain.Normalise(prepare.mean, prepare.deviation), module).eval()
    pixels, source = _pixels(trained, prepare)
    parts = [pixels[:size] for size in BATCHES]
    return Subject(
        trained,
        module,
        inputs=("images",),
        outputs=("logits",),
        preprocessing=preprocessing,
        calls=[(part if preprocessing else prepare.normalise(part).contiguous(),) for part in parts],
        expected=[(trained.network(prepare.normalise(part))[0],) for part in parts],
        source=source,
    )


def _of_text(trained: rnn.Trained, network: nn.Module) -> Subject:
    words, source = _words(trained)
    steps = [step for size in BATCHES for step in _steps(trained.network, words[:, :size])]
    return Subject(
        trained,
        plain.Step(network),
        inputs=("words", "hidden"),
        outputs=("log_probs", "next_hidden"),
        preprocessing=False,
        calls=[given for given, _ in steps],
        expected=[found for _, found in steps],
        source=source,
    )


def _steps(network: nn.Module, words: Tensor) -> list[tuple[Call, Call]]:
    """Inputs and outputs of the network for every word of the streams (T, B)."""
    steps, hidden = [], network.initial(words.shape[1])
    for x in words:
        log_probs, after = network(x[None], hidden)
        steps.append(((x[None], hidden), (log_probs, after)))
        hidden = after
    return steps


def _pixels(trained: cnn.Trained, prepare: images.Preprocess) -> tuple[Tensor, str]:
    """Images to compare on, bytes (64, 3, H, W), and where they come from."""

    def test_part() -> Tensor:
        part = pictures.load(trained.dataset, trained.folder, train=False, like=trained.data)
        chosen = _spread(len(part.labels), max(BATCHES)).tolist()
        if isinstance(part, Dataset):
            return part.pixels(chosen).permute(0, 3, 1, 2).contiguous()
        return torch.stack([prepare.pixels(part.paths[i]) for i in chosen])

    found = _at_hand(test_part) if trained.dataset == "digits" or trained.folder else None
    if found is not None:
        return found, f"images of the test part of {trained.folder or trained.dataset}"
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (max(BATCHES), 3, *prepare.size), generator=g, dtype=torch.uint8), "random images (seed 0)"


def _words(trained: rnn.Trained) -> tuple[Tensor, str]:
    """Words to compare on (T, 64), and where they come from."""

    def test_part() -> Tensor:
        ids = texts.load(trained.dataset, trained.folder, trained.vocab, ("test",), trained.tokens).test
        return ids[torch.arange(WORDS * max(BATCHES)) % len(ids)].view(max(BATCHES), WORDS).t().contiguous()

    at_hand = trained.vocab is not None and (trained.dataset == "pydoc" or trained.folder)
    found = _at_hand(test_part) if at_hand else None
    if found is not None:
        return found, f"words of the test text of {trained.folder or trained.dataset}"
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, trained.sizes["vocab"], (WORDS, max(BATCHES)), generator=g), "random words (seed 0)"


def _at_hand(read: Callable[[], Tensor]) -> Tensor | None:
    """What is read; None where the data are gone or have changed."""
    try:
        return read()
    except (DartsError, OSError):
        return None


def _spread(count: int, wanted: int) -> Tensor:
    """So many indices below `count`, evenly spread."""
    return torch.arange(wanted) * count // wanted
