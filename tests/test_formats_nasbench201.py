"""The table of NAS-Bench-201: published numbers, ranks counted plainly, and what is refused."""

import itertools
from statistics import mean

import pytest

from darts_cli import DartsError, files
from darts_cli.formats.nasbench201 import BENCHMARK_DATA, CELLS, OPERATIONS, decode, encode, load, truth

SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
FIRST = [  # of the benchmark's index
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|",
]
COLUMNS = [(200, dataset, "test") for dataset in BENCHMARK_DATA]
COLUMNS += [(12, dataset, part) for dataset in BENCHMARK_DATA for part in ("test", "valid")]


def accuracies(epochs, dataset, part):
    return [load(epochs).accuracy(cell, dataset, part) for cell in load(epochs).cells]


@pytest.mark.parametrize("epochs", [200, 12])
def test_every_cell_of_the_space_is_there_once(epochs):
    table = load(epochs)
    assert len(table) == len(table.cells) == CELLS == 15_625
    all_cells = ("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops) for ops in itertools.product(OPERATIONS, repeat=6))
    assert set(table.cells) == set(all_cells)
    assert list(table.cells[:3]) == FIRST


def test_every_number_is_that_of_one_cell():
    assert [encode(decode(number)) for number in range(CELLS)] == list(range(CELLS))
    assert decode(0) == SKIPS.replace("skip_connect", "none")
    assert encode("|skip_connect~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|") == 1 * 5**5 + 4


@pytest.mark.parametrize(
    ("dataset", "optimum", "skips", "average"),
    [("cifar10", 94.37, 54.30, 87.06), ("cifar100", 73.51, 15.61, 61.41), ("imagenet16-120", 47.31, 16.32, 33.59)],
)
def test_published_accuracies_after_200_epochs(dataset, optimum, skips, average):
    """The optima, and the cell of skip connections that DARTS is reported to end with."""
    cell, accuracy = load().best(dataset)
    assert round(accuracy, 2) == optimum
    assert load().accuracy(cell, dataset) == accuracy
    assert round(load().accuracy(SKIPS, dataset), 2) == skips
    assert round(mean(accuracies(200, dataset, "test")), 2) == average


@pytest.mark.parametrize(
    ("epochs", "part", "expected"),
    [
        (200, "test", [(85.8633, 52.9133, 26.6333), (93.66, 70.2933, 44.0333), (85.74, 54.8667, 27.2556)]),
        (12, "test", [(69.55, 31.26, 17.0), (88.22, 58.26, 33.8), (69.95, 29.92, 17.8667)]),
        (12, "valid", [(63.364, 31.84, 18.4667), (82.834, 57.8, 35.4333), (63.56, 29.42, 18.4667)]),
    ],
)
def test_the_first_cells_of_the_index(epochs, part, expected):
    assert [tuple(load(epochs).accuracy(cell, dataset, part) for dataset in BENCHMARK_DATA) for cell in FIRST] == expected


@pytest.mark.parametrize(("epochs", "dataset", "part"), COLUMNS)
def test_ranks_are_counted(epochs, dataset, part):
    table, column = load(epochs), accuracies(epochs, dataset, part)
    cells = [*FIRST, SKIPS, decode(0), *table.cells[::1000], table.best(dataset, part)[0]]
    for cell in cells:
        reached = table.accuracy(cell, dataset, part)
        assert table.rank(cell, dataset, part) == 1 + sum(accuracy > reached for accuracy in column)
    assert table.rank(cells[-1], dataset, part) == 1
    assert table.best(dataset, part)[1] == max(column)


def test_cells_of_equal_accuracy_share_their_rank():
    """Two cells reach the best accuracy on CIFAR-10; the third is third."""
    ranks = sorted(load().rank(cell, "cifar10") for cell in load().cells)
    assert ranks[:3] == [1, 1, 3]


def test_truth_has_all_data_sets():
    assert list(truth(SKIPS)) == list(BENCHMARK_DATA)
    assert truth(SKIPS)["cifar10"] == {"accuracy": 54.2967, "rank": load().rank(SKIPS, "cifar10"), "best": 94.3733}
    best, _ = load().best("cifar100")
    assert truth(best)["cifar100"] == {"accuracy": 73.5133, "rank": 1, "best": 73.5133}


def test_the_parts_of_the_tables():
    assert load() is load(200)
    assert load(200).parts == ("test",)
    assert load(12).parts == ("test", "valid")


@pytest.mark.parametrize("epochs", [200, 12])
def test_the_files_are_small(epochs):
    assert (files.data_folder("spaces") / f"nas-bench-201.{epochs}-epochs.xz").stat().st_size < 200_000


BAD = ["", "none", f"{SKIPS}\n", f" {SKIPS}", SKIPS.replace("~2", "~1"), SKIPS.replace("|+|", "|", 1), SKIPS + SKIPS]


@pytest.mark.parametrize("cell", [*BAD, SKIPS.replace("skip_connect", "sep_conv_3x3", 1)])
def test_other_strings_are_refused(cell):
    rule = "not a cell of NAS-Bench-201; it is written .op~0.*with the operations none, skip_connect, nor_conv_1x1"
    for function in (encode, truth, lambda cell: load().rank(cell, "cifar10")):
        with pytest.raises(DartsError, match=rule) as error:
            function(cell)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: decode(CELLS), "15625: not the number of a cell of NAS-Bench-201; they are 0 to 15,624"),
        (lambda: decode(-1), "-1: not the number of a cell"),
        (lambda: load(100), "100 epochs: NAS-Bench-201 has the accuracies after 200 or 12"),
        (lambda: load().accuracy(SKIPS, "imagenet"), "'imagenet': not a data set of NAS-Bench-201; it has cifar10, cifar100"),
        (lambda: load().rank(SKIPS, "cifar10", "valid"), "'valid': not a part .* the table after 200 epochs has test$"),
        (lambda: load(12).best("cifar10", "train"), "'train': not a part .* the table after 12 epochs has test, valid$"),
    ],
)
def test_what_the_tables_do_not_have_is_refused(function, message):
    with pytest.raises(DartsError, match=message):
        function()
