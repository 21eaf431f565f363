"""What a run folder is about: a stage of a domain, or a sweep over many of its runs."""

from typing import NamedTuple

from darts_cli import DartsError
from darts_cli.config import SearchCNN, SearchRNN, TrainCNN, TrainRNN
from darts_cli.schema import Config

# A "select" run is the training that ranks a candidate: it leaves the test part closed.
CONFIGS: dict[tuple[str, str], type[Config]] = {
    ("search", "cnn"): SearchCNN,
    ("search", "rnn"): SearchRNN,
    ("train", "cnn"): TrainCNN,
    ("train", "rnn"): TrainRNN,
    ("select", "cnn"): TrainCNN,
    ("select", "rnn"): TrainRNN,
    ("compare", "cnn"): SearchCNN,
    ("compare", "rnn"): SearchRNN,
}


class Task(NamedTuple):
    """A stage ("search", "train", "select" or "compare"), a domain ("cnn" or "rnn") and, for a sweep, what it runs over."""

    stage: str
    domain: str
    sweep: str | None = None  # "seeds" or "repeats"

    @classmethod
    def parse(cls, text: object) -> "Task":
        """The task that config.yaml and checkpoints call by this text. Raises DartsError when there is no such task."""
        for stage, domain in CONFIGS:
            for sweep in (None, "seeds", "repeats"):
                task = cls(stage, domain, sweep)
                if text == str(task):
                    return task
        raise DartsError(f"its command must be one of {', '.join(map(' '.join, CONFIGS))}")

    def __str__(self) -> str:
        """As config.yaml and checkpoints name it, such as "search cnn" or "search cnn --seeds"."""
        return f"{self.command} --{self.sweep}" if self.sweep else self.command

    @property
    def command(self) -> str:
        return f"{self.stage} {self.domain}"

    @property
    def config(self) -> type[Config]:
        return CONFIGS[self.stage, self.domain]
