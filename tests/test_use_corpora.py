"""What `darts data check` and `darts data show` say of texts."""

import json

import pytest
from conftest import darts

TRAIN = ["the cat sees the small house", "a dog runs", "the cat sees the big house"]
VALID = ["the cat sees the small house", "a whale runs"]
TEST = ["zebras run", "a dog runs"]


@pytest.fixture
def corpus(tmp_path):
    for name, lines in (("wiki.train.tokens", TRAIN), ("dev.txt", VALID), ("test.txt", TEST)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_what_is_counted(corpus):
    found = json.loads(darts("data", "check", corpus, "--json").stdout)
    train = found["parts"]["train"]
    assert (train["lines"], train["words"], train["different"], train["longest"]) == (3, 18, 10, 6)  # with <eos>
    assert list(train["common"].items())[:2] == [("the", 4), ("<eos>", 3)]
    assert found["vocabulary"] == 13  # whale, zebras and run come later
    assert found["unseen"] == {"valid": {"whale": 1}, "test": {"zebras": 1, "run": 1}}
    assert found["repeated"] == {"valid": [TRAIN[0]], "test": []}  # short lines may recur


def test_what_should_be_looked_at(corpus):
    done = darts("data", "check", corpus)
    assert done.exit_code == 0
    assert "train: 3 lines, the longest with 6 words; 18 words, <eos> included" in done.stdout
    assert "warning: valid: 9.1% of its words are not in the training text, such as whale" in done.stderr
    assert "warning: test: 28.6% of its words are not in the training text, such as zebras, run" in done.stderr
    assert "warning: valid: 1 of its lines of 5 words or more are in the training text too" in done.stderr
    assert "Penn Treebank" not in done.stdout


def test_a_single_file_is_split_and_read_by_characters(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"线性代数的书第{i}章讲了很多内容\n" for i in range(20)), encoding="utf-8")
    done = darts("data", "check", book)
    assert "a text without spaces is read with --tokens characters" in done.stderr
    assert "its first eight tenths are for training" in done.stderr
    done = darts("data", "show", book, "--tokens", "characters")
    assert done.stdout.splitlines()[:2] == ["train:", "  线 性 代 数 的 书 第 0 章 讲 了 很 多 内 容 <eos>"]


def test_the_text_in_the_package_has_no_surprises():
    done = darts("data", "check", "pydoc")
    assert done.stdout.startswith("train: ")
    assert "without spaces" not in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "ptb"], "ptb: is not in the package; name the folder that holds it, Mikolov's"),
        (["check", "nowhere"], "nowhere: no such folder, and no data set of this name"),
        (["check", "digits", "--tokens", "characters"], "--tokens characters: digits holds no text"),
        (["show", "wt2"], "wt2: is not in the package; name the folder that holds it, WikiText-2"),
    ],
)
def test_mistakes(args, message):
    done = darts("data", *args)
    assert done.exit_code > 0
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_part_that_is_missing_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("a b\n")
    assert "valid.txt: no such file" in darts("data", "check", tmp_path).stderr
