"""The engine of a Ray cluster: a run is an actor with its share of a machine, which starts the same process as on this one."""

import contextlib
import io
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from darts_cli import DartsError, __version__, files
from darts_cli.sweeps.engines.engine import Event, Worker
from darts_cli.sweeps.engines.local import devices

TOKEN = ".storage"  # a file in the folder of the sweep, which every machine must see
TRY = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"
SOCKET_SECONDS, CONNECT_SECONDS, CHECK_SECONDS = 10, 45, 120
SHARE_DIGITS = 10_000  # of a GPU, Ray counts ten-thousandths


@dataclass
class Actor:
    """A run on the cluster."""

    handle: ray.actor.ActorHandle
    ready: ray.ObjectRef = field(init=False)
    lines: ray.ObjectRefGenerator = field(init=False)

    def __post_init__(self):
        self.ready = self.handle.__ray_ready__.remote()
        self.lines = self.handle.lines.options(num_returns="streaming").remote()

    def stop(self, at_once: bool) -> None:
        if ray.wait([self.ready], timeout=0)[0]:
            self.handle.stop.remote(at_once)
        else:  # it waits for room, or is being created
            ray.kill(self.handle)


class Ray:
    """`--engine ray[:ADDRESS]`: that cluster, or the one that runs on this machine, or else this machine as a cluster of one.

    A run has the threads and the part of a GPU that --parallel gives it on a machine. Raises DartsError.
    """

    def __init__(self, address: str | None, parallel: str | int, device: str, folder: Path):
        with contextlib.ExitStack() as stack:
            # the result alone belongs on stdout, where Ray tells of lost machines in many lines
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.callback(ray.shutdown)
            _connect(address)
            gpus = int(max(node["Resources"].get("GPU", 0) for node in _machines()))
            names, self.threads = devices(parallel, "cuda" if device.startswith("cuda") else device, gpus)
            self.device = "cuda" if device.startswith("cuda") or (device == "auto" and gpus) else device
            part = min(1, int(SHARE_DIGITS * gpus / len(names)) / SHARE_DIGITS)
            self.share = {"num_cpus": self.threads, "num_gpus": part if self.device == "cuda" else 0}
            self._check_room(gpus)
            _check_storage(folder)
            self.stack = stack.pop_all()
        self.actors: dict[str, Actor] = {}

    @property
    def at_a_time(self) -> int:
        cpus, gpus = self.share.values()
        resources = [node["Resources"] for node in _machines()]
        room = [min(has.get("CPU", 0) // cpus, has.get("GPU", 0) // gpus if gpus else sys.maxsize) for has in resources]
        return int(sum(room))

    def room(self) -> bool:
        return len(self.actors) < max(1, self.at_a_time)

    def start(self, name: str, job: dict) -> None:
        job = job | {"settings": job["settings"] | {"device": self.device}}
        actor = ray.remote(Worker).options(max_concurrency=2, max_restarts=0, **self.share)  # lines, and what asks it to stop
        self.actors[name] = Actor(actor.remote(job, self.threads, os.getcwd()))

    def events(self, seconds: float) -> list[Event]:
        if not self.actors:
            time.sleep(seconds)
            return []
        names = {actor.lines: name for name, actor in self.actors.items()}
        ready, _ = ray.wait(list(names), timeout=seconds)
        return [event for lines in ready for event in self._next(names[lines])]

    def _next(self, name: str) -> list[Event]:
        """The next line of a run, or its end."""
        actor = self.actors[name]
        try:
            line = next(actor.lines, None)
            if line is not None:
                return [(name, ray.get(line))]
            end = [(name, ray.get(actor.handle.end.remote()))]
        except ray.exceptions.RayActorError as error:
            why = str(error).strip().splitlines()[-1]
            end = [(name, f"error: {why}"), (name, 1)] if error.actor_init_failed else [(name, None)]
        del self.actors[name]  # and with it the actor, which gives its share back
        return end

    def stop(self, at_once: bool) -> None:
        for actor in self.actors.values():
            actor.stop(at_once)

    def close(self) -> None:
        with self.stack:
            self.stop(at_once=False)
            while self.actors:
                self.events(1)

    def _check_room(self, gpus: int) -> None:
        if self.device == "cuda" and not gpus:
            raise DartsError("--engine ray: no machine of the cluster has a GPU; use --device cpu")
        if not self.at_a_time:
            most = max(node["Resources"].get("CPU", 0) for node in _machines())
            raise DartsError(
                f"--engine ray: a run needs {self.threads} CPUs, and no machine of the cluster has more than {most:g}; give "
                "each run less of a machine with --parallel, or set OMP_NUM_THREADS"
            )


def _connect(address: str | None) -> None:
    """Connect to that cluster. Raises DartsError, soon also where nobody answers."""
    given = address or os.environ.get("RAY_ADDRESS", "")
    name = f"--engine ray:{given}" if given else "--engine ray"
    host, _, port = given.rpartition(":")
    if given not in ("", "auto", "local"):
        if "/" in given or not (host and port.isdigit()):
            raise DartsError(f"{name}: must be HOST:PORT, as `ray start --head` prints it", exit_code=2)
        _check_answers(name, host.strip("[]"), int(port))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(given or None, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DartsError(f"{name}: cannot use this cluster: {' '.join(str(error).split())}") from None


def _check_answers(name: str, host: str, port: int) -> None:
    """Raises DartsError unless a cluster answers. As Ray may wait for many minutes, a process that can be ended tries first."""
    try:
        socket.create_connection((host, port), SOCKET_SECONDS).close()
        subprocess.run([sys.executable, "-c", TRY, f"{host}:{port}"], capture_output=True, check=True, timeout=CONNECT_SECONDS)
    except (OSError, OverflowError) as error:
        why = f"nobody answers there ({error})"
    except subprocess.TimeoutExpired:
        why = "what answers there is no Ray cluster"
    except subprocess.CalledProcessError as error:
        why = f"cannot use this cluster ({[b'', *error.stderr.splitlines()][-1].decode(errors='replace').strip()})"
    else:
        return
    raise DartsError(f"{name}: {why}; start one with `ray start --head`, and this command on one of its machines")


def _machines() -> list[dict]:
    """Those of the cluster."""
    return [node for node in ray.nodes() if node["Alive"]]


def _check_storage(folder: Path) -> None:
    """Raises DartsError unless every machine sees a file that is written here into the folder, and can write there itself."""
    here, token = Path(folder).absolute(), secrets.token_hex()
    look = ray.remote(num_cpus=0, max_retries=0)(problem)
    files.write(here / TOKEN, token)
    try:
        for node in _machines():
            there = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            try:
                found = ray.get(there.remote(str(here), token, os.getcwd(), __version__), timeout=CHECK_SECONDS)
            except ray.exceptions.RayError as error:
                found = f"cannot start a run ({str(error).strip().splitlines()[-1]})"
            if found:
                raise DartsError(f"--engine ray: the machine {node['NodeManagerHostname']} {found}")
    finally:
        (here / TOKEN).unlink(missing_ok=True)


def problem(folder: str, token: str, working_folder: str, version: str) -> str | None:
    """Why runs cannot work on this machine."""
    if version != __version__:
        return f"has darts {__version__}, and here it is {version}; install the same"
    rule = "it must lie on storage that all machines mount"
    if not os.path.isdir(working_folder):
        return f"has no folder {working_folder}, where this command runs; {rule}"
    try:
        if (Path(folder) / TOKEN).read_text() != token:
            return f"has another folder {folder}; {rule}"
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return f"cannot use {folder} ({error.strerror}); {rule}"
    return None
