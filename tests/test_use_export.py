"""`darts export`: every format, loaded by other programs and compared with the network."""

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from conftest import darts
from safetensors import safe_open

import darts_cli
from darts_cli import DartsError
from darts_cli import genotype as genotypes
from darts_cli.cnn.data import load as load_data
from darts_cli.cnn.evaluate import Trained
from darts_cli.cnn.model import network as network_class
from darts_cli.genotype import Cell, Edge, Genotype
from darts_cli.rnn import evaluate as rnn
from darts_cli.rnn.model import Network as LanguageModel
from darts_cli.spaces.operations import SHIPPED
from darts_cli.use.export import export as exports
from darts_cli.use.export import programs, source, tensors
from darts_cli.use.export.subject import subject

ROOT = Path(__file__).parent.parent
SIZES = (1, 3, 64)

BLOCKED = """
import runpy, sys, torch
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("darts_cli", "torchvision", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
network = runpy.run_path(sys.argv[1])["load"]()
with torch.no_grad():
    torch.save([network(*call) for call in torch.load("calls.pt", weights_only=True)], "found.pt")
assert not any(name.startswith("darts_cli") for name in sys.modules)
"""


def export(run, form, out, *args):
    done = darts("export", "--checkpoint", run, "--format", form, "--out", out, *args)
    assert done.exit_code == 0, done.stderr
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert float(shown["largest difference"]) <= 1e-5
    return shown


def elsewhere(path, calls):
    """The outputs of an exported source file in a process that cannot import this package."""
    torch.save(calls, path.parent / "calls.pt")
    command = [sys.executable, "-I", "-c", BLOCKED, path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(path.parent / "found.pt", weights_only=True)


@pytest.fixture(scope="module")
def pixels(digits):
    """Images of the test part of digits, bytes (64, 3, 8, 8), and what the network sees."""
    network = darts_cli.load(digits / "run")
    bytes_ = load_data("digits", None, train=False).images[:64].permute(0, 3, 1, 2).contiguous()
    return network, bytes_, torch.stack([network.preprocess(image) for image in bytes_])


# ---- images


def test_onnx_of_any_batch(pixels, digits, tmp_path):
    network, _, images = pixels
    shown = export(digits / "run", "onnx", tmp_path / "a.onnx")
    assert shown["compared on"] == "images of the test part of digits, in batches of 1, 3 and 64"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    model = onnx.load(tmp_path / "a.onnx")
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 8, 8]
    assert str(ROOT).encode() not in (tmp_path / "a.onnx").read_bytes()
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["classes"] == network.classes
    assert (metadata["mean"], metadata["preprocessing"]) == (list(network.preprocess.mean), False)
    assert metadata["genotype"] == network.genotype.to_dict()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for size in SIZES:
        (found,) = session.run(["logits"], {"images": images[:size].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images[:size])[0], rtol=0, atol=1e-4)
    (tmp_path / "a.onnx").rename(tmp_path / "network.onnx")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "using.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() in network.classes, done.stderr


def test_onnx_of_colour_images_with_the_normalisation_inside(colours, parts, tmp_path):
    """The input is bytes, as a decoder gives them."""
    network = darts_cli.load(colours)
    shown = export(colours, "onnx", tmp_path / "a.onnx", "--with-preprocessing")
    assert shown["compared on"].startswith(f"images of the test part of {parts}")
    files = sorted((parts / "test").rglob("*.png"))
    bytes_ = torch.stack([network.preprocess.pixels(path) for path in files])
    assert bytes_.dtype == torch.uint8
    assert not torch.equal(bytes_[:, 0], bytes_[:, 1])
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": bytes_.numpy()})
    expected = network(torch.stack([network.preprocess(path) for path in files]))[0]
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("inside", [False, True])
def test_a_torch_program(pixels, digits, tmp_path, inside):
    network, bytes_, images = pixels
    export(digits / "run", "torch", tmp_path / "a.pt2", *["--with-preprocessing"] * inside)
    assert str(ROOT).encode() not in (tmp_path / "a.pt2").read_bytes()
    extra = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert json.loads(extra["metadata.json"])["classes"] == network.classes
    for size in SIZES:
        found = program((bytes_ if inside else images)[:size])
        torch.testing.assert_close(found, network(images[:size])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("inside", [False, True])
def test_a_source_file_without_this_package(pixels, digits, tmp_path, inside):
    network, bytes_, images = pixels
    export(digits / "run", "source", tmp_path / "mine.py", *["--with-preprocessing"] * inside)
    calls = [((bytes_ if inside else images)[:size],) for size in SIZES] + [(bytes_.float(),)] * inside
    for (given, *_), found in zip(calls, elsewhere(tmp_path / "mine.py", calls), strict=True):
        torch.testing.assert_close(found, network(images[: len(given)])[0], rtol=0, atol=1e-6)
    contents = runpy.run_path(str(tmp_path / "mine.py"))
    loaded, strides = contents["load"](), []
    loaded.stem.register_forward_pre_hook(lambda _, given: strides.append(given[0].stride()))
    loaded(bytes_ if inside else images)
    assert strides == [images.contiguous(memory_format=torch.channels_last).stride()]  # in which the network computes, too
    layouts = {name: weight.stride() for name, weight in network.named_parameters()}
    assert all(weight.stride() == layouts[name] for name, weight in loaded.named_parameters())
    assert contents["CLASSES"] == network.classes
    assert ("preprocess" in contents) != inside
    if not inside:
        torch.testing.assert_close(contents["preprocess"](bytes_), images, rtol=1e-6, atol=1e-6)
    ours, theirs = network.state_dict(), torch.load(tmp_path / "mine.pt", weights_only=True)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_a_source_file_has_nothing_it_does_not_need(digits, tmp_path):
    """The imports are torch and the standard library; every class is used; lines are short."""
    export(digits / "run", "source", tmp_path / "mine.py")
    text = (tmp_path / "mine.py").read_text()
    tree = ast.parse(text)
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)])
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"torch", "pathlib"}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            assert len(re.findall(rf"\b{node.name}\b", text)) > 1, node.name
    assert "SepConv" in text
    assert not re.search(r"FactorizedConv|ImageNetStem|NorConv|Zero|Residual", text)
    assert max(map(len, text.splitlines())) <= 120


def test_safetensors_are_a_checkpoint(pixels, digits, tmp_path):
    """Its predictions are those of the run; all there is travels in the metadata."""
    network, _, images = pixels
    export(digits / "run", "safetensors", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    assert (metadata["classes"], metadata["channels"], metadata["layers"]) == (network.classes, 4, 3)
    again = darts_cli.load(tmp_path / "a.safetensors")
    assert torch.equal(again(images)[0], network(images)[0])
    assert torch.equal(again.preprocess(digits / "test" / "000_4.png"), network.preprocess(digits / "test" / "000_4.png"))
    paths = sorted((digits / "test").glob("*.png"))[:9]
    one, other = (darts("predict", "--checkpoint", c, *paths) for c in (digits / "run", tmp_path / "a.safetensors"))
    assert (one.exit_code, one.stdout) == (0, other.stdout)
    assert evaluated(tmp_path / "a.safetensors") == evaluated(digits / "run")
    refused = darts("eval", tmp_path / "a.safetensors", "--genotype", "darts_v2")
    assert "names its cells; leave it out" in refused.stderr


def evaluated(checkpoint, *options):
    """The numbers of darts eval."""
    done = darts("eval", checkpoint, "--json", *options)
    assert done.exit_code == 0, done.stderr
    return {name: value for name, value in json.loads(done.stdout).items() if name != "checkpoint"}


# ---- text


@pytest.fixture(scope="module")
def steps(language_run):
    """A language model, words (6, 3), and its log-probabilities, read at once."""
    network = darts_cli.load(language_run)
    words = torch.randint(0, len(network.vocab), (6, 3), generator=torch.Generator().manual_seed(1))
    return network, words, *network(words, network.initial(3))


def test_a_language_model_as_onnx(steps, language_run, tmp_path):
    network, words, expected, hidden = steps
    shown = export(language_run, "onnx", tmp_path / "a.onnx")
    assert shown["compared on"].startswith("words of the test text of ")
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert metadata["words"] == network.vocab
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for size in (1, 3):
        state, log_probs = np.zeros((1, size, network.dim), dtype=np.float32), []
        for x in words[:, None, :size].numpy():
            row, state = session.run(["log_probs", "next_hidden"], {"words": x, "hidden": state})
            log_probs.append(torch.from_numpy(row))
        torch.testing.assert_close(torch.cat(log_probs), expected[:, :size], rtol=0, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(state), hidden[:, :size], rtol=0, atol=1e-4)


def test_a_language_model_as_a_torch_program(steps, language_run, tmp_path):
    network, words, expected, _ = steps
    export(language_run, "torch", tmp_path / "a.pt2")
    program, state = torch.export.load(tmp_path / "a.pt2").module(), network.initial(3)
    for x, log_probs in zip(words, expected, strict=True):
        found, state = program(x[None], state)
        torch.testing.assert_close(found[0], log_probs, rtol=0, atol=1e-5)


def test_a_language_model_as_source(steps, language_run, tmp_path):
    """Any number of words at a time."""
    network, words, expected, hidden = steps
    export(language_run, "source", tmp_path / "mine.py")
    ((log_probs, state),) = elsewhere(tmp_path / "mine.py", [(words, network.initial(3))])
    torch.testing.assert_close(log_probs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(state, hidden, rtol=0, atol=1e-6)
    contents = runpy.run_path(str(tmp_path / "mine.py"))
    assert contents["VOCAB"] == network.vocab
    loaded = contents["load"]()
    assert torch.equal(loaded.initial(3), network.initial(3))
    assert loaded.decoder.weight is loaded.encoder.weight


def test_a_language_model_as_safetensors(steps, language_run, tmp_path):
    network, words, expected, _ = steps
    export(language_run, "safetensors", tmp_path / "a.safetensors")
    again = darts_cli.load(tmp_path / "a.safetensors")
    assert again.vocab == network.vocab
    assert torch.equal(again(words, again.initial(3))[0], expected)
    one, other = (darts("generate", "--checkpoint", c) for c in (language_run, tmp_path / "a.safetensors"))
    assert (one.exit_code, one.stdout) == (0, other.stdout)
    text = yaml.safe_load((language_run / "config.yaml").read_text())["data"]
    assert evaluated(tmp_path / "a.safetensors", "--data", text) == evaluated(language_run)


# ---- every operation, cell and stem, with random weights


def as_trained(network, side):
    """With statistics of BatchNorm that fit the weights, and scales and shifts that are not 1 and 0."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(8, 3, side, side))
    return network


def of_images(cells, side=8, stem="cifar", classes=4, **sizes):
    about = {"size": [side, side], "mean": [0.4, 0.5, 0.6], "deviation": [0.2, 0.3, 0.4]}
    sizes = {"channels": 4, "num_classes": classes, "layers": 3, "auxiliary": False, "stem": stem} | sizes
    torch.manual_seed(0)
    network = as_trained(network_class(cells)(cells, **sizes), side)
    return Trained(Path("none.pt"), network, cells, sizes, "folder", None, about)


def everything():
    """Cells with every operation of the domain, in both kinds of cells, but noise."""
    names = [name for name in SHIPPED["cnn"] if name != "noise"]
    half = (len(names) + 1) // 2
    nodes = [(Edge(a, 0), Edge(b, 1)) for a, b in zip(names[:half], names[::-1], strict=False)]
    cell = Cell((*nodes, (Edge("skip_connect", 2), Edge("max_pool_3x3", 3))), (2, 4, 5))
    return Genotype("cnn", {"normal": cell, "reduce": cell})


def nas_bench_201():
    chosen = darts("genotype", "random", "cnn", "--space", "nas-bench-201", "--seed", "3").stdout
    return Genotype.from_dict(genotypes.files.parse_yaml(chosen, "stdout"))


CASES = {name: lambda name=name: of_images(genotypes.load(name, "cnn"), layers=5) for name in genotypes.names("cnn")} | {
    "every operation": lambda: of_images(everything()),
    "two cells": lambda: of_images(genotypes.load("darts_v2", "cnn"), layers=2),
    "imagenet": lambda: of_images(genotypes.load("darts_v2", "cnn"), side=64, stem="imagenet", layers=4),
    "nas-bench-201": lambda: of_images(nas_bench_201(), layers=2),
    "auxiliary head": lambda: of_images(genotypes.load("darts_v2", "cnn"), side=32, auxiliary=True),
}


@pytest.mark.parametrize("case", CASES)
def test_source_and_plain_form_of_every_kind_of_cells(case, tmp_path):
    exported = subject(CASES[case](), preprocessing=True)
    assert exported.expected[-1][0].std(dim=0).min() > 0.001  # images differ
    source.write(exported, tmp_path / "mine.py")
    written = runpy.run_path(str(tmp_path / "mine.py"))["load"]()
    for (images,), (expected,) in zip(exported.calls, exported.expected, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(exported.module(images), expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(written(images), expected, rtol=1e-5, atol=1e-6)
    kept = {key for key in exported.trained.network.state_dict() if not key.startswith("auxiliary_head.")}
    assert set(written.state_dict()) == kept
    tensors.write(exported, tmp_path / "a.safetensors")
    again = tensors.restore(tmp_path / "a.safetensors")
    assert again.genotype == exported.trained.genotype
    assert set(again.network.state_dict()) == kept


def test_programs_of_every_operation(tmp_path):
    exported = subject(of_images(everything(), layers=1), preprocessing=False)
    programs.write_torch(exported, tmp_path / "a.pt2")
    assert exports.largest_difference(programs.torch_outputs(tmp_path / "a.pt2", exported.calls), exported.expected) < 1e-5
    programs.write_onnx(exported, tmp_path / "a.onnx")
    assert exports.largest_difference(programs.onnx_outputs(tmp_path / "a.onnx", exported.calls), exported.expected) < 1e-5


@pytest.mark.parametrize("name", genotypes.names("rnn"))
def test_source_of_every_recurrent_cell(name, tmp_path):
    """Without a vocabulary, as checkpoints of the original are."""
    cells, sizes = genotypes.load(name, "rnn"), {"vocab": 7, "dim": 6, "init_op": "relu"}
    network = LanguageModel(cells, **sizes)
    trained = rnn.Trained(Path("none.pt"), network, cells, sizes, "ptb", None, None)
    exported = subject(trained, preprocessing=False)
    assert exported.source == "random words (seed 0)"
    source.write(exported, tmp_path / "mine.py")
    contents = runpy.run_path(str(tmp_path / "mine.py"))
    assert "VOCAB" not in contents
    written = contents["load"]()
    with torch.no_grad():
        outputs = [written(*call) for call in exported.calls]
        plain = [exported.module(*call) for call in exported.calls]
    assert exports.largest_difference(outputs, exported.expected) < 1e-6
    assert exports.largest_difference(plain, exported.expected) < 1e-6


# ---- the check


def test_names_of_classes_are_never_executed(tmp_path):
    """Whatever a checkpoint calls its classes, the file has it as a literal."""
    names = ['"""\nraise SystemExit', "it's \\ a", "new\nline", "\udc80 \u2028 {x}", "a  b" * 60]
    trained = of_images(genotypes.load("darts_v2", "cnn"), classes=len(names))
    trained.data["classes"] = names
    source.write(subject(trained, preprocessing=False), tmp_path / "mine.py")
    assert runpy.run_path(str(tmp_path / "mine.py"))["CLASSES"] == names


@pytest.mark.parametrize("form", ["torch", "source", "safetensors"])
def test_a_wrong_export_is_noticed_and_not_written(digits, tmp_path, monkeypatch, form):
    written = exports.FORMATS[form]

    def spoiled(path, calls):
        outputs = written.outputs(path, calls)
        outputs[-1][0][-1, 3] += 2e-4
        return outputs

    monkeypatch.setitem(exports.FORMATS, form, written._replace(outputs=spoiled))
    out = tmp_path / f"a{written.suffixes[0]}"
    done = darts("export", "--checkpoint", digits / "run", "--format", form, "--out", out)
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: --format {form}: the export differs .* by 2\.\de-04, .* nothing was written\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_difference():
    a, nan = torch.zeros(2, 2), torch.tensor([[0.0, float("nan")]])
    assert exports.largest_difference([(a,), (a, a + 1)], [(a,), (a, a)]) == 1
    assert exports.largest_difference([(a,)], [(a[:1],)]) == float("inf")
    assert not exports.largest_difference([(nan,), (nan * 0,)], [(a[:1],), (a[:1],)]) <= 1e-4


def test_random_inputs_where_the_data_are_gone(digits, colours, tmp_path):
    """The folder of a training may be on another machine."""
    state = torch.load(colours / "checkpoint.pt", weights_only=True)
    torch.save(state, tmp_path / "alone.pt")
    shown = export(tmp_path / "alone.pt", "safetensors", tmp_path / "a.safetensors")
    assert shown["compared on"].startswith("random images (seed 0)")


def test_noise_is_refused():
    noisy = Cell(tuple((Edge("noise", 0), Edge("skip_connect", 1)) for _ in range(4)), (2, 3, 4, 5))
    with pytest.raises(DartsError, match="its cells add noise"):
        subject(of_images(Genotype("cnn", {"normal": noisy, "reduce": noisy})), preprocessing=False)


def test_operations_of_other_packages_have_no_source(digits, monkeypatch):
    monkeypatch.delitem(source.source_cnn.CALLS, "sep_conv_3x3")
    with pytest.raises(DartsError, match="sep_conv_3x3 comes from another package"):
        source.text(subject(of_images(genotypes.load("darts_v2", "cnn")), preprocessing=False), "a")
