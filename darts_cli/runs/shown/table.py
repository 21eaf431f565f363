"""What TensorBoard shows of a sweep: one table of hyper-parameters, a row for every run, with its scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from darts_cli.runs.shown.events import FILE, FOLDER, bring, check, event, first, scalar

Value = str | int | float | bool


class Row(NamedTuple):
    """A run of a sweep: its name, what tells it from the others, and what it reached; without scores it failed."""

    name: str
    settings: Mapping[str, Value]
    scores: Mapping[str, float]


def write(sweep: Path, rows: Sequence[Row]) -> None:
    """Write the table below the folder of a sweep. It follows from the rows, so a resumed sweep writes the same bytes.

    Raises DartsError when TensorBoard is missing.
    """
    check()
    from tensorboard.plugins.hparams import summary_v2 as hparams

    settings, scores = (list(dict.fromkeys(name for row in rows for name in row[i])) for i in (1, 2))
    columns = [hparams.HParam(name) for name in settings], [hparams.Metric(name) for name in scores]
    bring(sweep / FOLDER / FILE, first() + event(hparams.hparams_config_pb(*columns).value, 0, 0.0))
    for row in rows:
        session = hparams.hparams_pb(dict(row.settings), trial_id=row.name, start_time_secs=0.0)
        events = [event(session.value, 0, 0.0), event([scalar(*score) for score in row.scores.items()], 1, 0.0)]
        bring(sweep / FOLDER / row.name / FILE, first() + b"".join(events))
