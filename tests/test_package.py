"""The wheel: built, installed into another environment, and used from there."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_works_in_another_environment(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("darts_cli-*.whl")

    other = tmp_path / "other"
    venv.create(other, with_pip=False)
    scripts = other / "bin"
    packages = Path(run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A line of a .pth file makes the packages of this environment importable, but not what its own .pth files add: an
    # editable install of darts-cli stays out.
    (packages / "outer.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        scripts / "python",
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        wheel,
    )

    where = run(scripts / "python", "-c", "import darts_cli; print(darts_cli.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
    listed = run(scripts / "darts", "genotype", "list", cwd=tmp_path)
    assert len(listed.splitlines()) == 13
    shown = run(scripts / "darts", "genotype", "show", "cnn/darts_v2", cwd=tmp_path)
    assert shown == (ROOT / "genotypes" / "cnn" / "DARTS_V2.yaml").read_text()
    assert (packages / "darts_cli" / "cnn" / "datasets" / "digits.csv.gz").stat().st_size < 60_000
