"""The engine of Slurm: the runs of a sweep are tasks of job arrays, which start the same processes as on one machine."""

import contextlib
import io
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.helpers import DelayedSubmission

from darts_cli import DartsError
from darts_cli.sweeps.engines.engine import Event, Worker
from darts_cli.sweeps.engines.local import devices

ARRAY_TASKS = 1000  # in one array; Slurm refuses more unless it is configured for them
TIME_LIMIT_MINUTES = 24 * 60  # unless SBATCH_TIMELIMIT says otherwise; a run then saves and is queued again
POLL_SECONDS = 2
LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "TIMEOUT")  # states in which a run may start again from its checkpoint


class Work:
    """What a task of the array does; submitit calls `checkpoint` shortly before the time limit, and queues the task again."""

    worker: Worker | None = None

    def __call__(self, job: dict, threads: int) -> tuple[str, int]:
        """Returns the last line of the run, and its exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])  # in the worker, which must survive the warning of the limit
        self.worker = Worker(job, threads, session=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        last = ""
        for line in self.worker.lines():
            print(line, file=sys.stderr, flush=True)
            last = line.strip() or last
        return last, self.worker.end()

    def checkpoint(self, *args) -> DelayedSubmission:
        if self.worker:
            self.worker.stop()
            self.worker.end()
        return DelayedSubmission(Work(), *args)


class Slurm:
    """`--engine slurm`. A run asks for the threads that --parallel gives it on a machine like this one, and for a GPU with
    --device cuda. Raises DartsError."""

    at_a_time = sys.maxsize  # Slurm decides

    def __init__(self, parallel: str | int, device: str, folder: Path):
        self.folder, self.device = Path(folder) / "slurm", device
        self.threads = devices(parallel, device, int(device.startswith("cuda")))[1]
        self.waiting: dict[str, dict] = {}  # jobs that have not been submitted, by name
        self.jobs: dict[str, submitit.Job] = {}
        self.dropped: list[str] = []  # those that nobody waits for any longer
        self.stopping, self.polled = False, 0.0
        logging.getLogger("submitit").setLevel(logging.ERROR)

    def room(self) -> bool:
        return True

    def start(self, name: str, job: dict) -> None:
        self.waiting[name] = job

    def events(self, seconds: float) -> list[Event]:
        submitted = self._submit()
        if submitted:
            return submitted
        ends = [(name, None) for name in self.dropped]
        self.dropped.clear()
        if time.monotonic() < self.polled + POLL_SECONDS:
            time.sleep(0 if ends else seconds)
            return ends
        self.polled = time.monotonic()
        if self.stopping and self.jobs:
            submitit.SlurmJob.watcher.update()  # it asks Slurm more and more rarely
        return ends + [event for name in list(self.jobs) for event in self._end(name)]

    def _submit(self) -> list[Event]:
        """Submit what waits, as arrays."""
        events: list[Event] = []
        while self.waiting:
            names = list(self.waiting)[:ARRAY_TASKS]
            works = [(self.waiting.pop(name), self.threads) for name in names]
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # the error has these lines too
                    jobs = self._executor().map_array(Work(), *zip(*works, strict=True))
            except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
                said = [line.strip() for line in str(error).splitlines() if line.startswith("sbatch:")] or [str(error)]
                raise DartsError(f"--engine slurm: cannot submit the runs: {' '.join(' '.join(said).split())}") from None
            self.jobs |= dict(zip(names, jobs, strict=True))
            events += [
                (name, f"job {job.job_id} of Slurm, log {job.paths.stderr}") for name, job in zip(names, jobs, strict=True)
            ]
        return events

    def _executor(self) -> submitit.SlurmExecutor:
        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=sys.maxsize)
        executor.update_parameters(
            job_name="darts",
            time=TIME_LIMIT_MINUTES,
            cpus_per_task=self.threads,
            gpus_per_node=1 if self.device.startswith("cuda") else None,
            array_parallelism=ARRAY_TASKS,
            srun_args=[f"--cpus-per-task={self.threads}"],  # which srun no longer takes from the job
        )
        return executor

    def _end(self, name: str) -> list[Event]:
        """The last line of a run and its exit code, if it has ended."""
        job = self.jobs[name]
        if not job.done():
            return []
        del self.jobs[name]
        state = job.state.split()[0]  # such as: CANCELLED by 1000
        if not job.paths.result_pickle.exists():
            if state == "CANCELLED":
                return [(name, 128 + signal.SIGTERM)]
            if state in LOST:
                return [(name, None)]
        try:
            last, code = job.result()
        except (FailedJobError, UncompletedJobError):
            last, code = f"error: its job {job.job_id} ended as {state}; see {job.paths.stderr}", 1
        return [(name, last), (name, code)]

    def stop(self, at_once: bool) -> None:
        self.stopping = True
        self.dropped += self.waiting
        self.waiting.clear()
        if self.jobs:
            ids = [job.job_id for job in self.jobs.values()]
            subprocess.run(["scancel", *(["--signal=KILL"] if at_once else []), *ids], check=False)
        if at_once:
            self.dropped += self.jobs
            self.jobs.clear()

    def close(self) -> None:
        if self.jobs:
            self.stop(at_once=False)
        with contextlib.suppress(KeyboardInterrupt):
            while self.jobs:
                self.events(1)
