"""A SLURM to run real jobs on; without one these tests are skipped."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session", autouse=True)
def slurm() -> None:
    """Skip what is here unless a SLURM answers."""
    reason = "SLURM is needed, on a machine that is not shared: as root, tests/slurm/onehost.sh start"
    if shutil.which("sinfo") is None:
        pytest.skip(f"{reason} (there is no sinfo)")
    try:
        answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{reason} (sinfo does not answer)")
    if answer.returncode:
        pytest.skip(f"{reason} (sinfo: {answer.stderr.strip().splitlines()[-1]})")
