"""Language models in use: `darts generate` and `darts score`."""

import json
import math
from collections import Counter

import pytest
import torch
from conftest import darts

import darts_cli
from darts_cli.use import text as use


@pytest.fixture(scope="module")
def model(language_run):
    return darts_cli.load(language_run)


@pytest.fixture(scope="module")
def lively():
    """A network with large random weights, whose next words depend on all words before."""
    torch.manual_seed(0)
    network = darts_cli.create_model("rnn/enas", vocab=50, dim=16).eval().double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(40)
    network.vocab = ["<eos>", *(f"w{i}" for i in range(1, 50))]
    return network


def score(run, stdin, *args):
    done = darts("score", "--checkpoint", run, "-", "--json", *args, stdin=stdin)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


# ---- score


@pytest.mark.parametrize("spoiled", ["", "d e\n\n a d b\n", "a\rb c\n", "a\x0cb\u2028c \n", "\n\nd\na\n"])
def test_the_test_part_as_a_whole_is_what_the_evaluation_measures(language_run, text, tmp_path, spoiled):
    """With --carry; also with unknown words, blank lines and odd ends of lines, at the start and at the end."""
    for part in ("train", "valid", "test"):
        content = (text / f"{part}.txt").read_text()
        content = spoiled + content + spoiled if part == "test" else content
        (tmp_path / f"{part}.txt").write_text(content, newline="")
    whole = darts("score", "--checkpoint", language_run, tmp_path / "test.txt", "--carry", "--json")
    evaluated = darts("eval", "--checkpoint", language_run, "--data", tmp_path, "--json")
    found, expected = json.loads(whole.stdout), json.loads(evaluated.stdout)
    assert found["words"] == expected["words"]
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-6)
    assert sum(len(line["unknown"]) for line in found["lines"]) >= len(expected.get("unknown_words", ()))


def test_a_line_by_itself(language_run, model):
    """The perplexity is exp of the mean negative log-probability of its words and of its end, after the end of a line."""
    ids = [model.vocab.index(word) for word in ("<eos>", "a", "b", "c", "<eos>")]
    log_probs, _ = model(torch.tensor(ids[:-1])[:, None], model.initial(1))
    nll = -sum(float(log_probs[t, 0, word]) for t, word in enumerate(ids[1:]))
    (line,) = score(language_run, "a b c\n")["lines"]
    assert (line["line"], line["words"], line["unknown"]) == ("a b c", 4, [])
    assert line["perplexity"] == pytest.approx(math.exp(nll / 4), rel=1e-5)


def test_lines_do_not_depend_on_each_other_unless_carried(language_run):
    both = score(language_run, "a b c\n\nc c\na b c\n")
    assert [line["line"] for line in both["lines"]] == ["a b c", "c c", "a b c"]
    assert both["lines"][0] == both["lines"][2]
    total = sum(line["words"] * math.log(line["perplexity"]) for line in both["lines"])
    assert math.log(both["perplexity"]) == pytest.approx(total / both["words"], rel=1e-6)
    carried = score(language_run, "a b c\nc c\na b c\n", "--carry")
    first, _, last = carried["lines"]
    assert (first["words"], last["words"]) == (3, 4)  # the very first word is not predicted
    assert last["perplexity"] != pytest.approx(both["lines"][2]["perplexity"], rel=1e-6)


def test_long_lines_are_read_in_pieces(language_run, model):
    words = ["a", "b", "c"] * 50
    ids = [model.vocab.index(word) for word in ("<eos>", *words, "<eos>")]
    _, nll, _ = model.loss(torch.tensor(ids[:-1])[:, None], torch.tensor(ids[1:])[:, None], model.initial(1))
    assert score(language_run, " ".join(words))["perplexity"] == pytest.approx(math.exp(float(nll)), rel=1e-5)


def test_the_table_names_unknown_words(language_run):
    done = darts("score", "--checkpoint", language_run, "-", stdin="a zebra b\nzebra\nyak\n")
    head, *rows, whole = done.stdout.splitlines()
    assert (head.split(), whole.split()[1:]) == (["perplexity", "words", "line"], ["5", "all"])
    assert [row.split()[1:] for row in rows] == [["3", "a", "zebra", "b"], ["1", "zebra"], ["1", "yak"]]
    assert done.stderr == "2 unknown words, left out: zebra (2), yak\n"


def test_unknown_words_are_read_as_unk_where_there_is_one():
    assert use.read(["a", "x", "x"], {"a": 0, "<unk>": 1}) == ([0, 1, 1], Counter(x=2))
    assert use.read(["a", "x"], {"a": 0}) == ([0], Counter(x=1))


# ---- generate


def test_the_same_seed_writes_the_same_text(language_run):
    def write(*args):
        done = darts("generate", "--checkpoint", language_run, "--words", "40", *args)
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout

    assert write() == write("--seed", "0")
    assert write() != write("--seed", "1")
    assert write("--temperature", "0") == write("--temperature", "0", "--seed", "5")
    text = write("--prompt", " b  c")
    assert text.startswith("b c")
    assert set(text.split()) <= {"a", "b", "c"}
    assert len(text.split()) + text.count("\n") - 2 in (40, 41)  # with the ends of lines; a last line may have no end


def test_words_are_drawn_by_their_probability(model):
    """Frequencies of the first word against softmax(log p / T), T = 0.5, by a chi-squared test; at T = 0, the likeliest."""
    start = [model.vocab.index(word) for word in ("a", "b")]
    read = torch.tensor([model.vocab.index("<eos>"), *start])[:, None]
    last = model(read, model.initial(1))[0][-1, 0].double()
    p = (2 * last).softmax(0)
    draws = Counter(next(use.generate(model, start, 1, 0.5, seed)) for seed in range(400))
    counts = torch.tensor([draws[word] for word in model.vocab]).double()
    assert float(((counts - 400 * p) ** 2 / (400 * p)).sum()) < 16.3  # 0.999 of chi squared with 3 degrees of freedom
    assert list(use.generate(model, start, 1, 1e-300, 0)) == list(use.generate(model, start, 1, 0.0, 0))
    assert list(use.generate(model, start, 1, 0.0, 0)) == [model.vocab[int(last.argmax())]]


@pytest.mark.parametrize("prompt", [[], [7], [7, 3, 9]])
def test_the_text_follows_the_network(lively, prompt):
    """Word by word with the state carried is the same as reading everything from the start each time."""
    words, g = [lively.vocab.index("<eos>"), *prompt], torch.Generator().manual_seed(4)
    for _ in range(20):
        log_probs = lively(torch.tensor(words)[:, None], lively.initial(1))[0][-1, 0].double()
        words.append(int((log_probs / 2).softmax(0).multinomial(1, generator=g)))
    written = words[1 + len(prompt) :]
    assert len(set(written)) > 2
    assert list(use.generate(lively, prompt, 20, 2.0, 4)) == [lively.vocab[word] for word in written]


def test_damaged_weights_are_noticed(language_run, tmp_path):
    state = torch.load(language_run / "best.pt", weights_only=True)
    state["network"]["cell.W0"][0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    for command in (["generate"], ["score", "-"]):
        done = darts(*command, "--checkpoint", tmp_path / "nan.pt", stdin="a b\n")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.endswith("the weights of this network are damaged\n")
