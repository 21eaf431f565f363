"""Ctrl-C, SIGTERM and a closed terminal: handled so that a run can save before it ends."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

STOPS = [signal.SIGINT, signal.SIGTERM]
if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # it is under nohup
    STOPS.append(signal.SIGHUP)


@contextlib.contextmanager
def noted(note: Callable[[int], None]) -> Iterator[None]:
    """Inside, a signal to stop calls `note` with its number and does nothing else.

    Only the main thread can handle signals; in any other nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {stop: signal.signal(stop, lambda number, _frame: note(number)) for stop in STOPS}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def obey() -> None:
    """From now on a signal to stop ends the process at once, except SIGHUP: a closing terminal may send it twice."""
    for stop in STOPS:
        handler = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_IGN}.get(stop.name, signal.SIG_DFL)
        signal.signal(stop, handler)
