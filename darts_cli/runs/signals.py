"""Ctrl-C, SIGTERM and the closing of the terminal: noted by what can save before it ends."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

STOPS = [signal.SIGINT, signal.SIGTERM]
if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
    STOPS.append(signal.SIGHUP)


@contextlib.contextmanager
def noted(note: Callable[[int], None]) -> Iterator[None]:
    """Inside, a signal that asks to stop calls `note` with its number, and does nothing else.

    In the main thread only, which alone may take signals; in any other nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda number, _frame: note(number)) for each in STOPS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def obey() -> None:
    """From here on such a signal ends the process at once, as is usual; but a terminal that closes may say so twice."""
    for each in STOPS:
        handler = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_IGN}.get(each.name, signal.SIG_DFL)
        signal.signal(each, handler)
