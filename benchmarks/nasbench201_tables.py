"""Write the shipped tables of NAS-Bench-201 from lists of its accuracies.

    python -m benchmarks.nasbench201_tables FOLDER

FOLDER has accuracies_200_epochs.csv.xz and accuracies_12_epochs.csv.xz: one line a cell in the order of the benchmark's index,
with the columns cell, cifar10_test, ... in per cent, to 4 decimals.
"""

import csv
import lzma
import struct
import sys
from decimal import Decimal
from pathlib import Path

from darts_cli import files
from darts_cli.formats.nasbench201 import CELLS, COLUMNS, UNITS, encode


def table(rows: list[dict[str, str]], columns: list[tuple[str, str]]) -> bytes:
    order = [encode(row["cell"]) for row in rows]
    content = struct.pack(f"<{CELLS}H", *order)
    by_number = [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
    for dataset, part in columns:
        name = f"{dataset.replace('-', '_')}_{part}"
        content += struct.pack(f"<{CELLS}I", *(int(Decimal(row[name]) * UNITS) for row in by_number))
    return content


if __name__ == "__main__":
    for epochs, columns in COLUMNS.items():
        with lzma.open(Path(sys.argv[1]) / f"accuracies_{epochs}_epochs.csv.xz", "rt", encoding="utf-8", newline="") as file:
            content = table(list(csv.DictReader(file)), columns)
        files.write(files.data_folder("spaces") / f"nas-bench-201.{epochs}-epochs.xz", lzma.compress(content))
