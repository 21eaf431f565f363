"""Every reader, given what nobody would write: it succeeds or raises DartsError, soon and within a gigabyte."""

import json
import math
import os
import random
import resource
import shutil
import sys
import time

import click
import memory
import old_format
import pytest
import torch
from conftest import TINY, darts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from darts_cli import DartsError, files, legacy
from darts_cli.cli import main
from darts_cli.cnn import data, evaluate
from darts_cli.config import SearchCNN, TrainCNN, TrainRNN
from darts_cli.formats import genotypes
from darts_cli.genotype import Genotype, load
from darts_cli.rnn import evaluate as rnn_evaluate
from darts_cli.rnn.data import Corpus
from darts_cli.runs import history
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

SECONDS, ROOM = 5, 1 << 30

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")


def cases(count):
    """That many examples, drawn the same every time, of which none is kept."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


@pytest.fixture(autouse=True)
def little_memory():
    """A gigabyte more than there is now: whoever believes a large number meets MemoryError."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def tmp_path(tmp_path):
    with memory.folder(tmp_path) as folder:
        yield folder


def survives(read, *args):
    """Whether it read something; DartsError, in time, is the only other way to end."""
    begun, said = time.monotonic(), ""
    try:
        read(*args)
    except DartsError as error:
        said = str(error)
    assert time.monotonic() - begun < SECONDS
    assert len(said) < 2000
    return not said


def edited(original, tokens):
    """The strategy of a text, or of bytes, after one to eight edits: insert, replace, delete, cut off or repeat.

    The edits come from one drawn number, since drawing them one by one takes longer than parsing the result.
    """

    def apply(seed):
        chance, content = random.Random(seed), original
        for _ in range(chance.randint(1, 8)):
            at, length, token = chance.randint(0, len(content)), chance.randint(0, 60), chance.choice(tokens)
            start, passage, rest = content[:at], content[at : at + length], content[at + length :]
            edits = [start + token + passage + rest, start + token + rest, start + rest, start + passage * 2 + rest]
            content = chance.choice([*edits, start if chance.random() < 0.2 else content])
        return content

    return st.integers(0, 1 << 64).map(apply)


WORDS = ["domain", "cnn", "rnn", "normal", "reduce", "nodes", "concat", "sep_conv_3x3", "relu", "null", "true", "~", "!!int"]
WORDS += [
    "&a",
    "*a",
    "<<: *a",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "\n",
    "  ",
    "\t",
    "#",
    "|",
    ">",
    "?",
    "\x00",
    "\x1b[2J",
]
WORDS += [
    "é",
    "\u2028",
    "1e999",
    "-1",
    "0x10",
    "9" * 400,
    "999999999999",
    ".nan",
    ".inf",
    "2024-01-01",
    "+",
    "**9**9",
    "(" * 50,
]
WORDS += ["!!python/object/apply:os.system [ls]", "Genotype(", ")", "range(2, 6)", "range(0, 10**9)", "lambda: 0"]
WORDS += ["[" * 200, "__import__('os')"]


def genotype_of(text):
    Genotype.from_dict(files.parse_yaml(text, "file.yaml"))


@pytest.mark.slow
@cases(4000)
@given(edited(load("cnn/darts_v2").to_yaml(), WORDS) | edited(load("rnn/darts_v2").to_yaml(), WORDS) | st.text(max_size=200))
def test_genotype_files(text):
    survives(genotype_of, text)


@pytest.mark.slow
@cases(4000)
@given(
    edited(genotypes.to_python(load("cnn/darts_v2")), WORDS)
    | edited(genotypes.to_dict(load("rnn/darts_v2")), WORDS)
    | edited(genotypes.to_tuples(load("cnn/darts_v2")), WORDS)
    | edited(genotypes.to_string(load("cnn/darts_v2")), WORDS)
)
def test_literals(text):
    survives(genotypes.parse, text, "the text")


@pytest.mark.slow
def test_configurations(tmp_path):
    run = Run(Task("search", "cnn"), SearchCNN(dataset="digits"), tmp_path / "run")
    run.start({}, {"fingerprint": "0"})
    path, command = tmp_path / "config.yaml", main.commands["search"].commands["cnn"]

    def parse(text):
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            context = command.make_context("cnn", ["--config", str(path)], parent=click.Context(main, **main.context_settings))
            names = SearchCNN().to_dict()
            SearchCNN(**{name: value for name, value in context.params.items() if name in names})
        except click.UsageError as error:
            raise DartsError(error.format_message()) from None

    settings_of_a_run = (tmp_path / "run" / "config.yaml").read_text()
    keys = [*SearchCNN().to_dict(), "genotype", "command", "environment", *WORDS]

    @cases(4000)
    @given(edited(settings_of_a_run, keys) | st.text(max_size=100))
    def check(text):
        survives(parse, text)

    assert survives(parse, settings_of_a_run)
    check()


@pytest.mark.slow
def test_texts(tmp_path):
    parts = ("train", "valid", "test")
    tokens = [
        b"<unk>",
        b"\n",
        b" ",
        b"\xff",
        b"\x00",
        b"\xe2\x80\xa8",
        b"\r",
        b"\xf0\x9f\x92\xa9",
        b"a" * 5000,
        b"\xed\xa0\x80",
    ]

    @cases(4000)
    @given(edited(b"the cat sat\non the mat\n", tokens) | st.binary(max_size=300), st.sampled_from(parts))
    def check(content, edited_part):
        for part in parts:
            (tmp_path / f"{part}.txt").write_bytes(content if part == edited_part else b"the cat\n")
        survives(lambda: Corpus(tmp_path).about())

    check()


# ---- checkpoints


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    """The smallest training there is."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    args = ["train", "cnn", *TINY[:2], "--epochs", 1, "--layers", 1, "--channels", 2, "--batch-size", 24, "--data", parts]
    assert darts(*args, "--run", folder).exit_code == 0
    return folder


BYTES = [bytes([each]) for each in range(256)] + [b"\xff" * 8, bytes(8), b"\0\0\0\x80", b"PK\x03\x04", b"\x80\x02"]
BYTES += [b"cposix\nsystem\n", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"K\xff", b"J\xff\xff\xff\x7f", b"R", b"b."]


@pytest.mark.slow
def test_new_checkpoints(trained, tmp_path):
    content, path = (trained / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"

    @cases(1000)
    @given(edited(content, BYTES) | st.binary(max_size=100).map(lambda more: b"PK\x03\x04" + more))
    def check(changed):
        path.write_bytes(changed)
        if survives(legacy.read_checkpoint, path):
            survives(evaluate.restore, path)

    path.write_bytes(content)
    assert survives(evaluate.restore, path)
    check()


@pytest.mark.slow
def test_old_checkpoints(trained, tmp_path):
    path = tmp_path / "model.pt"
    state = torch.load(trained / "checkpoint.pt", weights_only=True)["network"]
    old_format.write(
        path, {"epoch": 3, "state_dict": {key: state[key] for key in list(state)[:12] if state[key].is_floating_point()}}
    )
    content = path.read_bytes()
    assert survives(legacy.read_checkpoint, path)

    @cases(1000)
    @given(edited(content, BYTES) | st.binary(max_size=100))
    def check(changed):
        path.write_bytes(changed)
        if survives(legacy.read_checkpoint, path):
            survives(evaluate.restore, path)

    check()


VALUES = [None, True, 0, -1, 2, 10**9, 2**63, 1e300, float("nan"), "", "x", "digits", "nasnet", [], [7], {}, {"a": 1}]
VALUES += [torch.zeros(0), torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)]


def paths(state):
    """The keys that lead to every part of a state."""
    inside = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return [(key, *rest) for key, value in inside for rest in [(), *paths(value)]]


def changed_at(state, path, value):
    """A copy of the state with another value at a path, or with nothing there."""
    if not path:
        return value
    key, *rest = path
    copy = state.copy()
    if value is DELETED and not rest:
        copy.pop(key)
    else:
        copy[key] = changed_at(state[key], rest, value)
    return copy


DELETED = object()


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_states_that_somebody_has_written(trained, parts, text, tmp_path, domain):
    """Valid files in which one part has another value or is missing: evaluated or refused, and the same for a resumed run.

    The data to evaluate on is as small as can be.
    """
    path, small = tmp_path / "checkpoint.pt", tmp_path / "small"
    if domain == "cnn":
        run, evaluated = trained, evaluate.evaluate
        for name in ("dark", "light"):
            (small / "test" / name).mkdir(parents=True)
            shutil.copy(next((parts / "test" / name).iterdir()), small / "test" / name)
    else:
        run, evaluated = tmp_path / "run", rnn_evaluate.evaluate
        args = ["train", "rnn", "--dataset", "text", "--data", text, "--epochs", 1, "--dim", 2, "--batch-size", 4]
        assert darts(*args, "--eval-batch-size", 2, "--run", run).exit_code == 0
        small.mkdir()
        (small / "test.txt").write_text("a b c\n")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    network, kind = evaluated.__globals__["restore"](run).network, {"cnn": TrainCNN, "rnn": TrainRNN}[domain]
    config, cells = kind.from_dict(state["config"]), Genotype.from_dict(state["genotype"])
    fresh = {name: state[name] for name in state.keys() - {"network", "optimizer", "metrics", "command", "config"}}
    fresh = {name: fresh[name] for name in fresh.keys() - {"genotype", "data"}}

    def resume():
        again = Run(Task("train", domain), config, tmp_path / "again", cells)
        again.state.data = state["data"]
        assert again.state.restore(fresh, network=network)["epoch"] in (0, 1)

    (tmp_path / "again").mkdir()

    @cases(600)
    @given(st.sampled_from(paths(state)), st.sampled_from([*VALUES, DELETED]))
    def check(keys, value):
        torch.save(changed_at(state, keys, value), path)
        survives(evaluated, path, None, None, str(small))
        shutil.copy(path, tmp_path / "again" / "checkpoint.pt")
        survives(resume)

    torch.save(state, path)
    assert survives(evaluated, path, None, None, str(small))
    check()


# ---- folders


@pytest.mark.slow
def test_run_folders(trained, tmp_path):
    """One of its files changed: the run, its history and the genotype are read or refused."""
    run = tmp_path / "run"
    config = torch.load(trained / "checkpoint.pt", weights_only=True)["config"]
    names = ["config.yaml", "metrics.jsonl", "genotype.yaml", "log.jsonl", "checkpoint.pt.sha256"]
    originals = {name: (trained / name).read_bytes() for name in names}
    tokens = [word.encode("utf-8", "surrogatepass") for word in WORDS] + BYTES
    settings_of_it = TrainCNN.from_dict(config)

    def read():
        cells = load(run, "cnn")
        again = Run(Task("train", "cnn"), settings_of_it, run, cells)
        again.state.restore({"epoch": 0, "step": 0, "sums": torch.zeros(4)})
        assert math.isfinite(again.reports.seconds())

    @cases(1000)
    @given(st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), edited(originals[name], tokens))))
    def check(change):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(trained, run)
        (run / change[0]).write_bytes(change[1])
        survives(read)
        survives(history.read, run)

    check()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_image_folders(tmp_path):
    originals = []
    for form in ("png", "jpeg", "gif", "bmp", "webp"):
        path = tmp_path / f"image.{form}"
        Image.new("RGB", (16, 16), (200, 10, 60)).save(path)
        originals.append((form, path.read_bytes()))
    folder = tmp_path / "images"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(folder / name / "0.png")

    @cases(1000)
    @given(st.sampled_from(originals).flatmap(lambda each: st.tuples(st.just(each[0]), edited(each[1], BYTES))))
    def check(change):
        path = folder / "b" / f"1.{change[0]}"
        path.write_bytes(change[1])
        survives(data.load, "folder", str(folder))
        path.unlink()

    assert survives(data.load, "folder", str(folder))
    check()


# ---- what is made to hurt


def test_a_yaml_bomb():
    levels = "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(12))
    text = f"a: &a [lol]\n{levels}\ndomain: cnn\nnormal: *m\nreduce: *m\n"
    assert not survives(genotype_of, text)
    assert not survives(genotypes.parse, text, "the text")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5000, "- " * 5000, "domain: cnn\nnormal: " + "[" * 2000])
def test_deep_nesting(text):
    assert not survives(genotypes.parse, text, "the text")
    assert not survives(genotype_of, text)


@pytest.mark.parametrize("name", ["config.yaml", "checkpoint.pt", "checkpoint.pt.sha256", "metrics.jsonl", "genotype.yaml"])
@pytest.mark.parametrize("what", ["pipe", "folder", "dangling", "loop", "zero"])
def test_a_file_that_is_none(trained, tmp_path, name, what):
    """A pipe that nobody writes to, a folder, a link to nothing, a link to itself, a device without end."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "best.pt").unlink(missing_ok=True)
    path = run / name
    path.unlink()
    match what:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "nothing")
        case "loop":
            path.symlink_to(path)
        case "zero":
            path.symlink_to("/dev/zero")
    for args in (["eval", "--checkpoint", run], ["visualize", run, "--format", "text"], ["genotype", "show", run]):
        result = darts(*args)
        assert result.exit_code in (0, 1, 2)
        assert result.exit_code == 0 or result.stderr.startswith("error: ")


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_image_folders_with_pipes_and_links(images, tmp_path, what):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    if what == "pipe":
        os.mkfifo(folder / "dark" / "000.png")
        said = "not a regular file"
    else:
        (folder / "dark" / "again").symlink_to(folder)
        said = "is a link that leads back into"
    with pytest.raises(DartsError, match=said):
        data.load("folder", str(folder))


def test_a_pipe_in_place_of_a_text(text, tmp_path):
    shutil.copytree(text, tmp_path / "text")
    (tmp_path / "text" / "valid.txt").unlink()
    os.mkfifo(tmp_path / "text" / "valid.txt")
    with pytest.raises(DartsError, match=r"valid\.txt: not a regular file"):
        Corpus(tmp_path / "text")


@pytest.mark.slow
def test_a_folder_whose_name_a_terminal_would_obey(tiny, tmp_path):
    run = tmp_path / "run\x1b]0;owned\x07\x1b[2J"
    result = darts(*tiny, "--epochs", 1, "--run", run)
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert r"run\x1b]0;owned\x07\x1b[2J" in result.stderr
    assert json.loads((run / "metrics.jsonl").read_text())["epoch"] == 1


def test_a_name_does_not_lead_out_of_the_published_cells():
    for name in ("../genotypes/cnn/nasnet", "cnn/../rnn/enas", "cnn/../../README", "CNN/../cnn/nasnet"):
        assert not survives(load, name)
