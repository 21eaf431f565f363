"""How the command ends: every error as one line on stderr and an exit code, printed by one process of several."""

import contextlib
import errno
import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import click

from darts_cli import DartsError, Stopped
from darts_cli.text import on_lines, out_of_memory, printable, tell

ORIGINAL = {  # options of the original that are not taken here, and what to do instead
    "--gpu": "use --device cuda:N",
    "--save": "use --run DIR",
    "--cuda": "use --device cpu to turn CUDA off",
    "--single-gpu": "use --device for one GPU, torchrun for several",
    "--small-batch-size": "use --batch-chunks N",
    "--continue-train": "leave it out: the same command resumes",
    "--decay-period": "leave it out: the learning rate decays after every epoch",
    "--max-seq-len-delta": "leave it out: a step has at most --bptt + 20 words",
}
STAGES = ("search", "train")
PACKAGES = ("torch", "torchvision")  # that are built for each other
FIRST_RANK_SECONDS = 5  # after which another rank prints its error, unless torchrun has ended it


class Darts(click.Group):
    """The root command. An error in it ends as one line on stderr and an exit code."""

    def main(self, *args, **kwargs):
        rank = _rank()
        for stream in (sys.stdout, sys.stderr):  # never fail on characters that the locale cannot encode
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        with _silent() if rank else contextlib.nullcontext():  # only rank 0 prints
            message, exit_code = self._run(*args, **kwargs)
        # Here the traceback is gone, and with it whatever the failed command had open.
        if rank and message:
            time.sleep(FIRST_RANK_SECONDS)
            message = f"process {rank}: {message}"
        if message:
            tell(message)
        _flush_stderr()
        sys.exit(exit_code)

    def _run(self, *args, **kwargs) -> tuple[str, int]:
        """Run the command. Returns the error message, or "", and the exit code."""
        try:
            result = super().main(*args, **kwargs | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            return error.format_message(), error.exit_code
        except click.UsageError as error:
            path, message = error.ctx.command_path if error.ctx else "darts", error.format_message().rstrip(".")
            if isinstance(error, click.NoSuchOption) and error.option_name in ORIGINAL:
                message = f"{error.option_name}: is an option of the original; {ORIGINAL[error.option_name]}"
            elif isinstance(error, click.NoSuchOption) and (other := _sibling(error)):
                message = f"{error.option_name}: is an option of {other}, not of {path}"
            return _error(f"{message}{' See' if message.endswith('?') else '; see'} {path} --help"), error.exit_code
        except click.ClickException as error:
            return _error(error.format_message()), error.exit_code
        except Stopped as stopped:
            return _resumable(stopped), stopped.exit_code
        except DartsError as error:
            return _error(str(error)), error.exit_code
        except click.Abort:
            return _error("stopped"), 130
        except OSError as error:  # stdout's errors name no file
            if broken := _broken(error):
                return _error(broken), 1
            what = "the result cannot be written" if error.filename is None else f"{error.filename}: cannot be read or written"
            return "" if error.errno == errno.EPIPE else _error(f"{what} ({error.strerror})"), 1
        except (MemoryError, RuntimeError, ImportError) as error:
            message = _broken(error) or out_of_memory(error)
            if message is None:
                raise
            return _error(message), 1
        return "", result if isinstance(result, int) else 0


def _sibling(error: click.NoSuchOption) -> str | None:
    """The command beside the one that was called that has the option: beside `train cnn`, `train rnn` and `search cnn`."""
    above = error.ctx.parent if error.ctx else None
    if above is None or above.parent is None:
        return None
    root, name = error.ctx.find_root(), error.ctx.info_name
    beside = [f"{above.command_path} {other}" for other in above.command.list_commands(above)]
    for paths in (beside, [f"{root.command_path} {stage} {name}" for stage in STAGES]):
        having = [path for path in paths if _has(root, path.split()[1:], error.option_name)]
        if having:
            return having[0] if len(having) == 1 else None
    return None


def _has(context: click.Context, path: Sequence[str], option: str) -> bool:
    """Whether the command at that path, if there is one, has the option."""
    command = context.command
    for name in path:
        command = command.get_command(context, name) if isinstance(command, click.Group) else None
    return command is not None and any(option in each.opts + each.secondary_opts for each in command.params)


def _broken(error: Exception) -> str | None:
    """What to do where a package could not be imported."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>")
    package = next((name for frame in frames if (name := frame.f_globals["__name__"].partition(".")[0]) in PACKAGES), None)
    if package is None:
        return None
    reason = " ".join(str(error).split())[:160]
    return f"{package} cannot be loaded ({reason}); reinstall versions that fit each other: pip install -U {' '.join(PACKAGES)}"


def _flush_stderr() -> None:
    """Drop what stderr cannot write; Python would try again at exit, fail, and change the exit code."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None


def _rank() -> int:
    """The number of this process among those of torchrun."""
    rank = os.environ.get("RANK", "") if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    return int(rank) if rank.isdecimal() else 0


@contextlib.contextmanager
def _silent():
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        yield


def _error(message: str) -> str:
    return f"error: {printable(message)}"


def _resumable(stopped: Stopped) -> str:
    """How to go on; on a terminal that is too narrow, the command is on lines of its own, to be copied as they are."""
    line = printable(str(stopped))
    width = shutil.get_terminal_size().columns
    if len(line) <= width or not (sys.stderr and sys.stderr.isatty()):
        return line
    return f"{printable(stopped.message)}; to resume:\n\n{on_lines(stopped.command, width)}\n"


def check_files(paths: Sequence[str], problems: Callable[[str], list[str]]) -> None:
    """Print the problems of files, each a line that begins with the file's name, or that a file is valid.

    End with exit code 1 where there are any.
    """
    failed = False
    for path in paths:
        try:
            messages = problems(path)
        except DartsError as error:
            messages = [str(error)]
        for message in messages:
            click.echo(printable(message), err=True)
        if not messages:
            click.echo(printable(f"{path}: valid"))
        failed |= bool(messages)
    if failed:
        sys.exit(1)
