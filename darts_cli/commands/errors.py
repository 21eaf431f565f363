"""How the command ends: whatever goes wrong as one line on stderr and an exit code, of several processes said once."""

import contextlib
import errno
import io
import os
import sys
import time

import click

from darts_cli import DartsError
from darts_cli.text import out_of_memory, printable, tell


class Darts(click.Group):
    """The root command; whatever goes wrong in it ends as one line on stderr and an exit code."""

    def main(self, *args, **kwargs):
        rank = _rank()
        for stream in (sys.stdout, sys.stderr):  # a letter that this locale lacks ends nothing
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        with _silent() if rank else contextlib.nullcontext():  # of several processes the first one speaks
            message, exit_code = self._outcome(*args, **kwargs)  # by then the failed command is gone, with what it had open
        if rank and message:
            time.sleep(5)  # torchrun ends this process meanwhile if the first one has said it
            message = f"process {rank}: {message}"
        if message:
            tell(message)
        _leave_nothing()
        sys.exit(exit_code)

    def _outcome(self, *args, **kwargs) -> tuple[str, int]:
        try:
            result = super().main(*args, **kwargs | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            return error.format_message(), error.exit_code
        except click.UsageError as error:
            path, message = error.ctx.command_path if error.ctx else "darts", error.format_message().rstrip(".")
            return _error(f"{message}{' See' if message.endswith('?') else '; see'} {path} --help"), error.exit_code
        except click.ClickException as error:
            return _error(error.format_message()), error.exit_code
        except DartsError as error:
            return _error(str(error)), error.exit_code
        except click.Abort:
            return _error("stopped"), 130
        except OSError as error:  # of stdout, where it names no file
            what = "the result cannot be written" if error.filename is None else f"{error.filename}: cannot be read or written"
            return "" if error.errno == errno.EPIPE else _error(f"{what} ({error.strerror})"), 1
        except (MemoryError, RuntimeError) as error:
            message = out_of_memory(error)
            if message is None:
                raise
            return _error(message), 1
        return "", result if isinstance(result, int) else 0


def _leave_nothing() -> None:
    """What could not be written to stderr is given up, or Python would try once more at its end and change the exit code."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None


def _rank() -> int:
    """Which of torchrun's processes this is."""
    rank = os.environ.get("RANK", "") if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    return int(rank) if rank.isdecimal() else 0


@contextlib.contextmanager
def _silent():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _error(message: str) -> str:
    return f"error: {printable(message)}"
