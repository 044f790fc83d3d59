"""A few cases of the campaigns in tests/campaign, which take minutes as a whole."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, environment

NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.mark.skipif(sys.platform != "linux", reason="uses what only Linux has")
@pytest.mark.parametrize(("script", "count"), [
    ("fuzz", 60), ("damaged", 24), pytest.param("kills", 6, marks=NEEDS_STRACE),
    pytest.param("full_disk", 6, marks=NEEDS_STRACE),
])  # fmt: skip
def test_a_few_cases_pass(script: str, count: int) -> None:
    words = [sys.executable, f"tests/campaign/{script}.py", "--count", str(count), "--jobs", "1"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
