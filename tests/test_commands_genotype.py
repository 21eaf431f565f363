"""The commands `darts genotype ...`."""

import json
import random
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from conftest import darts

from darts_cli.cli import main
from darts_cli.cnn.sizes import sizes as cnn_sizes
from darts_cli.genotype import Genotype, load, names, published_sizes, random_genotype, save
from darts_cli.rnn.sizes import sizes as rnn_sizes
from darts_cli.spaces.space import default


def test_the_published_sizes_are_those_of_the_networks():
    assert set(published_sizes()) == set(names())
    for name in names("cnn"):
        assert published_sizes()[f"cnn/{name}"] == cnn_sizes(load(name, "cnn"), resolution=32)[0]["parameters"]
    for name in names("rnn"):
        assert published_sizes()[f"rnn/{name}"] == rnn_sizes(load(name, "rnn"), 850, 10_000)[0]["parameters"]


def test_show_as_json():
    shown = json.loads(darts("genotype", "show", "nasnet", "--json").stdout)
    assert Genotype.from_dict(shown) == load("nasnet")
    assert shown == yaml.safe_load(darts("genotype", "show", "nasnet").stdout)


def test_info_of_a_published_cell():
    """The sizes of the reference table."""
    output = darts("genotype", "info", "cnn/darts_v2").stdout
    assert "4 nodes, depth 2, 2 skip connections" in output
    assert "3,349,342 parameters, 528.4 M multiply-adds (36 channels, 20 layers, 32x32 pixels, 10 classes)" in output
    assert "4,718,752 parameters, 529.9 M multiply-adds (48 channels, 14 layers, 224x224 pixels, 1000 classes)" in output
    assert load("cnn/darts_v2").hash() in output
    assert load("cnn/darts_v2").hash() in darts("genotype", "list").stdout


def test_info_at_another_size():
    info = json.loads(darts("genotype", "info", "pdarts", "--channels", 16, "--layers", 8, "--resolution", 32, "--json").stdout)
    assert info["cells"]["normal"] == {"nodes": 4, "depth": 3, "skip_connections": 2, "unused": []}
    (size,) = info["sizes"]
    from darts_cli.cnn.model import Network
    from darts_cli.cnn.sizes import multiply_adds, parameters

    network = Network(load("pdarts"), 16, 10, 8)
    assert (size["parameters"], size["multiply_adds"]) == (parameters(network), multiply_adds(network, 32, 32))
    (size,) = json.loads(darts("genotype", "info", "pdarts", "--resolution", 160, "--json").stdout)["sizes"]
    assert (size["channels"], size["layers"], size["classes"]) == (48, 14, 1000)
    both = json.loads(darts("genotype", "info", "pdarts", "--channels", 24, "--json").stdout)["sizes"]
    assert [(size["network"], size["channels"], size["layers"]) for size in both] == [
        ("CIFAR-10", 24, 20),
        ("ImageNet", 24, 14),
    ]


def test_info_of_a_recurrent_cell():
    assert "22,960,000 parameters (dimension 850, 10,000 words)" in darts("genotype", "info", "rnn/darts_v2").stdout
    output = darts("genotype", "info", "rnn/darts_v2", "--dim", 700, "--vocab", 33_278).stdout
    assert "33,127,878 parameters" in output
    assert "depth 4, 1 identities" in output


def test_diff_counts_no_order(tmp_path):
    genotype = load("cnn/darts_v2")
    turned = json.loads(json.dumps(genotype.to_dict()))
    turned["normal"]["nodes"][2].reverse()
    save(Genotype.from_dict(turned), tmp_path / "turned.yaml")
    assert darts("genotype", "diff", "cnn/darts_v2", tmp_path / "turned.yaml").stdout == "the same cells\n"
    lines = darts("genotype", "diff", "cnn/darts_v1", "cnn/darts_v2").stdout.splitlines()
    assert lines[:2] == ["- normal.nodes[1]  [skip_connect, 0]", "+ normal.nodes[1]  [sep_conv_3x3, 0]"]


def test_random_is_a_stream_of_documents():
    output = darts("genotype", "random", "cnn", "--seed", 4, "--count", 3).stdout
    documents = list(yaml.safe_load_all(output))
    rng = random.Random(4)
    assert [Genotype.from_dict(data) for data in documents] == [random_genotype(default("cnn"), rng) for _ in range(3)]
    assert output.startswith("source: drawn uniformly from the search space, seed 4, number 1\n")
    (data,) = yaml.safe_load_all(darts("genotype", "random", "rnn", "--seed", 4).stdout)
    assert data["domain"] == "rnn"
    assert darts("genotype", "random", "cnn", "--seed", 5).stdout != darts("genotype", "random", "cnn", "--seed", 4).stdout


def test_convert_from_file_name_and_stdin(tmp_path):
    literal = darts("genotype", "convert", "nasnet", "--to", "python").stdout
    assert literal.startswith("Genotype(normal=[('sep_conv_5x5', 1), ")
    (tmp_path / "literal.py").write_text(literal)
    (tmp_path / "cell.yaml").write_text(darts("genotype", "convert", tmp_path / "literal.py").stdout)
    assert load(tmp_path / "cell.yaml") == load("nasnet")
    done = CliRunner().invoke(main, ["genotype", "convert", "-", "--to", "dict"], input=literal)
    assert json.loads(done.stdout)["reduce_concat"] == [4, 5, 6]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"\xff\xfe", "stdin: not UTF-8 text"),
        (b"#" * (1 << 20) + b"#", "stdin: more than 1,048,576 bytes"),
        (b"exit()", "stdin: "),
    ],
)
def test_what_stdin_may_hold(given, message):
    command = [sys.executable, "-m", "darts_cli", "genotype", "convert", "-"]
    done = subprocess.run(command, input=given, capture_output=True)
    assert done.returncode == 1
    assert done.stdout == b""
    assert message in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1
