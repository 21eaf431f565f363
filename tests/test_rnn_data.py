"""Texts: the corpus, its vocabulary, streams and pieces, and one line for what is wrong with them."""

import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from conftest import darts

from darts_cli import DartsError
from darts_cli.rnn import data
from darts_cli.rnn.data import Corpus, piece, search_pieces, streams, train_pieces

TEXTS = {"train": "the cat sat\n\n  on the mat  \n", "valid": "a cat\n", "test": "the end\nof a\n"}
REAL = os.environ.get("DARTS_TEST_TEXTS")  # a folder with ptb and wikitext-2


@pytest.fixture
def folder(tmp_path):
    for part, text in TEXTS.items():
        (tmp_path / f"{part}.txt").write_text(text)
    return tmp_path


def words(corpus, ids):
    return [corpus.vocab[i] for i in ids.tolist()]


def test_every_line_ends_with_eos_and_words_are_numbered_as_they_appear(folder):
    corpus = Corpus(folder)
    assert words(corpus, corpus.train) == ["the", "cat", "sat", "<eos>", "<eos>", "on", "the", "mat", "<eos>"]
    assert words(corpus, corpus.valid) == ["a", "cat", "<eos>"]
    assert words(corpus, corpus.test) == ["the", "end", "<eos>", "of", "a", "<eos>"]
    assert corpus.vocab == ["the", "cat", "sat", "<eos>", "on", "mat", "a", "end", "of"]
    assert corpus.train.dtype == torch.int64
    assert not corpus.unknown


@pytest.mark.parametrize("name", ["ptb.{}.txt", "wiki.{}.tokens"])
def test_the_names_under_which_the_data_sets_go_round(folder, name):
    for part in TEXTS:
        (folder / f"{part}.txt").rename(folder / name.format(part))
    assert len(Corpus(folder).vocab) == 9


@pytest.mark.parametrize("name", ["val.txt", "dev.txt", "validation.txt", "wiki.valid.raw", "Valid.txt", "DEV.TXT"])
def test_the_validation_part_by_its_other_names(folder, name):
    (folder / "valid.txt").rename(folder / name)
    assert words(Corpus(folder), Corpus(folder).valid) == ["a", "cat", "<eos>"]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_are_no_words(folder, ends):
    """A mark at the start of a file, and in the middle, where files were joined."""
    expected = Corpus(folder)
    for part, text in TEXTS.items():
        marked = "\ufeff" + text.replace("on the", "\ufeffon the").replace("\n", ends)
        (folder / f"{part}.txt").write_bytes(marked.encode())
    found = Corpus(folder)
    assert found.vocab == expected.vocab
    assert found.about() == expected.about()


def test_a_given_vocabulary_counts_and_names_what_it_lacks(folder):
    corpus = Corpus(folder, ["the", "<unk>", "a", "<eos>"], ["test"])
    assert words(corpus, corpus.test) == ["the", "<unk>", "<eos>", "<unk>", "a", "<eos>"]
    assert corpus.unknown == {"end": 1, "of": 1}
    assert len(corpus.train) == 0
    without = Corpus(folder, ["the", "a", "<eos>"], ["test"])
    assert words(without, without.test) == ["the", "<eos>", "a", "<eos>"]
    assert corpus.unknown == without.unknown


def test_pydoc_is_split_8_1_1_and_always_the_same():
    one, two = data.load("pydoc", None), data.load("pydoc", None)
    sizes = [len(part) for part in (one.train, one.valid, one.test)]
    assert [round(10 * size / sum(sizes)) for size in sizes] == [8, 1, 1]
    assert sum(sizes) > 50_000
    assert 2_000 < len(one.vocab) < 10_000
    assert one.about() == two.about()
    assert {"statement", "expression", "<eos>"} <= set(one.vocab)
    assert set(one.train.tolist()) | set(one.valid.tolist()) | set(one.test.tolist()) == set(range(len(one.vocab)))
    only = data.load("pydoc", None, one.vocab, ["test"])
    assert torch.equal(only.test, one.test)
    assert not only.unknown


def test_the_fingerprint_is_of_words_and_order(folder):
    first = Corpus(folder).about()
    (folder / "test.txt").write_text("the end\na of\n")
    assert Corpus(folder).about()["fingerprint"] != first["fingerprint"]
    (folder / "test.txt").write_text(TEXTS["test"])
    assert Corpus(folder).about() == first


@pytest.mark.skipif(REAL is None, reason="DARTS_TEST_TEXTS names no folder with ptb and wikitext-2")
@pytest.mark.parametrize(
    ("name", "tokens", "vocab"),
    [("ptb", (929_589, 73_760, 82_430), 10_000), ("wikitext-2", (2_088_628, 217_646, 245_569), 33_278)],
)
def test_the_published_corpora(name, tokens, vocab):
    corpus = Corpus(Path(REAL) / name)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == tokens
    assert len(corpus.vocab) == vocab


# ---- streams and pieces


def test_streams_run_side_by_side():
    ids = torch.arange(11)
    assert streams(ids, 3, "training").tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    x, y = piece(streams(ids, 3, "training"), 0, 35)
    assert x.tolist() == [[0, 3, 6], [1, 4, 7]]
    assert y.tolist() == [[1, 4, 7], [2, 5, 8]]
    x, y = piece(torch.arange(20).view(10, 2), 3, 4)
    assert torch.equal(y, x + 2)
    assert len(x) == 4


def test_the_pieces_of_a_search():
    """35 words, one time in twenty 17, one after the other to the end."""
    pieces = [p for epoch in range(40) for p in search_pieces(2_000, 35, 3, epoch)[:-1]]
    lengths = [length for _, length in pieces]
    assert set(lengths) == {17, 35}
    assert lengths.count(17) / len(lengths) == pytest.approx(0.05, abs=0.02)
    whole = search_pieces(2_000, 35, 3, 0)
    assert whole == search_pieces(2_000, 35, 3, 0) != search_pieces(2_000, 35, 3, 1)
    assert all(start + length == following for (start, length), (following, _) in itertools.pairwise(whole))
    start, length = whole[-1]
    assert 1_998 <= start + length <= 1_999


def test_the_pieces_of_a_training():
    """N(35, 5) cut to whole words, one time in twenty N(17.5, 5), within 5 and 55."""
    lengths = torch.tensor([float(n) for epoch in range(300) for _, n in train_pieces(2_000, 35, 3, epoch)[:-1]])
    assert lengths.min() >= 5
    assert 50 < lengths.max() <= 55
    assert max(n for epoch in range(300) for _, n in train_pieces(2_000, 5, 3, epoch)) <= 25
    short = (lengths < 22).double().mean().item()
    assert short == pytest.approx(0.05 * 0.75 + 0.95 * 0.004, abs=0.01)
    usual = lengths[(lengths > 22)]
    assert usual.mean().item() == pytest.approx(34.5, abs=0.3)  # the whole part
    assert usual.std().item() == pytest.approx(5, abs=0.4)


@pytest.mark.parametrize("rows", [2, 3, 4, 36, 37, 38])
def test_short_texts_have_a_piece(rows):
    for pieces in (search_pieces(rows, 35, 0, 0), train_pieces(rows, 35, 0, 0)):
        assert pieces[0][0] == 0
        assert all(length >= 1 for _, length in pieces)
        assert rows - 2 <= sum(length for _, length in pieces) <= rows - 1


# ---- mistakes


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("valid", None, r"valid\.txt: no such file; there must be train\.txt, valid\.txt and test\.txt"),
        ("train", b"", r"train\.txt: holds no words"),
        ("test", b"\n \n", r"test\.txt: holds no words"),
        ("train", b"un\ncaf\xe9 au lait\n", r"train\.txt: not UTF-8 text \(line 2, byte 4\); if it is LATIN-1, convert it"),
        ("train", "caf\xe9\n".encode("utf-16")[:-1], r"train\.txt: begins as UTF-16 and is none \(byte 11\)"),
        ("train", "un\ncafe\n".encode("utf-16-le"), r"train\.txt: not UTF-8 .*\(line 1, byte 2 is 0\); .* iconv -f utf-16le"),
        ("test", "caf\xe9\n".encode("utf-16-be"), r"test\.txt: not UTF-8 .*\(line 1, byte 1 is 0\); .* iconv -f utf-16be"),
    ],
)
def test_what_is_wrong_with_a_file(folder, part, content, said):
    path = folder / f"{part}.txt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DartsError, match=said):
        Corpus(folder)


def test_a_text_shorter_than_its_streams():
    with pytest.raises(DartsError, match="the training text has 9 words, too few for 5 streams; lower the batch size"):
        streams(torch.arange(9), 5, "training")


@pytest.mark.parametrize("name", ["ptb", "wt2", "text"])
def test_the_error_says_where_people_get_the_text(name):
    with pytest.raises(DartsError, match=rf"--dataset {name} needs --data DIR.*(Treebank|WikiText-2|your own)"):
        data.load(name, None)


# ---- other kinds of text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_letters_with_their_mark_are_read(folder, encoding):
    expected = Corpus(folder)
    for part, text in TEXTS.items():
        (folder / f"{part}.txt").write_bytes(("\ufeff" * (encoding[-1] == "e") + text).encode(encoding))
    assert Corpus(folder).about() == expected.about()


def test_one_file_is_split_8_1_1_by_its_lines(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {i}\n" for i in range(20)))
    corpus = Corpus(path)
    parts = [words(corpus, part)[1::3] for part in (corpus.train, corpus.valid, corpus.test)]
    assert parts == [[str(i) for i in range(16)], ["16", "17"], ["18", "19"]]
    only = Corpus(path, corpus.vocab, ["test"])
    assert torch.equal(only.test, corpus.test)
    path.write_text("a b\n" * 4)
    with pytest.raises(DartsError, match=r"book\.txt: has 4 lines, too few for 8 tenths, 1 and 1"):
        Corpus(path)


def test_characters_are_tokens_when_asked(folder):
    corpus = Corpus(folder, tokens="characters")
    assert words(corpus, corpus.train) == [*"the cat sat", "<eos>", "<eos>", *"on the mat", "<eos>"]
    assert words(corpus, corpus.valid) == [*"a cat", "<eos>"]


@pytest.mark.parametrize("letters", ["今天天气很好我们一起去公园散步", "abcdefghijklmnopqrstuvwxyz", "สวัสดีชาวโลกทุกคนวันนี้"])
def test_a_text_without_spaces_is_no_text_of_words(tmp_path, letters):
    """A network would learn whole lines by heart, and its perplexity would say nothing."""
    for part in TEXTS:
        (tmp_path / f"{part}.txt").write_text("".join(f"{letters}{i}\n" for i in range(12)), encoding="utf-8")
    with pytest.raises(DartsError, match=r"train\.txt: 12 of 12 lines are a single word each; .* --tokens characters"):
        Corpus(tmp_path)
    assert len(Corpus(tmp_path, ["<unk>", "<eos>"]).train) == 24  # a network that has its words counts what it lacks
    corpus = Corpus(tmp_path, tokens="characters")
    assert set(letters) | set("0123456789") | {"<eos>"} == set(corpus.vocab)


@pytest.mark.parametrize("line", ["word", "two words of aaaaaaaaaaaaaaaaaaaaaaa", "a"])
def test_short_lines_are_words(folder, line):
    (folder / "train.txt").write_text(f"{line}\n" * 50)
    assert len(Corpus(folder).train) == 50 * (1 + len(line.split()))


@pytest.mark.parametrize(("name", "title"), [("ptb", "the Penn Treebank"), ("wt2", "WikiText-2")])
def test_a_corpus_under_the_name_of_another_is_said(folder, name, title):
    (remark,) = data.remarks(name, Corpus(folder))
    assert remark.startswith(f"warning: this is not {title}: 9 words to train on, 9 different ones, instead of ")
    assert remark.endswith("--dataset text is for texts of your own")
    assert data.remarks("text", Corpus(folder)) == []
    sizes = ["--batch-size", 2, "--eval-batch-size", 2, "--dim", 2, "--nodes", 1, "--epochs", 1]
    (folder / "valid.txt").write_text("a cat\n" * 3)
    done = darts("search", "rnn", "--dataset", name, "--data", folder, *sizes, "--run", folder / "run")
    assert (done.exit_code, remark.split(",")[0] in done.stderr) == (0, True), done.stderr


def test_characters_are_searched_trained_evaluated_written_and_scored(tmp_path):
    """The training takes the data and the tokens of the search; the network knows what its tokens are."""
    path = tmp_path / "book.txt"
    path.write_text("abc abc abc abc abc\n" * 100)
    sizes = ["--batch-size", 2, "--eval-batch-size", 2, "--dim", 8, "--epochs", 1]
    given = ["--dataset", "text", "--data", path, "--tokens", "characters", "--nodes", 1]
    assert darts("search", "rnn", *given, *sizes, "--run", tmp_path / "a").exit_code == 0
    trained = darts("train", "rnn", "--genotype", tmp_path / "a", *sizes, "--run", tmp_path / "b")
    assert trained.exit_code == 0, trained.stderr
    assert "tokens: characters" in (tmp_path / "b" / "config.yaml").read_text()
    assert "perplexity" in darts("eval", tmp_path / "b").stdout
    written = darts("generate", "--checkpoint", tmp_path / "b", "--words", 30, "--prompt", "abc a")
    assert written.stdout.startswith("abc a")
    assert set(written.stdout) <= set("abc \n")
    path.write_bytes(path.read_text().encode("utf-16"))
    scored = darts("score", "--checkpoint", tmp_path / "b", path, "--json")
    assert json.loads(scored.stdout)["lines"][0]["words"] == len("abc abc abc abc abc") + 1


@pytest.mark.parametrize("dataset", ["ptb", "wt2", "pydoc"])
def test_published_texts_are_words(dataset):
    for command in ("search", "train"):
        done = darts(command, "rnn", "--dataset", dataset, "--tokens", "characters")
        assert (done.exit_code, "--tokens characters: only for --dataset text" in done.stderr) == (2, True)
