"""Plans against the runs they are about: peak memory and seconds of eight small configurations of both domains.

    python -m benchmarks.plans            all
    python -m benchmarks.plans 0 3        these

A plan, the run, and another plan, one after the other; the seconds are the mean of both plans. Other programs on these cores
disturb the seconds, but hardly the memory.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = [
    "search cnn --dataset digits --epochs 3 --channels 4 --batch-size 64",
    "search cnn --dataset digits --epochs 2 --channels 8 --batch-size 128",
    "search cnn --dataset digits --epochs 2 --channels 4 --unrolled",
    "search cnn --dataset digits --epochs 3 --channels 8 --method pc-darts:warmup=1",
    "train cnn --dataset digits --epochs 4",
    "train cnn --dataset digits --epochs 3 --channels 16 --train-portion 0.8",
    "search rnn --dataset pydoc --epochs 1 --dim 32",
    "train rnn --dataset pydoc --epochs 3",
]


def planned(words: list[str]) -> dict:
    """The figures of the plan of a command."""
    command = [sys.executable, "-m", "darts_cli", "plan", *words, "--json", "--quiet", "--seconds", "20"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["runs"][0]


# The command, which prints its peak before the interpreter ends: that unloads PyTorch, and reads some 130 MB of its files.
RUN = """
import sys
from darts_cli.cli import main
from darts_cli.runtime.device import peak_memory
try:
    main(sys.argv[1:])
finally:
    print()
    print(peak_memory())
"""


def measured(words: list[str]) -> tuple[float, int]:
    """The seconds and the peak bytes of the command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RUN, *words, "--run", folder, "--quiet"]
        start = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"darts {' '.join(words)} failed")
    return seconds, int(done.stdout.splitlines()[-1])


def main(numbers: list[str]) -> None:
    print("| command | planned | measured | off | planned peak | measured peak | off |", flush=True)
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for number in map(int, numbers or range(len(COMMANDS))):
        words = [*COMMANDS[number].split(), "--device", "cpu"]
        before, (seconds, peak), after = planned(words), measured(words), planned(words)
        guess = statistics.mean([before["seconds"], after["seconds"]])
        memory = max(before["memory_bytes"], after["memory_bytes"])
        times = f"{guess:.1f} s | {seconds:.1f} s | {guess / seconds - 1:+.0%}"
        print(
            f"| `{COMMANDS[number]}` | {times} | {memory / 1e6:.0f} MB | {peak / 1e6:.0f} MB | {memory / peak - 1:+.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
