"""What a search of images says of its collapse guard: when it begins, after an epoch, and in its report."""

from collections.abc import Mapping, Sequence

from darts_cli.guard.rules import first_stop, parse, regularises, times_regularised
from darts_cli.guard.watch import eigenvalues

Records = Sequence[Mapping]
ORDINALS = ("first", "second", "third", "fourth")


def opening(config) -> list[str]:
    """What a search says at its start: that nothing stops it, or that its rule cannot."""
    if config.stop == "never":
        return ["warning: --stop never: the search goes on even when its cells collapse; see --stop"]
    first = first_stop(parse(config.stop), config.eigenvalue_every)
    if first > config.epochs:
        return [f"warning: --stop {config.stop} cannot end a search before epoch {first}, and this one has {config.epochs}"]
    return []


def regularised(config, records: Records) -> str:
    """That a search has gone back to the last of these records."""
    weight_decay, drop_path = config.regularisation(records)
    stronger = f"drop-path {drop_path:g}" if config.drop_path else f"weight decay {weight_decay:g}"
    after, times = records[-1]["regularised"]["after_epoch"], times_regularised(records)
    last = "" if regularises(config.weight_decay, config.drop_path, times) else "; from then on nothing stops it"
    return (
        f"After epoch {after} the rule {config.stop} led back to the end of epoch {len(records)}, and on with {stronger}, for "
        f"the {ORDINALS[times - 1]} time{last}."
    )


def endangered(config, records: Records) -> str | None:
    """A warning where nothing stops a search, after the epoch after which a rule would have stopped it first."""
    for rule in _watching(config):
        late = rule.stopped(records, config.eigenvalue_every or 1)
        if late and config.stop == "never" and late[0] + 1 == len(records):
            return (
                f"warning: by the rule {rule} the cells collapse; with --stop never the search goes on all the same, --stop "
                f"{rule} would have ended it with the cells of epoch {late[1] + 1}"
            )
    return None


def reported(config, folder, records: Records) -> str:
    """What the rules of `--stop` say of a search in that folder."""
    lines = [regularised(config, records[: i + 1]) for i, record in enumerate(records) if "regularised" in record]
    said = config.ending(records)
    lines += [said] if said else []
    rule, last = parse(config.stop), records[-1]
    if rule.name == "skips" and not said and min(next(iter(r["skip_connections"].values())) for r in records) >= rule.limit:
        lines.append(f"The cell had {rule.limit} skip connections or more from the first epoch on, so {rule} stopped nothing.")
    for rule in () if said else _watching(config):
        late = rule.stopped(records, config.eigenvalue_every or 1)
        if late:
            lines.append(
                f"By the rule {rule} the search would have stopped after epoch {late[0] + 1}, with the cells of epoch "
                f"{late[1] + 1}, before the collapse: `darts train cnn --genotype {folder}@{late[1] + 1}`."
            )
    if "discrete_accuracy" in last:
        lines.append(
            f"Operations without weights: {last['parameter_free']:.0%} of the edges. With the same weights, the discrete cells "
            f"reach {last['discrete_accuracy']:.2%} on a part of the validation half."
        )
    return "\n".join([*lines, eigenvalues(records)]).rstrip()


def _watching(config) -> list:
    """The rules by which a search is watched that nothing stops. That of DARTS+ is about cells of two inputs."""
    names = ("skips", "eigenvalue") if config.searched.macro == "darts" else ("eigenvalue",)
    return [parse(name) for name in names]
