"""NAS-Bench-201: the accuracy that every cell of its space reaches when it is trained from scratch.

Source: Dong and Yang, NAS-Bench-201, ICLR 2020, arXiv 2001.00326; means over the benchmark's seeds.

A cell has six edges, 0->1, 0->2, 1->2, 0->3, 1->3, 2->3, and on each one of five operations. It is written
|op~0|+|op~0|op~1|+|op~0|op~1|op~2|. Its number has six digits of base 5, the operations in this order.

`spaces/nas-bench-201.200-epochs.xz` and `nas-bench-201.12-epochs.xz` are, uncompressed and little endian:

    15,625 x uint16             the numbers of the cells, in the order of the benchmark's index
    15,625 x uint32, by column  accuracy in units of 0.0001 %, in the order of the numbers

The columns are `COLUMNS`. `benchmarks/nasbench201_tables.py` writes these files.
"""

import functools
import lzma
import re
import reprlib
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from darts_cli import DartsError, files
from darts_cli.genotype import Genotype
from darts_cli.settings.shared import BENCHMARK_DATA
from darts_cli.spaces.space import Space
from darts_cli.spaces.space import load as load_space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CELLS = len(OPERATIONS) ** 6
COLUMNS = {  # by epochs of training
    200: [(dataset, "test") for dataset in BENCHMARK_DATA],
    12: [(dataset, part) for dataset in BENCHMARK_DATA for part in ("test", "valid")],
}
UNITS = 10_000  # to a per cent

FORM = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
PATTERN = re.compile(re.escape(FORM).replace(re.escape("{}"), f"({'|'.join(OPERATIONS)})"))


def encode(cell: str) -> int:
    """The number of a cell. Raises DartsError when it is no cell of this space."""
    match = PATTERN.fullmatch(cell)
    if match is None:
        raise DartsError(
            f"{reprlib.repr(cell)}: not a cell of NAS-Bench-201; it is written {FORM.format(*['op'] * 6)}, "
            f"with the operations {', '.join(OPERATIONS)}"
        )
    return functools.reduce(lambda number, op: number * len(OPERATIONS) + OPERATIONS.index(op), match.groups(), 0)


def decode(number: int) -> str:
    """The cell that has a number, 0 to 15,624. Raises DartsError for others."""
    if not 0 <= number < CELLS:
        raise DartsError(f"{number}: not the number of a cell of NAS-Bench-201; they are 0 to {CELLS - 1:,}")
    operations = []
    for _ in range(6):
        number, digit = divmod(number, len(OPERATIONS))
        operations.append(OPERATIONS[digit])
    return FORM.format(*reversed(operations))


class Table:
    """The accuracies of all cells after one number of epochs, in per cent.

    `order` has the numbers of the cells in the benchmark's order; `columns` the accuracies by data set and part, in `UNITS`.
    Methods raise DartsError for a cell, a data set or a part that is not in the table.
    """

    def __init__(self, epochs: int, order: Sequence[int], columns: Mapping[tuple[str, str], Sequence[int]]):
        self.epochs = epochs
        self.parts = tuple(dict.fromkeys(part for _, part in columns))
        self._order, self._columns = order, columns
        self._sorted: dict[tuple[str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self._order)

    @functools.cached_property
    def cells(self) -> tuple[str, ...]:
        """All cells, in the order of the benchmark's index."""
        return tuple(map(decode, self._order))

    def accuracy(self, cell: str, dataset: str, part: str = "test") -> float:
        return self._column(dataset, part)[encode(cell)] / UNITS

    def rank(self, cell: str, dataset: str, part: str = "test") -> int:
        """1 + the number of cells with a higher accuracy."""
        column = self._column(dataset, part)
        if (dataset, part) not in self._sorted:
            self._sorted[dataset, part] = sorted(column)
        return 1 + len(self) - bisect_right(self._sorted[dataset, part], column[encode(cell)])

    def best(self, dataset: str, part: str = "test") -> tuple[str, float]:
        """The cell with the highest accuracy, and this accuracy."""
        column = self._column(dataset, part)
        number = max(self._order, key=column.__getitem__)
        return decode(number), column[number] / UNITS

    def _column(self, dataset: str, part: str) -> Sequence[int]:
        if dataset not in BENCHMARK_DATA:
            raise DartsError(f"{reprlib.repr(dataset)}: not a data set of NAS-Bench-201; it has {', '.join(BENCHMARK_DATA)}")
        if part not in self.parts:
            there = f"the table after {self.epochs} epochs has {', '.join(self.parts)}"
            raise DartsError(f"{reprlib.repr(part)}: not a part of NAS-Bench-201; {there}")
        return self._columns[dataset, part]


def load(epochs: int = 200) -> Table:
    """The table after 200 or 12 epochs of training; it is read once. Raises DartsError for other numbers."""
    if epochs not in COLUMNS:
        raise DartsError(f"{epochs} epochs: NAS-Bench-201 has the accuracies after {' or '.join(map(str, COLUMNS))}")
    return _read(epochs)


@functools.cache
def _read(epochs: int) -> Table:
    names = COLUMNS[epochs]
    content = lzma.decompress((files.data_folder("spaces") / f"nas-bench-201.{epochs}-epochs.xz").read_bytes())
    numbers = struct.unpack(f"<{CELLS}H{CELLS * len(names)}I", content)
    order, *columns = (numbers[start : start + CELLS] for start in range(0, len(numbers), CELLS))
    return Table(epochs, order, dict(zip(names, columns, strict=True)))


def truth(cell: str) -> dict[str, dict[str, float]]:
    """By data set: the test accuracy of a cell after 200 epochs, its rank among all, and the best accuracy of any cell.

    Raises DartsError when it is no cell of this space.
    """
    table = load()
    return {
        dataset: {"accuracy": table.accuracy(cell, dataset), "rank": table.rank(cell, dataset), "best": table.best(dataset)[1]}
        for dataset in BENCHMARK_DATA
    }


def holds(space: Space) -> bool:
    """Whether the table has every cell of a space."""
    known = load_space("nas-bench-201")
    return (space.macro, space.nodes) == (known.macro, known.nodes) and set(space.operations) <= set(OPERATIONS)


def in_words(known: Mapping[str, float]) -> str:
    """The truth about a cell on one data set, in words."""
    return f"{known['accuracy']:.2f} %, rank {known['rank']:,} of {CELLS:,}; the best cell has {known['best']:.2f} %"


def cell_of(genotype: Genotype) -> str | None:
    """The cell of a genotype as the table writes it; None where the table does not have it."""
    if genotype.macro != "nas-bench-201":
        return None
    cell = "+".join("|" + "".join(f"{op}~{state}|" for op, state in node) for node in genotype.cells["cell"].nodes)
    return cell if PATTERN.fullmatch(cell) else None
