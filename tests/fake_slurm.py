"""A stand-in for Slurm: `install` writes the commands that an array of jobs needs into a folder.

Tasks run on this machine, two at a time. Beside the commands, JOB.state holds the state of a task, and JOB.pid its process.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scancel", "scontrol", "sacct")
HOME = Path(os.environ.get("FAKE_SLURM", "."))


def install(folder):
    for name in COMMANDS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nFAKE_SLURM={folder} exec {sys.executable} {Path(__file__).absolute()} {name} "$@"\n')
        path.chmod(0o755)


def sbatch(script):
    number = str(100 + len(list(HOME.glob("*.sh"))))
    (HOME / f"{number}.sh").write_text(Path(script).read_text())
    array = re.search(r"^#SBATCH --array=0-(\d+)", Path(script).read_text(), re.MULTILINE)
    jobs = [f"{number}_{i}" for i in range(int(array[1]) + 1)] if array else [number]
    for job in jobs:
        set_state(job, "PENDING")
    subprocess.Popen(
        [sys.executable, __file__, "controller", *jobs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    print(f"Submitted batch job {number}")


def controller(*jobs):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(task, jobs))


def task(job):
    number, _, index = job.partition("_")
    array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index} if index else {}
    environment = os.environ | array | {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "FAKE_JOB": job}
    while state(job) == "PENDING":
        set_state(job, "RUNNING")
        code = subprocess.run(["bash", HOME / f"{number}.sh"], env=environment, check=False).returncode
        if state(job) == "RUNNING":
            set_state(job, "FAILED" if code else "COMPLETED")
        elif state(job) == "REQUEUED":
            set_state(job, "PENDING")


def srun(*args):
    """The options, as submitit gives them: --unbuffered --output FILE --error FILE --cpus-per-task=N COMMAND."""
    files = [re.sub("%A_%a|%j", os.environ["FAKE_JOB"], args[i]).replace("%t", "0") for i in (2, 4)]
    with open(files[0], "a") as out, open(files[1], "a") as err:
        step = subprocess.Popen(args[6:], stdout=out, stderr=err, start_new_session=True)
        (HOME / f"{os.environ['FAKE_JOB']}.pid").write_text(str(step.pid))
        sys.exit(step.wait() and 1)


def scancel(*args):
    """A signal reaches all processes of a step; without one, the job is cancelled."""
    given = [arg.partition("=")[2] for arg in args if arg.startswith("--signal=")]
    number = signal.Signals[f"SIG{given[0]}"] if given else signal.SIGTERM
    for job in (arg for arg in args if not arg.startswith("--")):
        running = state(job) == "RUNNING"
        if not given and state(job) in ("PENDING", "RUNNING"):
            set_state(job, "CANCELLED by 0")
        if running:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.killpg(int((HOME / f"{job}.pid").read_text()), number)


def scontrol(action, job):
    assert action == "requeue"
    set_state(job, "REQUEUED")


def sacct(*args):
    numbers = [args[i + 1] for i, arg in enumerate(args) if arg == "-j"]
    print("JobID|State|NodeList")
    for path in HOME.glob("*.state"):
        if path.stem.partition("_")[0] in numbers:
            print(f"{path.stem}|{state(path.stem)}|here")


def state(job):
    return (HOME / f"{job}.state").read_text()


def set_state(job, name):
    part = HOME / f"{job}.{time.monotonic_ns()}"
    part.write_text(name)
    part.replace(HOME / f"{job}.state")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
