"""Pictures: the graph of every published cell, animations, plots, and what the command does where a program is missing."""

import io
import itertools
import os
import random
import re
import subprocess
import sys
import time

import pytest
import yaml
from conftest import darts
from made_runs import EPOCHS, record_search, record_sweep, record_training
from PIL import Image

from darts_cli.genotype import Cell, Edge, Genotype, load, names, random_genotype, save
from darts_cli.pictures import candidates, curves
from darts_cli.pictures.cells.figure import Film, edge_name, taken
from darts_cli.pictures.cells.shapes import Line, Rectangle
from darts_cli.pictures.cells.text import dot, text
from darts_cli.pictures.colours import CHANGED, GREY, operation
from darts_cli.pictures.subjects import FRAME_MS, LAST_FRAME_MS
from darts_cli.runs import history
from darts_cli.spaces.space import default


def drawn(source):
    """The edges of a DOT text, with their labels."""
    found = re.findall(r'^\t"(.+?)" -> "(.+?)"(?: \[(.*)\])?$', source, re.MULTILINE)
    labels = [re.search(r'label="(\w+)"', attributes) for _, _, attributes in found]
    return sorted((tail, head, label[1] if label else "") for (tail, head, _), label in zip(found, labels, strict=True))


@pytest.mark.parametrize("name", names())
def test_the_graph_of_every_published_cell(name):
    """Against the file itself, read as plain YAML."""
    genotype = load(name)
    raw = yaml.safe_load(genotype.to_yaml())
    for kind, cell in genotype.cells.items():
        plain = raw[kind]
        if genotype.domain == "cnn":
            states = ["c_{k-2}", "c_{k-1}", *(str(i + 2) for i in range(len(plain["nodes"])))]
            output, expected = "c_{k}", []
        else:
            states = [str(i) for i in range(len(plain["nodes"]) + 1)]
            output = "h_{t}"
            expected = [("x_{t}", "0", ""), ("h_{t-1}", "0", "")]
        first = len(states) - len(plain["nodes"])
        for i, node in enumerate(plain["nodes"]):
            expected += [(states[state], states[first + i], op) for op, state in node]
        expected += [(states[state], output, "") for state in plain["concat"]]
        assert drawn(dot(cell, genotype.macro)) == sorted(expected)


@pytest.mark.parametrize("name", names())
def test_the_drawing_in_text_tells_every_edge(name):
    """Read back, line by line, it is the graph."""
    genotype = load(name)
    edges, kind, pending, ends = {}, None, [], {}
    for line in text(genotype).splitlines():
        if line in genotype.cells:
            kind, pending = line, []
            edges[kind] = []
            continue
        start, _, target = line.partition("▶ ")
        states, *op = (part for part in re.split(r"[\s─┬┘┤]*─[\s─┬┘┤]*", start.strip()) if part)
        if target in ("c_{k}", "h_{t}"):
            edges[kind] += [(state, target, "") for state in states.split()]
            continue
        pending.append((states, op[0] if op else ""))
        ends[kind] = target or ends[kind]
        if line.endswith("┘") or ("┬" not in line and target):
            edges[kind] += [(state, ends[kind], label) for state, label in pending]
            pending = []
    for kind, cell in genotype.cells.items():
        assert sorted(edges[kind]) == drawn(dot(cell, genotype.macro))


# ---- films


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_nothing_in_a_film_jumps(domain):
    """Every shape of an edge keeps its position; a frame shows the edges of its cell only, and marks what is new."""
    rng = random.Random(3)
    kind, macro = default(domain).cells[0], default(domain).macro
    cells = [random_genotype(default(domain), rng).cells[kind] for _ in range(4)]
    film, places = Film(cells, macro), {}
    for before, cell in zip([None, *cells], cells, strict=False):
        scene = film.frame(cell, before, title="title")
        edges = {group.name: group for group in scene.groups if group.kind == "edge"}
        for name, group in edges.items():
            wires = [shape.wire for shape in group.shapes if isinstance(shape, Line)]
            assert places.setdefault(name, wires) == wires
        ops = {edge_name(place): op for place, op in taken(cell, macro).items()}
        assert {name: group.shapes[-1].text for name, group in edges.items() if not group.hidden} == ops
        old = {} if before is None else {edge_name(place): op for place, op in taken(before, macro).items()}
        marked = {name for name, group in edges.items() if any(getattr(s, "stroke", None) == CHANGED for s in group.shapes)}
        assert marked == ({name for name, op in ops.items() if old.get(name) != op} if before else set())


@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_the_animation_has_a_frame_an_epoch(domain, tmp_path):
    record_search(domain, tmp_path / "run")
    result = darts("visualize", tmp_path / "run", "--what", "animation", "--output", tmp_path)
    assert result.exit_code == 0, result.stderr
    kinds = default(domain).cells
    assert result.stdout.splitlines() == [str(tmp_path / f"run-{kind}.gif") for kind in kinds]
    for kind in kinds:
        with Image.open(tmp_path / f"run-{kind}.gif") as film:
            assert film.n_frames == EPOCHS
            frames = []
            for i in range(EPOCHS):
                film.seek(i)
                assert film.info["duration"] == (LAST_FRAME_MS if i == EPOCHS - 1 else FRAME_MS)
                frames.append(film.convert("RGB").tobytes())
            assert len(set(frames)) == EPOCHS


# ---- plots


def test_the_heat_maps_show_the_weights(tmp_path, monkeypatch):
    """The numbers handed to matplotlib are softmax(alpha), operations down, epochs across, at the position of their edge."""
    from matplotlib.axes import Axes

    record_search("cnn", tmp_path / "run")
    records = history.read(tmp_path / "run").records
    shown = []
    imshow = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, data, **rest: shown.append((self, data)) or imshow(self, data, **rest))
    assert curves.alphas(history.read(tmp_path / "run"), "normal", "png").startswith(b"\x89PNG")
    assert len(shown) == 14
    titles = [panel.get_title() for panel, _ in shown]
    assert titles[:3] == ["$c_{k-2}$ → 2", "$c_{k-1}$ → 2", "$c_{k-2}$ → 3"]
    assert titles[-1] == "4 → 5"
    for edge, (_, data) in enumerate(shown):
        for epoch, record in enumerate(records):
            weights = [data[k][epoch] for k in range(8)]
            assert sum(weights) == pytest.approx(1)
            row = record["alphas"]["normal"][edge]
            assert weights.index(max(weights)) == row.index(max(row))


def test_the_curves_are_the_metrics(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    record_training("cnn", tmp_path / "one")
    record_training("cnn", tmp_path / "$two_", offset=0.1)
    lines = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *a, **k: lines.append((k["label"], x, y)) or plot(self, x, y, *a, **k))
    both = [history.read(tmp_path / name) for name in ("one", "$two_")]
    assert curves.curves(both, "svg").startswith(b"<?xml")
    assert [label for label, _, _ in lines[:4]] == ["one, train", "one, test", r"\$two_, train", r"\$two_, test"]
    assert lines[1][1] == tuple(range(1, EPOCHS + 1))
    assert lines[5][2] == pytest.approx([50 / (epoch + 2) for epoch in range(EPOCHS)])  # test error in percent
    assert curves.curves(both, "svg") == curves.curves(both, "svg")


def test_curves_of_two_domains_fit_no_picture(tmp_path):
    record_training("cnn", tmp_path / "a")
    record_training("rnn", tmp_path / "b")
    result = darts("visualize", tmp_path / "a", tmp_path / "b", "--output", tmp_path)
    assert result.exit_code == 1
    assert re.fullmatch(
        r"error: .*a and .*b: are runs of different domains; draw their curves in separate pictures\n",
        result.stderr,
    )


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_plots_in_every_format(form, tmp_path):
    record_search("cnn", tmp_path / "run", epochs=1)
    assert darts("visualize", tmp_path / "run", "--what", "curves", "--output", tmp_path / f"curves.{form}").exit_code == 0
    start = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[form]
    assert (tmp_path / f"curves.{form}").read_bytes().startswith(start)
    assert curves.alphas(history.read(tmp_path / "run"), "reduce", form).startswith(start)


# ---- the command


def test_everything_of_a_search_and_of_a_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_search("cnn", "found")
    record_training("rnn", "trained")
    assert darts("visualize", "found").stdout.split() == [
        *("found-normal.pdf", "found-reduce.pdf", "found-normal.gif", "found-reduce.gif"),
        *("found-normal-alphas.pdf", "found-reduce-alphas.pdf"),
    ]
    assert darts("visualize", "trained", "--format", "svg").stdout.split() == ["trained-recurrent.svg", "trained-curves.svg"]
    assert darts("visualize", "trained", "trained", "--format", "svg").stdout.split() == ["2-runs-curves.svg"]
    result = darts("visualize", "trained", "--what", "animation")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "trained: --what animation is for searches, but this is a run of darts train rnn" in result.stderr
    result = darts("visualize", "found", "trained", "--html", "page.html")
    assert "--html: shows one run or sweep, not 2" in result.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
@pytest.mark.parametrize("domain", ["cnn", "rnn"])
def test_the_candidates_of_a_sweep_side_by_side(domain, form, tmp_path):
    content = record_sweep(domain, tmp_path / "sweep")
    result = darts("visualize", tmp_path / "sweep", "--format", form, "--output", tmp_path)
    assert result.exit_code == 0, result.stderr
    kinds = default(domain).cells
    names = [*(f"sweep-{kind}" for kind in kinds), *(f"sweep-{kind}-candidates" for kind in kinds)]
    assert result.stdout.splitlines() == [str(tmp_path / f"{name}.{form}") for name in names]
    if form != "svg":
        return
    source = (tmp_path / f"{names[-1]}.svg").read_text()
    entries = [*content["candidates"], *content["random_cells"]]
    form = {"cnn": "{:.2%}", "rnn": "{:.2f}"}[domain]
    headings = re.findall(r'class="title"[^\n]*>([^<]+)</text>', source)
    assert headings == [f"{e['name']}{', the winner' * (i == 0)}: {form.format(e['score'])}" for i, e in enumerate(entries)]
    edges = re.findall(r'class="edge"[^\n]*?<rect[^>]*fill="(#\w+)"[^\n]*?>(\w+)</text>', source)
    ops = [[op for node in entry["genotype"][kinds[-1]]["nodes"] for op, _ in node] for entry in entries]
    assert sorted(op for _, op in edges) == sorted(itertools.chain(*ops))
    coloured = len(ops[0]) * len(content["candidates"])
    assert [fill for fill, _ in edges[coloured:]] == [GREY] * (len(edges) - coloured)
    assert all(fill == operation(op) for fill, op in edges[:coloured])


def test_pictures_of_different_candidates_do_not_meet(tmp_path):
    record_sweep("cnn", tmp_path / "sweep")
    made = candidates.picture(candidates.read(tmp_path / "sweep"), "normal")
    boxes = {}
    for group in made.groups:
        for shape in group.shapes:
            if isinstance(shape, Rectangle):
                boxes.setdefault(group.name[:4], []).append(shape.box)
    assert len(boxes) == 5
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not any(
            a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom for a in one for b in other
        )
    every = [box for part in boxes.values() for box in part]
    assert all(box.left >= 0 and box.right <= made.width and box.bottom <= made.height for box in every)


@pytest.mark.parametrize(
    "damage",
    [
        {"candidates": [{"name": "a", "seed": 0, "genotype": {"domain": "cnn"}}]},
        {"candidates": 3},
        {"protocol": {"measure": "beauty"}},
        {"winner": None, "candidates": [], "random_cells": []},
    ],
)
def test_a_damaged_selection(damage, tmp_path):
    content = record_sweep("cnn", tmp_path / "sweep")
    (tmp_path / "sweep" / "selection.yaml").write_text(yaml.safe_dump(content | damage))
    result = darts("visualize", tmp_path / "sweep", "--output", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"error: {tmp_path / 'sweep' / 'selection.yaml'}: ")


@pytest.mark.parametrize(("form", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG"), ("dot", b"digraph")])
def test_where_pictures_go(form, start, tmp_path):
    cell = tmp_path / "mine.yaml"
    save(load("enas"), cell)
    assert darts("visualize", cell, "--format", form, "--output", tmp_path / "new" / "folder").exit_code == 0
    assert (tmp_path / "new" / "folder" / f"mine-recurrent.{form}").read_bytes().startswith(start)
    assert darts("visualize", cell, "--output", tmp_path / f"one.{form}").stdout == f"{tmp_path / 'one'}.{form}\n"
    assert (tmp_path / f"one.{form}").read_bytes().startswith(start)
    names = darts("visualize", "nasnet", "--output", tmp_path / f"two.{form}").stdout.split()
    assert names == [f"{tmp_path}/two-normal.{form}", f"{tmp_path}/two-reduce.{form}"]


def test_text_goes_to_the_terminal_or_to_a_file(tmp_path):
    output = darts("visualize", "enas", "--format", "text").stdout
    assert output == text(load("enas"))
    darts("visualize", "enas", "--output", tmp_path / "cell.txt")
    assert (tmp_path / "cell.txt").read_text(encoding="utf-8") == output


def test_text_where_the_terminal_has_plain_characters_only():
    command = [sys.executable, "-m", "darts_cli", "visualize", "nasnet", "--format", "text"]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True)
    assert b"  c_{k-1} -- sep_conv_5x5 --+-> 2\n" in done.stdout


@pytest.mark.parametrize("form", ["pdf", "svg", "png", "dot", "text"])
def test_no_other_program_is_needed(form, tmp_path):
    command = [sys.executable, "-m", "darts_cli", "visualize", "enas", "--format", form]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=os.environ | {"PATH": str(tmp_path / "empty")})
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_matplotlib_the_rest_is_drawn(tmp_path):
    record_search("rnn", tmp_path / "run")
    program = "import sys; sys.modules['matplotlib'] = None; from darts_cli.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "visualize", str(tmp_path / "run"), "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{tmp_path}/run-recurrent.pdf", f"{tmp_path}/run-recurrent.gif"]
    assert done.stderr == "error: curves and heat maps need matplotlib; install it with pip install matplotlib\n"


@pytest.mark.skipif(sys.platform != "linux", reason="another program opens files there")
def test_view_opens_what_was_drawn(tmp_path):
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    opener.chmod(0o755)
    command = [sys.executable, "-m", "darts_cli", "visualize", "nasnet", "--format", "dot", "--output", str(tmp_path), "--view"]
    with_opener = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    names = subprocess.run(command, env=with_opener, capture_output=True, text=True, check=True).stdout.split()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(opened(tmp_path)) < 2:
        time.sleep(0.05)
    assert sorted(opened(tmp_path)) == sorted(names)
    done = subprocess.run(command, env=os.environ | {"PATH": str(tmp_path / "nowhere")}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: --view: there is no program here that opens pictures\n")


def opened(folder):
    path = folder / "opened"
    return path.read_text().split() if path.exists() else []


def test_a_node_that_nothing_uses_is_drawn_and_said(tmp_path):
    node = (Edge("skip_connect", 0), Edge("sep_conv_3x3", 1))
    genotype = Genotype("cnn", {"normal": Cell((node, node, node), (2, 4)), "reduce": Cell((node,), (2,))})
    save(genotype, tmp_path / "odd.yaml")
    result = darts("visualize", tmp_path / "odd.yaml", "--format", "dot", "--output", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == f"{tmp_path / 'odd.yaml'}: node 3 of the normal cell has no path to the output\n"
    darts("visualize", tmp_path / "odd.yaml", "--format", "svg", "--output", tmp_path)
    source = (tmp_path / "odd-normal.svg").read_text()
    assert re.findall(r'id="node-(.+?)"[^\n]*stroke-dasharray="5 3"', source) == ["3"]
    assert "unused: 3" in darts("genotype", "info", tmp_path / "odd.yaml").stdout


def test_a_run_that_is_called_like_a_published_cell(tmp_path, monkeypatch):
    """Names come first, as everywhere; a path means the run, and its cells are drawn."""
    monkeypatch.chdir(tmp_path)
    run = record_search("cnn", tmp_path / "pdarts")
    assert darts("visualize", "pdarts", "--format", "text").stdout == text(load("pdarts"))
    genotype = Genotype.from_dict(run.reports.metrics[-1]["genotype"])
    assert darts("visualize", "./pdarts", "--format", "text").stdout == text(genotype)


@pytest.mark.parametrize("name", ["n\udcff\x01", "日本", "$x_{", "_hidden"])
def test_runs_of_any_name_have_curves(name, tmp_path):
    record_training("cnn", tmp_path / name)
    result = darts("visualize", tmp_path / name, tmp_path / name, "--output", tmp_path / "curves.png")
    assert (result.exit_code, result.stderr) == (0, "")


def test_metrics_without_curves(tmp_path):
    run = record_training("cnn", tmp_path / "run")
    (run.folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
    result = darts("visualize", run.folder, "--what", "curves", "--output", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"error: {run.folder}: its metrics hold no loss to draw\n")


def test_a_file_keeps_the_name_it_is_given(tmp_path):
    for name in ("one.DOT", "two.text"):
        assert darts("visualize", "enas", "--output", tmp_path / name).stdout == f"{tmp_path / name}\n"
        assert (tmp_path / name).exists()


def test_a_real_search_can_be_seen(tiny, tmp_path):
    assert darts(*tiny, "--run", tmp_path / "run").exit_code == 0
    result = darts("visualize", tmp_path / "run", "--format", "svg", "--output", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.split()) == 6
    with Image.open(io.BytesIO((tmp_path / "run-normal.gif").read_bytes())) as film:
        assert film.n_frames == 2
