"""Importing a module changes nothing in the process, and every benchmark can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Imports all of rnntool after its dependencies, which may change the process themselves.
IMPORT_ALL = """
import os, pkgutil, signal, sys, threading, warnings
from importlib import import_module

import numpy, onnx, onnxruntime, rich.console, rich.progress, safetensors.torch, scipy, sentencepiece, torch
import torch.nn.utils.rnn, torch.func, torch.optim, typer

def process():
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "path": list(sys.path),
        "warning filters": list(warnings.filters), "recursion limit": sys.getrecursionlimit(),
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "hooks": (sys.excepthook, sys.displayhook), "streams": (sys.stdin, sys.stdout, sys.stderr),
        "running threads": threading.active_count(), "floating-point errors": numpy.geterr(),
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's default type": torch.get_default_dtype(), "torch's seed": torch.initial_seed(),
        "denormals are kept": bool((torch.full((64,), 1e-39) * 1.0 > 0).all()),
        "gradients": torch.is_grad_enabled(),
    }

before = process()
import rnntool
names = [module.name for module in pkgutil.walk_packages(rnntool.__path__, "rnntool.")]
for name in names:
    if name != "rnntool.__main__":
        import_module(name)
after = process()
assert len(names) > 100 and before["denormals are kept"]
print(*(f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]), end="")
"""

MALLOPT = """
import ctypes, pkgutil
from importlib import import_module

def refuse(*arguments, **settings):
    raise AssertionError("a library was opened, as for mallopt")

import numpy, onnx, onnxruntime, safetensors.torch, sentencepiece, torch
ctypes.CDLL = refuse
import rnntool
for module in pkgutil.walk_packages(rnntool.__path__, "rnntool."):
    if module.name != "rnntool.__main__":
        import_module(module.name)
"""

BENCHMARKS = """
import sys
from importlib import import_module
from pathlib import Path

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
names = sorted(path.stem for path in folder.glob("*.py"))
for name in names:
    import_module(name)
print(len(names))
"""


def python(code: str, *arguments: str) -> str:
    """Run code in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_modules_changes_nothing_in_the_process() -> None:
    assert python(IMPORT_ALL) == ""


def test_importing_modules_does_not_configure_malloc() -> None:
    python(MALLOPT)


def test_every_benchmark_can_be_imported() -> None:
    assert int(python(BENCHMARKS, str(ROOT / "benchmarks"))) >= 15
