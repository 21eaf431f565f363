"""The cells of a finished search, derived again from the operation weights that it recorded."""

from functools import partial

from darts_cli import DartsError
from darts_cli.genotype import Genotype
from darts_cli.methods.derive import at_most_skips, derive, derive_above, derive_pairs
from darts_cli.runs.history import History


def derived(history: History, epoch: int | None, max_skips: int | None, rule: str, threshold: float) -> Genotype:
    """The cells after an epoch, or the last, by a rule: "method", "magnitude", "threshold" or "pairs".

    Raises DartsError when the run is no search, has no such epoch, or when the rule has no meaning in its space.
    """
    if history.stage != "search":
        raise DartsError(f"{history.folder}: is a run of darts {history.command}; name a search")
    if epoch is not None and epoch > len(history.records):
        raise DartsError(f"--epoch {epoch}: {history.folder} has {len(history.records)} finished epochs", exit_code=2)
    strength = history.records[-1 if epoch is None else epoch - 1]["operation_weights"]
    space, parts = history.space, history.config.spec.parts
    if space.keep is None and rule in ("threshold", "pairs"):
        raise DartsError(f"--rule {rule}: a cell of {space.name} keeps all edges; use --rule magnitude", exit_code=2)
    if history.domain == "rnn" and rule in ("threshold", "pairs"):
        raise DartsError(f"--rule {rule}: a node of a recurrent cell has one edge; use --rule magnitude", exit_code=2)
    if max_skips is not None and "skip_connect" not in space.operations:
        raise DartsError("--max-skips: no edge of this search has a skip connection", exit_code=2)
    if max_skips is not None and all(weight in (0, 1) for table in strength.values() for row in table for weight in row):
        raise DartsError(
            "--max-skips: every edge is decided, and no weights are left to derive again from; leave it out", exit_code=2
        )
    if rule == "method":
        above = parts.get("threshold")
        rule, threshold = ("threshold", above["threshold"]) if above else ("magnitude", threshold)
        max_skips = parts.get("max-skips", {}).get("skips") if max_skips is None else max_skips
    found = derive_pairs if rule == "pairs" else derive
    if max_skips is not None:
        found = partial(at_most_skips, most=max_skips, rule=found)
    return derive_above(strength, space, threshold, found) if rule == "threshold" else found(strength, space)
