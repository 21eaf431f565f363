"""The command: its transcripts, and one line for every mistake."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import darts, start

from darts_cli import __version__
from darts_cli.cli import main
from darts_cli.cnn import data
from darts_cli.commands.search import _show_cells
from darts_cli.config import SearchCNN
from darts_cli.genotype import Cell, Edge, Genotype, load
from darts_cli.runs.run import Run
from darts_cli.runs.task import Task

GENOTYPES = Path(__file__).parent.parent / "genotypes"
BAD = Path(__file__).parent / "data" / "genotypes" / "bad"
SEARCH = ["search", "cnn", "--dataset", "digits"]
TRAIN = ["train", "cnn", "--dataset", "digits"]

# What every message has one of: a rule that the value breaks, what there is instead, or what to do.
REMEDY = (
    "must be|needs |there (is|are) |only for|only together|such as|did you mean|may use|made of|a mapping with|[Ss]ee darts|"
    "use |name |leave |delete |write |draw |choose |list every|its first epoch|after the first|no such file|"
    "line 2, column 1|has .*, "
)

# What is typed; the exit code; what the one line on stderr says.
MISTAKES = [
    (["serch"], 2, "No such command 'serch'(. Did you mean 'search'[?] See|; see) darts --help"),
    (["search", "vit"], 2, "No such command 'vit'"),
    (["search", "rnn", "--stop", "skips"], 2, "--stop: is an option of darts search cnn, not of darts search rnn; see"),
    (["search", "cnn", "--gpu", "0"], 2, "--gpu: is an option of the original; use --device cuda:N; see darts search cnn"),
    (["train", "rnn", "--save", "a"], 2, "--save: is an option of the original; use --run DIR; see darts train rnn"),
    (["train", "rnn", "--max_seq_len_delta", "20"], 2, "--max-seq-len-delta: is an option of the original; leave it out"),
    (["search", "rnn", "--dataset", "imagenet"], 2, "'imagenet' is not one of 'ptb'"),
    (["search", "cnn", "--dataset", "imagenet"], 2, "'imagenet' is for trainings and evaluations; use --dataset folder"),
    (["search", "cnn", "--epoch", "3"], 2, "No such option:? '?--epoch'?.*--epochs.*; see darts search cnn --help"),
    (["search", "cnn", "extra"], 2, "unexpected extra argument"),
    ([*SEARCH, "--batch-size", "0"], 2, "'--batch-size' / '--batch': 0 is not in the range x>=1; see darts search cnn --help"),
    ([*SEARCH, "--batch", "many"], 2, "'many' is not a valid integer"),
    ([*SEARCH, "--layers", "2"], 2, "--layers 2: must be at least 3, two of which reduce"),
    ([*SEARCH, "--channels", "5"], 2, "--channels 5: must be a multiple of 2"),
    ([*SEARCH, "--seed", "-1"], 2, "-1 is not in the range x>=0"),
    ([*SEARCH, "--epochs", "0"], 2, "0 is not in the range x>=1"),
    ([*SEARCH, "--train-portion", "1.0"], 2, "1.0 is not in the range 0<x<1"),
    ([*SEARCH, "--train-portion", "1e-9"], 2, "--train-portion 1e-09: of 1438 images it leaves too few in one part"),
    ([*SEARCH, "--lr", "nan"], 2, "--lr nan: must be more than 0"),
    ([*SEARCH, "--lr", "inf"], 2, "--lr inf: must be finite"),
    ([*SEARCH, "--lr-min", "1"], 2, "--lr-min 1.0: must be at most the initial learning rate, --lr 0.025"),
    ([*SEARCH, "--alpha-betas", "0.5", "1"], 2, "1.0 is not in the range 0<=x<1"),
    ([*SEARCH, "--precision", "fp16"], 2, "'fp16' is not one of 'fp32', 'tf32', 'bf16'"),
    ([*SEARCH, "--dataset", "mnist"], 2, "'mnist' is not one of 'cifar10'"),
    ([*SEARCH, "--device", "tpu"], 2, "--device tpu: there is no such device here; use auto or one of .*cpu"),
    ([*SEARCH, "--device", "cuda:99"], 2, "--device cuda:99: there is no such device here"),
    ([*SEARCH, "--config", "none.yaml"], 1, "none.yaml: no such file"),
    (
        [*SEARCH, "--config", "unknown.yaml"],
        2,
        r"unknown.yaml: unknown key 'epochss' .did you mean epochs\?.; see darts search cnn --help",
    ),
    ([*SEARCH, "--config", "range.yaml"], 2, "range.yaml: layers: must be at least 1, not 0; see darts search cnn --help"),
    ([*SEARCH, "--config", "words.yaml"], 2, "words.yaml: epochs: must be a whole number, not 'many'; see"),
    ([*SEARCH, "--run", "file/run"], 1, "file/run: cannot be (used as run folder|written to) .*choose another"),
    ([*SEARCH, "--run", "file"], 1, "file: is a file, not a run folder"),
    ([*SEARCH, "--run", "."], 1, "holds other files and no config.yaml"),
    ([*SEARCH, "--run", "other"], 1, "--epochs was 3, now 5.*choose another folder with --run"),
    (
        [*SEARCH, "--epochs", "3", "--run", "other"],
        1,
        "other/checkpoint.pt: is damaged: .*; delete other/checkpoint.pt to start",
    ),
    (["search", "cnn", "--dataset", "folder"], 2, "--dataset folder needs --data DIR"),
    (["search", "cnn", "--dataset", "folder", "--data", "absent"], 1, "absent: is not a folder of images"),
    (["search", "cnn", "--dataset", "folder", "--data", "one"], 1, "one: has one class, a; there must be two or more"),
    ([*SEARCH, "--data", "two"], 2, "--data two: digits is built in and has no folder; use --dataset folder"),
    (["search", "cnn", "--data", "one"], 1, "one: CIFAR-10 is missing here or incomplete; leave --data out to download it"),
    (["search", "cnn", "--dataset", "folder", "--seeds", "2"], 2, "--dataset folder needs --data DIR"),
    (["train", "rnn", "--repeats", "2"], 2, "--dataset ptb needs --data DIR"),
    ([*SEARCH, "--seeds", "0"], 2, "--seeds 0: must be a count of at least 1, or a list of different seeds such as 0,3,7"),
    ([*SEARCH, "--seeds", "-2"], 2, "--seeds -2: must be a count of at least 1"),
    ([*SEARCH, "--seeds", "3,x"], 2, "--seeds 3,x: must be a count of at least 1"),
    ([*SEARCH, "--seeds", "3,"], 2, "--seeds 3,: must be a count of at least 1"),
    ([*SEARCH, "--seeds", "0,3,0"], 2, "--seeds 0,3,0: lists the seed 0 twice"),
    ([*SEARCH, "--seeds", "0,3", "--seed", "9"], 2, "--seed 9: is not the first of --seeds 0,3; leave --seed out"),
    ([*SEARCH, "--seeds", "2", "--random-cells", "1000000000"], 2, "1000000000 is not in the range 0<=x<=10000"),
    (["train", "cnn", "--dataset", "digits", "--repeats", "1000000000"], 2, "1000000000 is not in the range 1<=x<=10000"),
    ([*SEARCH, "--select-epochs", "3"], 2, "--select-epochs: only together with --seeds"),
    ([*SEARCH, "--seeds", "2", "--select-epochs", "-1"], 2, "-1 is not in the range x>=0"),
    ([*SEARCH, "--seeds", "2", "--parallel", "0"], 2, "--parallel 0: must be auto, or a number of runs"),
    (
        [*SEARCH, "--seeds", "2", "--select-epochs", "0", "--random-cells", "1"],
        2,
        "--random-cells: nothing is trained with --select-epochs 0",
    ),
    ([*SEARCH, "--seeds", "2", "--batch-size", "1"], 2, "--batch-size 1: must be at least 2"),
    ([*SEARCH, "--seeds", "2", "--device", "tpu"], 2, "--device tpu: there is no such device here"),
    (
        [*SEARCH, "--seeds", "2", "--run", "other"],
        1,
        "other: is the run folder of darts search cnn; choose another folder",
    ),
    ([*SEARCH, "--seeds", "2", "--run", "file"], 1, "file: is a file, not a run folder"),
    ([*SEARCH, "--random-cells", "1"], 2, "--random-cells: only together with --seeds"),
    ([*SEARCH, "--select-settings", "channels=8"], 2, "--select-settings: only together with --seeds"),
    ([*SEARCH, "--seeds", "2", "--select-settings", "channels"], 2, "'channels': write NAME=VALUE,..., such as channels=8"),
    ([*SEARCH, "--seeds", "2", "--select-settings", "chanels=8"], 2, "unknown key 'chanels' .did you mean channels"),
    ([*SEARCH, "--seeds", "2", "--select-settings", "layers=few"], 2, "--select-settings: layers: must be a whole number"),
    ([*SEARCH, "--seeds", "2", "--select-settings", "epochs=3"], 2, "leave epochs out, which --select-epochs gives"),
    ([*SEARCH, "--seeds", "2", "--select-settings", "dataset=svhn"], 2, "dataset is that of the search for all trainings"),
    (
        [*SEARCH, "--seeds", "2", "--select-settings", "channels=8", "--select-epochs", "0"],
        2,
        "--select-settings: nothing is trained with --select-epochs 0",
    ),
    (["search", "rnn", "--parallel", "2"], 2, "--parallel: only together with --seeds"),
    (["search", "rnn", "--dim", "0"], 2, "0 is not in the range x>=1"),
    (["search", "rnn", "--bptt", "x"], 2, "'x' is not a valid integer"),
    (["search", "rnn", "--dropout", "1"], 2, "1.0 is not in the range 0<=x<1"),
    (["search", "rnn", "--dataset", "cifar10"], 2, "'cifar10' is not one of 'ptb', 'wt2', 'text', 'pydoc'"),
    (["search", "rnn"], 2, "--dataset ptb needs --data DIR: a folder with train.txt, valid.txt and test.txt, Mikolov's"),
    (["search", "rnn", "--data", "one"], 1, "one/train.txt: no such file; there must be train.txt, valid.txt and test.txt"),
    (["search", "rnn", "--dataset", "pydoc", "--data", "one"], 2, "--data one: pydoc is built in and has no folder"),
    (["search", "rnn", "--dataset", "text", "--data", "words"], 1, "words/valid.txt: holds no words"),
    (["search", "rnn", "--channels", "4"], 2, "--channels: is an option of darts search cnn, not of darts search rnn"),
    (["train", "cnn", "--unrolled"], 2, "--unrolled: is an option of darts search cnn, not of darts train cnn"),
    (["search", "rnn", "--patience", "4"], 2, "--patience: is an option of darts train rnn, not of darts search rnn"),
    (
        ["plan", "search", "rnn", "--stop", "skips"],
        2,
        "--stop: is an option of darts plan search cnn, not of darts plan search rnn",
    ),
    (["genotype", "show", "--unrolled"], 2, "No such option '--unrolled'"),
    (["train", "rnn", "--genotype", "nasnet"], 1, "nasnet: its domain is cnn, but cells of the domain rnn are needed here"),
    (["train", "rnn", "--init-op", "gelu"], 2, "'gelu' is not one of 'tanh', 'relu', 'sigmoid', 'identity'"),
    (["train", "rnn", "--batch-chunks", "65"], 2, "--batch-chunks 65: must be at most --batch-size 64"),
    (["train", "rnn", "--asgd-below", "1"], 2, "1.0 is not in the range x>1"),
    (["train", "rnn", "--dataset", "pydoc", "--init-from", "file"], 1, "file: is no checkpoint, or is damaged; name another"),
    (["train", "vit"], 2, "No such command 'vit'"),
    ([*TRAIN, "--repeats", "0"], 2, "0 is not in the range 1<=x<=10000"),
    ([*TRAIN, "--parallel", "auto"], 2, "--parallel: only together with --repeats"),
    ([*TRAIN, "--repeats", "2", "--parallel", "many"], 2, "--parallel many: must be auto, or a number of runs"),
    ([*TRAIN, "--genotype", "darts_v9"], 1, "darts_v9: no genotype of this name and no such file .*did you mean DARTS_V"),
    ([*TRAIN, "--genotype", "enas"], 1, "enas: its domain is rnn, but cells of the domain cnn are needed here"),
    ([*TRAIN, "--genotype", "rnn/darts_v2"], 1, "DARTS_V2.yaml: its domain is rnn, but cells of the domain cnn are needed"),
    ([*TRAIN, "--genotype", "one"], 1, "one: holds no genotype.yaml; name the run folder of a search"),
    ([*TRAIN, "--batch-size", "1"], 2, "1 is not in the range x>=2"),
    ([*TRAIN, "--config", "list.yaml"], 1, re.escape("['a']: no such file") + "|no genotype of this name"),
    (["search", "cnn", "--dataset", "folder", "--data", "tests"], 1, "tests: has a test part, but no folder train"),
    ([*TRAIN, "--layers", "0"], 2, "0 is not in the range x>=1"),
    ([*TRAIN, "--channels", "7"], 2, "--channels 7: must be a multiple of 2"),
    ([*TRAIN, "--train-portion", "1.1"], 2, "1.1 is not in the range 0<x<=1"),
    ([*TRAIN, "--drop-path", "1"], 2, "1.0 is not in the range 0<=x<1"),
    ([*TRAIN, "--cutout", "3"], 2, "--cutout 3: must be a multiple of 2"),
    ([*TRAIN, "--warmup", "30"], 2, "--warmup 30: must be less than --epochs 30"),
    ([*TRAIN, "--schedule", "step"], 2, "'step' is not one of 'cosine', 'exponential'"),
    ([*TRAIN, "--color-jitter", "1", "0", "0", "0"], 2, "--color-jitter: only for --dataset imagenet, not digits"),
    (["train", "cnn", "--dataset", "imagenet", "--color-jitter", "0", "0", "0", "0.6"], 2, "hue 0.6 must be at most 0.5"),
    ([*TRAIN, "--auxiliary"], 2, "an auxiliary head is for images of 32x32 pixels, not 8x8; use --no-auxiliary"),
    ([*TRAIN, "--init-from", "absent.pt"], 1, "absent.pt: no such file"),
    ([*TRAIN, "--init-from", "file"], 1, "file: is no checkpoint, or is damaged; name another"),
    ([*TRAIN, "--init-from", "other"], 1, "other/checkpoint.pt: is damaged: it is not what was written"),
    ([*TRAIN, "--run", "other"], 1, "other: is the run folder of darts search cnn; choose another folder"),
    ([*TRAIN, "--config", "recipe.yaml"], 1, "--config: genotype: normal: this cell is missing"),
    (["train", "cnn", "--dataset", "imagenet"], 2, "--dataset imagenet needs --data DIR"),
    (["train", "cnn", "--dataset", "imagenet", "--data", "one"], 1, "one/train: is not a folder of images"),
    (["train", "cnn", "--dataset", "folder", "--data", "two"], 1, "two: has no test part"),
    (["eval"], 2, "name one run folder or checkpoint to evaluate"),
    (["eval", "--checkpoint", "absent"], 1, "absent: no such file"),
    (["eval", "--checkpoint", "one"], 1, "one: holds no checkpoint, neither best.pt nor checkpoint.pt"),
    (["eval", "--checkpoint", "file"], 1, "file: is no checkpoint, or is damaged; name another"),
    (["eval", "--checkpoint", "file", "--batch-size", "0"], 2, "0 is not in the range x>=1"),
    (["genotype", "show"], 2, "Missing argument 'NAME|FILE|RUN'"),
    (["genotype", "show", "darts_v9"], 1, "darts_v9: no genotype of this name and no such file"),
    (["genotype", "show", "darts_v1"], 1, "write cnn/darts_v1 or rnn/darts_v1"),
    (["genotype", "show", "one"], 1, "one: holds no genotype.yaml; name the run folder of a search"),
    (["genotype", "show", "bad\x1b[31m.yaml"], 1, re.escape(r"bad\x1b[31m.yaml: no such file")),
    (["genotype", "show", str(BAD / "input_too_high.yaml")], 1, re.escape("normal.nodes[0][1]: input 2 does not exist yet")),
    (["genotype", "list", "vit"], 2, "'vit' is not one of 'cnn', 'rnn'"),
    (["genotype", "validate"], 2, "Missing argument 'FILE...'"),
    (["genotype", "info", "nasnet", "--channels", "5"], 2, "--channels 5: must be a multiple of 2"),
    (["genotype", "info", "nasnet", "--resolution", "30"], 2, "--resolution 30: must be a multiple of 4"),
    (["genotype", "info", "nasnet", "--resolution", "130"], 2, "--resolution 130: must be a multiple of 32 for the network of"),
    (["genotype", "info", "enas", "--layers", "3"], 2, "are for convolutional cells; use --dim and --vocab"),
    (["genotype", "diff", "nasnet", "enas"], 1, "nasnet and enas: they are of different domains, cnn and rnn"),
    (["genotype", "diff", "nasnet"], 2, "Missing argument 'B'"),
    (["genotype", "random", "vit"], 2, "'vit' is not one of 'cnn', 'rnn'"),
    (["genotype", "convert", "file"], 1, "file: holds no genotype in a known notation"),
    (["genotype", "convert", "absent"], 1, "absent: no genotype of this name and no such file"),
    (["genotype", "convert", "enas", "--to", "tuples"], 1, "tuples express convolutional cells"),
    (["genotype", "convert", "nasnet", "--to", "json"], 2, "'json' is not one of 'yaml', 'python'"),
    (["visualize"], 2, "Missing argument 'GENOTYPE|RUN...'"),
    (["visualize", "absent"], 1, "absent: no genotype of this name and no such file"),
    (["visualize", "file"], 1, "file: holds no genotype in a known notation"),
    (["visualize", "odd.yaml"], 1, "odd.yaml: line 2, column 1: not valid YAML"),
    (
        ["visualize", "other"],
        1,
        "other: this run has no finished epoch yet; darts search cnn writes its metrics after the first",
    ),
    (["visualize", "one"], 1, "one: holds no genotype.yaml; name the run folder of a search"),
    (["visualize", "nasnet", "--what", "curves"], 2, "nasnet: --what curves is for run folders, but this is a genotype"),
    (["visualize", "nasnet", "--html", "page.html"], 2, "nasnet: --html is for run folders, but this is a genotype"),
    (["genotype", "info", "nasnet", "--dim", "3"], 2, "--dim and --vocab are for recurrent cells"),
    (["visualize", "nasnet", "--html", "p.html", "--format", "svg"], 2, "leave --what, --format and --output out"),
    (
        ["visualize", "nasnet", "--what", "alphas", "--format", "dot"],
        2,
        "--format dot: only cells are drawn like this; for alphas use pdf",
    ),
    (["visualize", "nasnet", "--output", "x.svg", "--format", "png"], 2, "the ending .svg contradicts --format png"),
    (["visualize", "nasnet", "--what", "animation", "--format", "pdf"], 2, "--format pdf: animations are GIFs; leave it out"),
    (["visualize", "nasnet", "--output", "x.gif"], 2, "x.gif: no format has this ending; a GIF needs --what animation"),
    (
        ["visualize", "nasnet", "--output", "x.jpg"],
        2,
        "x.jpg: no format has this ending; use .pdf, .svg, .png, .dot or .txt",
    ),
    (["visualize", "nasnet", "--format", "text", "--view"], 2, "--view: text is shown in the terminal"),
    (["visualize", "a" * 300], 1, "no genotype of this name and no such file"),
    (["genotype", "convert", "a" * 300], 1, "no genotype of this name and no such file"),
    (["visualize", "nasnet", "--format", "dot", "--output", "file/out"], 1, "file/out: cannot be written to .*--output"),
    (["visualize", "nasnet", "cnn/nasnet", "--format", "dot"], 1, "NASNet-normal.dot: would be written twice"),
]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with what the mistakes are about."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "one" / "a").mkdir(parents=True)
    (tmp_path / "one" / "a" / "a.png").write_bytes((Path(__file__).parent / "data" / "dot.png").read_bytes())
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        shutil.copy(tmp_path / "one" / "a" / "a.png", tmp_path / "two" / name)
    shutil.copytree(tmp_path / "two", tmp_path / "tests" / "test")
    (tmp_path / "odd.yaml").write_text("[")
    (tmp_path / "words").mkdir()
    for part, words in (("train", "a b"), ("valid", " "), ("test", "a")):
        (tmp_path / "words" / f"{part}.txt").write_text(words)
    (tmp_path / "list.yaml").write_text("genotype: [a]")
    (tmp_path / "recipe.yaml").write_text("epochs: 3\ngenotype: {domain: cnn}\n")
    (tmp_path / "unknown.yaml").write_text("epochss: 3")
    (tmp_path / "range.yaml").write_text("layers: 0")
    (tmp_path / "words.yaml").write_text("epochs: many")
    (tmp_path / "other").mkdir()
    run = Run(Task("search", "cnn"), SearchCNN(dataset="digits", epochs=3), "other")
    run.start({}, data.load("digits", None).about())
    run.state.save({"epoch": 0, "step": 1, "sums": torch.zeros(1)})
    path = tmp_path / "other" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    return tmp_path


@pytest.mark.parametrize(("args", "code", "message"), MISTAKES, ids=[" ".join(args)[-60:] for args, _, _ in MISTAKES])
def test_a_mistake_gives_one_line(desk, args, code, message):
    before = sorted(desk.rglob("*"))
    result = darts(*args)
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert re.search(message, result.stderr), result.stderr
    assert re.search(REMEDY, result.stderr), result.stderr
    assert sorted(desk.rglob("*")) == before  # nothing half-written


def test_what_comes_after_a_search_is_its_training(capsys):
    """On the same data, which that takes from the run."""
    _show_cells(load("darts_v2", "rnn"), "rnn", "the run", quiet=False)
    assert capsys.readouterr().err == "in the run, see report.md; next: darts train rnn --genotype 'the run'\n"


def test_a_search_that_looks_collapsed_is_told(capsys):
    nodes = ((Edge("skip_connect", 0), Edge("skip_connect", 1)),) * 4
    cells = Genotype("cnn", {name: Cell(nodes, (2, 3, 4, 5)) for name in ("normal", "reduce")})
    _show_cells(cells, "cnn", "run", quiet=False)
    out, err = capsys.readouterr()
    assert out == cells.to_yaml()
    assert err.startswith("warning: the normal cell has 8 skip connections.")


def test_no_arguments_show_the_help():
    result = darts()
    assert result.exit_code == 2
    assert "search" in result.stderr


@pytest.mark.parametrize("group", [[], ["search"], ["train"], ["genotype"]])
def test_the_list_of_commands_is_whole_on_80_columns(group):
    text = CliRunner().invoke(main, [*group, "--help"], terminal_width=80).output
    commands = text.partition("Commands:\n")[2].splitlines()
    assert len(commands) >= 2
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


def test_version():
    versions = f"darts {__version__}\ntorch {torch.__version__}\npython {platform.python_version()}\n"
    assert re.fullmatch(re.escape(versions) + r"devices (cuda.* )?(mps )?cpu\n", darts("--version").stdout)


def test_list_is_a_table_of_the_published_cells():
    lines = darts("genotype", "list").stdout.splitlines()
    assert len(lines) == 13
    assert lines[0].split() == ["name", "domain", "hash", "parameters", "source"]
    assert any(line.split()[:2] == ["DARTS_V2", "cnn"] and "3,349,342  DARTS, second order" in line for line in lines)
    assert len(darts("genotype", "list", "rnn").stdout.splitlines()) == 4


def test_show_prints_the_file():
    assert darts("genotype", "show", "nasnet").stdout == (GENOTYPES / "cnn" / "NASNet.yaml").read_text()
    assert darts("genotype", "show", GENOTYPES / "rnn" / "ENAS.yaml").stdout == (GENOTYPES / "rnn" / "ENAS.yaml").read_text()


def test_validate_tells_all_problems_of_all_files(tmp_path):
    good, bad = GENOTYPES / "cnn" / "NASNet.yaml", tmp_path / "bad.yaml"
    bad.write_text("domain: rnn\nrecurrent: {nodes: [[[relu, 7]], [[gelu, 0]]], concat: [2]}\n")
    result = darts("genotype", "validate", bad, good, tmp_path / "absent.yaml")
    assert result.exit_code == 1
    assert result.stdout == f"{good}: valid\n"
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "recurrent.nodes[0][0]",
        "recurrent.nodes[1][0]",
        "no such file",
    ]
    assert darts("genotype", "validate", good).exit_code == 0


def test_a_config_file_of_a_run_repeats_it(tiny, tmp_path):
    """config.yaml is a --config file; the same settings find the same folder."""
    first = darts(*tiny, "--epochs", 1, "--run", tmp_path / "run")
    again = darts("search", "cnn", "--config", tmp_path / "run" / "config.yaml", "--run", tmp_path / "run")
    assert again.exit_code == 0, again.stderr
    assert "complete already" in again.stderr
    assert again.stdout == first.stdout


def test_the_module_runs_as_the_command_does():
    done = subprocess.run([sys.executable, "-m", "darts_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"darts {__version__}\n")


def test_a_closed_pipe_is_no_traceback():
    process = start("genotype", "list")
    process.stdout.close()
    process.wait(timeout=60)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("args", [["genotype", "list"], ["visualize", "nasnet", "--format", "text"]])
def test_a_full_disk_is_one_line(args):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "darts_cli", *args], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the result cannot be written (No space left on device)\n"


def test_text_in_a_file_is_not_obeyed(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text('source: "x\\u001b]0;t\\u0007"\n' + (GENOTYPES / "rnn" / "ENAS.yaml").read_text().split("\n", 2)[2])
    output = darts("genotype", "info", path).stdout
    assert "\x1b" not in output
    assert r"x\x1b]0;t\x07" in output
