"""What is known of trainings with the same cells and settings: the paper's results, and those of five runs of our own."""

from darts_cli import files
from darts_cli.runs.identity import Identity
from darts_cli.schema import Config

SOURCE = "Liu et al., arXiv 1806.09055"


def known(identity: Identity, result: float | None) -> str:
    """Sentences for a training's report that say where its test result lies; nothing where nothing is known.

    result    of the test, in per cent of errors or as a perplexity; None if there was no test
    """
    if identity.extended():  # its learning rate went another way
        return ""
    name = identity.published_name()
    return "\n".join(filter(None, (_published(name, identity.config, result), _usual(name, identity.config, result))))


def _published(name: str, config: Config, result: float | None) -> str:
    """What the paper reports, where the settings are its protocol."""
    found = _table("published").get(name, {}).get(config.dataset)
    if found is None or not _alike(config, {}):
        return ""
    said = f"Published for these cells and this protocol: {found['said']} ({SOURCE})."
    if result is None or "deviation" not in found:
        return said
    away = (result - found["mean"]) / found["deviation"]
    return f"{said} This run lies {abs(away):.1f} deviations {'above' if away > 0 else 'below'} that."


def _usual(name: str, config: Config, result: float | None) -> str:
    """Where our own runs of the same settings ended, and where a further one is to be expected."""
    rows = _table("measured").get(name, [])
    row = next((row for row in rows if config.dataset == row["settings"]["dataset"] and _alike(config, row["settings"])), None)
    if row is None:
        return ""
    unit, (low, high) = row["unit"], row["usual"]
    said = (
        f"{len(row['results'])} runs of these settings with other seeds, made with this program, ended with a {row['what']} of "
        f"{min(row['results']):.2f} to {max(row['results']):.2f}{unit}. Of further runs 95 % should lie between {low:.2f} and "
        f"{high:.2f}{unit}"
    )
    if result is None:
        return f"{said}."
    if low <= result <= high:
        return f"{said}; this one does."
    return f"{said}; this one, with {result:.2f}{unit}, does not. Look for what differs, such as versions or data."


def _table(name: str) -> dict:
    return files.read_yaml(files.data_folder("genotypes") / f"{name}.yaml") or {}


def _alike(config: Config, settings: dict) -> bool:
    """Whether a training has these settings, and otherwise the defaults, whatever its seed."""
    usual = type(config)(**({"dataset": config.dataset} | settings), data=config.data, seed=config.seed)
    return config.compared() == usual.compared()
