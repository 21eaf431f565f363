"""What a run shows of itself: the pictures of its report, and the event files of TensorBoard."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import sessions
import torch
import yaml
from conftest import TINY, darts
from made_runs import EPOCHS, record_search, record_training
from PIL import Image

import darts_cli
from darts_cli.config import TrainCNN, TrainRNN
from darts_cli.genotype import Genotype, load
from darts_cli.pictures.cells.shapes import Words
from darts_cli.pictures.charts.heat import heat_map
from darts_cli.runs import history
from darts_cli.runs.identity import Identity
from darts_cli.runs.shown import events, table
from darts_cli.runs.shown.events import FILE, FOLDER, Events
from darts_cli.runs.shown.known import known
from darts_cli.runs.task import Task
from darts_cli.spaces import space as spaces

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
@pytest.mark.parametrize("record", [record_search, record_training])
def test_a_report_shows_curves_and_cells(record, domain, tmp_path):
    """Every picture that the report names is there, and the second writing changes no byte."""
    run = record(domain, tmp_path / "run")
    cells = run.genotype or Genotype.from_dict(run.reports.metrics[-1]["genotype"])
    names = re.findall(r"!\[[^\]]+\]\((.+?)\)", run.illustrate(cells))
    assert names == ["curves.svg", *(f"{kind}.svg" for kind in cells.cells)]
    first = [(run.folder / name).read_bytes() for name in names]
    drawn = [ElementTree.fromstring(content) for content in first]
    for kind, root in zip(cells.cells, drawn[1:], strict=True):
        labels = [group.find(f"{SVG}text").text for group in root.iter(f"{SVG}g") if group.get("class") == "edge"]
        assert sorted(labels) == sorted(edge.op for node in cells.cells[kind].nodes for edge in node)
    run.illustrate(cells)
    assert [(run.folder / name).read_bytes() for name in names] == first


def test_the_report_of_a_real_run(tiny, tmp_path):
    assert darts(*tiny, "--run", tmp_path / "run").exit_code == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert ", 2 classes, seed 0." in report
    known = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["environment"]
    assert f"\nEnvironment: darts {darts_cli.__version__}, " in report
    assert (
        f"torch {torch.__version__}, python {known['python']}, device {known['device']}, threads {known['threads']}." in report
    )
    for name in ("curves.svg", "normal.svg", "reduce.svg"):
        assert f"]({name})" in report
        assert (tmp_path / "run" / name).exists()


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("cnn/darts_v2", TrainCNN(seed=7), "test error 2.76 ± 0.09 %"),
        ("cnn/darts_v2", TrainCNN(seed=7, epochs=599), None),
        ("cnn/nasnet", TrainCNN(), None),
        ("cnn/darts_v2", TrainCNN("digits"), None),
        ("rnn/darts_v2", TrainRNN("wt2", data="texts"), "test perplexity 69.6"),
    ],
)
def test_published_numbers_are_named_where_the_protocol_is_that_of_the_paper(name, config, said):
    cells = load(name)
    found = known(Identity.of(Task("train", cells.domain), config, "run", cells), None)
    published = f"Published for these cells and this protocol: {said} (Liu et al., arXiv 1806.09055)."
    assert (published in found) if said else ("Published" not in found)


def test_how_far_a_run_is_from_the_published_mean():
    cells = load("cnn/darts_v2")
    identity = Identity.of(Task("train", "cnn"), TrainCNN(seed=7), "run", cells)
    assert known(identity, 2.76 - 1.5 * 0.09).endswith("This run lies 1.5 deviations below that.")
    assert known(identity, 2.76 + 0.18).endswith("This run lies 2.0 deviations above that.")


@pytest.mark.parametrize("record", [record_search, record_training])
def test_a_notebook_shows_the_curves_of_a_run(record, tmp_path):
    run = record("cnn", tmp_path / "run")
    for shown in (run, history.read(tmp_path / "run")):
        content = re.fullmatch(r'<img alt="loss [^"]+" src="data:image/svg\+xml;base64,([^"]+)">', shown._repr_html_())[1]
        texts = [element.text for element in ElementTree.fromstring(base64.b64decode(content)).iter(f"{SVG}text")]
        assert "accuracy (%)" in texts


# ---- TensorBoard


@pytest.fixture(scope="module")
def jobs(images, parts, text):
    """By task, the command of a run of four epochs, with a checkpoint after every step."""
    cnn = [*TINY, "--epochs", "4", "--batch-size", "12", "--train-portion", "0.5"]
    rnn = ["--dataset", "text", "--data", text, "--dim", "6", "--eval-batch", "2", "--bptt", "10", "--epochs", "4", "--lr", "2"]
    commands = {
        "search cnn": ["search", "cnn", *cnn, "--nodes", "2", "--data", images],
        "train cnn": ["train", "cnn", *cnn, "--data", parts],
        "search rnn": ["search", "rnn", *rnn, "--batch-size", "12"],
        "train rnn": ["train", "rnn", *rnn, "--batch-size", "4"],
    }
    return {task: [*command, "--tensorboard", "--checkpoint-minutes", "0"] for task, command in commands.items()}


def accumulated(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def check_events(run):
    """Every epoch of the metrics once and in order, with its numbers; returns the names of scalars and images."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found, steps = accumulated(run / FOLDER), list(range(1, len(records) + 1))
    for tag in found.Tags()["scalars"]:
        shown = found.Scalars(tag)
        measure, _, part = tag.partition("/")
        name = f"{part}_{measure}" if f"{part}_{measure}" in records[-1] else tag
        of = [record for record in records if name in record] if name in records[-1] else records
        assert [event.step for event in shown] == [record["epoch"] for record in of], tag
        assert [event.wall_time for event in shown] == sorted(event.wall_time for event in shown), tag
        if name in records[-1]:
            assert [event.value for event in shown] == [np.float32(record[name]) for record in of], tag
    for tag in found.Tags()["images"]:
        assert [event.step for event in found.Images(tag)] == (steps if "operation_weights" in records[0] else [1]), tag
    return set(found.Tags()["scalars"]), set(found.Tags()["images"])


def without_times(run):
    """The events of a run in words, but for what the clock says."""
    found = []
    for each in events.read(run / FOLDER / FILE):
        each.wall_time = 0
        kept = [value for value in each.summary.value if value.tag != "seconds_per_step"]
        del each.summary.value[:]
        each.summary.value.extend(kept)
        found.append(each.SerializeToString(deterministic=True))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", ["search cnn", "train cnn", "search rnn", "train rnn"])
def test_a_killed_run_has_every_step_once(task, jobs, tmp_path):
    """Killed after the metrics and before the events, between the events and the checkpoint, in an epoch, with an event cut in
    half; and once without the event file."""
    args, output, run = jobs[task], tmp_path / "output.txt", tmp_path / "run"
    assert sessions.run([*args, "--run", tmp_path / "whole"], tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    for point in ("metrics.jsonl renamed 1", "checkpoint.pt written 3", "checkpoint.pt renamed 2", "metrics.jsonl renamed 2"):
        assert sessions.run([*args, "--run", run], output, crash_at=point) == -signal.SIGKILL, point
        path = run / FOLDER / FILE
        if path.exists():
            path.write_bytes(path.read_bytes()[:-7])
    assert sessions.run([*args, "--run", run], output) == 0, output.read_text()
    assert "resuming after" in output.read_text()
    scalars, pictures = check_events(run)
    assert without_times(run) == without_times(tmp_path / "whole")
    domain = task.split()[1]
    kinds = {"cnn": ["normal", "reduce"], "rnn": ["recurrent"]}[domain]
    measure = {"cnn": "accuracy", "rnn": "perplexity"}[domain]
    assert {"lr", "loss/train", f"{measure}/train", "seconds_per_step"} <= scalars
    if task.startswith("search"):
        identities = {"cnn": "skip_connections", "rnn": "identities"}[domain]
        assert {"entropy", f"{measure}/valid", *(f"{identities}/{kind}" for kind in kinds)} <= scalars
        assert pictures == {f"{what}/{kind}" for what in ("alpha", "cell") for kind in kinds}
    else:
        assert pictures == {f"cell/{kind}" for kind in kinds}
    before = (run / FOLDER / FILE).read_bytes()
    (run / FOLDER / FILE).unlink()
    assert sessions.run([*args, "--run", run], output) == 0  # it has ended already; the file is made of its records
    assert (run / FOLDER / FILE).read_bytes() == before


def follower(run):
    return Events(run.folder, run.task, run.config, run.genotype)


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_events_follow_records_that_change(domain, tmp_path):
    """A search that goes back loses its later epochs here too; what is the same is not written again."""
    run = record_search(domain, tmp_path / "run")
    records, following = run.reports.metrics, follower(run)
    for i in range(len(records)):
        following.follow(records[: i + 1])
    path = run.folder / FOLDER / FILE
    whole, node = path.read_bytes(), path.stat().st_ino
    check_events(run.folder)
    following.follow(records[:2])
    assert whole.startswith(path.read_bytes())
    assert [each.step for each in events.read(path)] == [0, 1, 2]
    following.follow(records)
    follower(run).follow(records)
    assert (path.read_bytes(), path.stat().st_ino) == (whole, node)
    changed = [*records[:2], records[2] | {"train_loss": 7.5}, *records[3:]]
    follower(run).follow(changed)
    assert [event.value for event in accumulated(path.parent).Scalars("loss/train")][2] == 7.5


def test_the_heat_map_is_darkest_where_the_weight_is_largest(tmp_path):
    run = record_search("cnn", tmp_path / "run")
    follower(run).follow(run.reports.metrics)
    shown = accumulated(run.folder / FOLDER).Images("alpha/normal")
    assert len(shown) == EPOCHS
    with Image.open(io.BytesIO(shown[-1].encoded_image_string)) as picture:
        grey = np.asarray(picture.convert("L"), dtype=float)
    table_of = np.array(run.reports.metrics[-1]["operation_weights"]["normal"])
    left, row = 96 * events.SCALE, 26 * events.SCALE
    column = (grey.shape[1] - left - 6 * events.SCALE) / 8
    corners = np.array(
        [[grey[round((i + 1) * row + 5), round(left + k * column + 5)] for k in range(8)] for i in range(14)]
    )  # beside the letters
    assert (corners.argmin(axis=1) == table_of.argmax(axis=1)).all()


def test_every_edge_of_a_heat_map_names_its_own_operations():
    space = spaces.load("s1")
    kind = space.cells[0]
    table = [[0.25] * len(ops) for ops in space.choices(kind)]
    rows = [group for group in heat_map(space, kind, table, set()).groups if group.kind == "row"]
    for group, ops in zip(rows, space.choices(kind), strict=True):
        texts = [shape.text for shape in group.shapes if isinstance(shape, Words)]
        assert texts[1:] == [f"{op} 25.0" for op in ops]


def test_without_tensorboard_one_line_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['tensorboard'] = None\nfrom darts_cli.cli import main\nmain(sys.argv[1:], prog_name='darts')"
    )
    message = "error: --tensorboard: needs TensorBoard; install it with pip install tensorboard\n"
    for more in ([], ["--seeds", "2"]):
        command = [sys.executable, "-c", program, "search", "cnn", "--dataset", "digits", "--tensorboard", *more]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, message)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_a_table_of_hyper_parameters(tmp_path):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    rows = [
        table.Row("seed-0", {"kind": "searched", "seed": 0}, {"score": 0.75, "rank": 1}),
        table.Row("random-0", {"kind": "random", "seed": 0}, {}),
    ]
    table.write(tmp_path, rows)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    table.write(tmp_path, rows)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")} == first
    assert [(event.step, event.value) for event in accumulated(tmp_path / FOLDER / "seed-0").Scalars("score")] == [(1, 0.75)]

    def plugin_data(name):
        values = [value for event in events.read(tmp_path / FOLDER / name / FILE) for value in event.summary.value]
        found = [value.metadata.plugin_data for value in values if value.metadata.plugin_data.plugin_name == "hparams"]
        return HParamsPluginData.FromString(found[0].content)

    experiment = plugin_data(".").experiment
    assert [info.name for info in experiment.hparam_infos] == ["kind", "seed"]
    assert [info.name.tag for info in experiment.metric_infos] == ["score", "rank"]
    session = plugin_data("random-0").session_start_info
    assert session.hparams["kind"].string_value == "random"


def test_the_seconds_of_a_step_are_in_the_log(tiny, tmp_path):
    assert darts(*tiny, "--batch-size", "4", "--run", tmp_path / "run").exit_code == 0
    found = history.timings(tmp_path / "run")
    assert list(found) == [1, 2]
    assert all(0 < timing["seconds_per_step"] < 60 for timing in found.values())


STANDING_IN = {  # modules that print what they are told
    "wandb": """
import contextlib

class Run:
    def log(self, numbers, step):
        print(step, numbers["train_loss"])

@contextlib.contextmanager
def init(project, name, config):
    print(config["epochs"])
    yield Run()
""",
    "mlflow": """
import contextlib

start_run = lambda run_name: contextlib.nullcontext()
log_params = lambda params: print(params["epochs"])
log_metrics = lambda numbers, step: print(step, numbers["train_loss"])
""",
}


@pytest.mark.parametrize("library", STANDING_IN)
def test_the_lines_for_other_libraries(library, tmp_path):
    """Those of docs/watching.md, as they stand; the libraries, which want accounts and servers, are stood in for."""
    page = (Path(__file__).parent.parent / "docs" / "watching.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (program,) = (block for block in blocks if f"import {library}\n" in block)
    (tmp_path / "program.py").write_text(program)
    (tmp_path / f"{library}.py").write_text(STANDING_IN[library])
    run = record_search("cnn", tmp_path / "run")
    done = subprocess.run([sys.executable, "program.py", "run"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [f"{record['epoch']} {record['train_loss']}" for record in run.reports.metrics]
    assert done.stdout.splitlines() == [str(EPOCHS), *expected]


@pytest.mark.slow
def test_a_real_sweep_in_tensorboard(tiny, tmp_path):
    sweep = tmp_path / "sweep"
    more = ["--seeds", "1", "--select-epochs", "1", "--random-cells", "1", "--tensorboard", "--run", sweep]
    done = darts(*tiny, "--subset", "0.5", *more)
    assert done.exit_code == 0, done.stderr
    for run in (sweep / "seed-0", sweep / "select" / "seed-0", sweep / "select" / "random-0"):
        check_events(run)
    found = yaml.safe_load((sweep / "selection.yaml").read_text())
    for entry in (*found["candidates"], *found["random_cells"]):
        (event,) = accumulated(sweep / FOLDER / entry["name"]).Scalars("score")
        assert event.value == np.float32(entry["score"])
    assert darts("visualize", sweep, "--html", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text().count("<article") == 2
