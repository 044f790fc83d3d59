"""The first cases of two campaigns in tests/campaign, which take minutes as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT, environment


@pytest.mark.skipif(sys.platform != "linux", reason="uses what only Linux has")
@pytest.mark.parametrize(("script", "count"), [("fuzz", 30), ("damaged", 12)])
def test_the_first_cases_pass(script: str, count: int) -> None:
    words = [sys.executable, f"tests/campaign/{script}.py", "--count", str(count), "--jobs", "1"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
