"""Shared by the campaign scripts: cases and their table, commands in forked processes, strace, tiny models.

All of rnntool is imported once, and each command then runs in a fork of that process. So a command takes
milliseconds instead of the seconds that importing torch takes, and strace sees little else than its own work.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib
import multiprocessing
import os
import pkgutil
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# read by the libraries when they are imported; a process with threads can't be forked safely
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RNNTOOL_THREADS="1", COLUMNS="120",
                  NO_COLOR="1", TERM="dumb", PYTHONPATH=str(ROOT))

import tiny  # noqa: E402

GIB = 2**30
STDERR_BYTES = 2**20


# --- Cases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Something to try. `check` gets an empty folder, and returns what is wrong or None."""

    group: str  # its row in the table
    title: str
    check: Callable[[Path], str | None]


MakeCases = Callable[[Path, int, int], Sequence[Case]]  # (shared folder, count, seed)
_cases: Sequence[Case] = ()  # inherited by the worker processes


def main(
    description: str | None, make_cases: MakeCases, *, count: int, count_help: str = "number of cases"
) -> None:
    """Parse the command line, run the cases, print a table, and exit with 1 if a case failed.

    The case with a number must depend on the number and the seed alone, so that it can be repeated.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count, help=f"{count_help} (default: {count})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    parser.add_argument("--case", type=int, help="run only the case with this number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one per core)")
    parser.add_argument("--keep", type=Path, help="folder to keep the files of failed cases in")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rnntool-campaign-") as shared:
        os.environ.update(XDG_DATA_HOME=f"{shared}/data", HOME=shared)
        import_everything()
        globals()["_cases"] = make_cases(Path(shared), options.count, options.seed)
        chosen = range(len(_cases)) if options.case is None else [options.case]
        cases: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
            for number, fault in pool.imap_unordered(_run, [(n, options.keep) for n in chosen]):
                case = _cases[number]
                cases[case.group] += 1
                if fault:
                    failures[case.group] += 1
                    print(f"FAILED {case.group}: {case.title}\n    {fault}\n    repeat: python {sys.argv[0]} "
                          f"--seed {options.seed} --count {options.count} --case {number}", flush=True)
    width = max(map(len, cases), default=5)
    print(f"{'':{width}}  cases  passed  failed")
    for group, total in [*sorted(cases.items()), ("total", cases.total())]:
        failed = failures.total() if group == "total" else failures[group]
        print(f"{group:{width}}  {total:5}  {total - failed:6}  {failed:6}")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(1 if failures else 0)


def _run(job: tuple[int, Path | None]) -> tuple[int, str | None]:
    number, keep = job
    folder = Path(tempfile.mkdtemp(prefix=f"case-{number}-"))
    try:
        fault = _cases[number].check(folder)
    except Exception:
        fault = traceback.format_exc()
    if fault and keep:
        shutil.copytree(folder, keep / str(number), symlinks=True, dirs_exist_ok=True,
                        ignore=lambda at, names: [n for n in names if not regular(Path(at, n))])
    shutil.rmtree(folder)
    return number, fault


def regular(path: Path) -> bool:
    """Whether a path is a regular file or a folder, which can be read without waiting."""
    return path.is_file() or path.is_dir()


def numbered(seed: int, number: int) -> random.Random:
    """Return the random numbers of a case."""
    return random.Random(f"{seed}/{number}")


# --- Commands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """The end of a command."""

    code: int | None  # of the exit; None if it was stopped after the time limit
    out: bytes
    err: str
    trace: Sequence[str] = ()  # lines of strace

    def fault(self, *codes: int) -> str | None:
        """Return what is wrong with the way in which the command ended, given the codes that are right."""
        message = self.err[-600:]
        if self.code is None:
            return f"still running after the time limit: {message}"
        if "Traceback" in self.err or "Exception ignored" in self.err:
            return f"a traceback: {message}"
        if self.code not in codes:
            return f"exit code {self.code} instead of {' or '.join(map(str, codes))}: {message}"
        if self.code and not self.err.rstrip("\n").split("\n")[-1].startswith("rnntool: "):
            return f"no sentence at the end: {message}"
        if control := re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", self.err):
            return f"the message contains the control character {control[0]!r}: {message!r}"
        return None


def import_everything() -> None:
    """Import all modules of rnntool, torch, ONNX Runtime, and what they import when they are used.

    From then on, trainings write a checkpoint after each step, and even small corpora use the token cache.
    """
    import rnntool
    import rnntool.tasks.lm
    import rnntool.training.loop

    names = [module.name for module in pkgutil.walk_packages(rnntool.__path__, "rnntool.")]
    for name in (*names, "torch._dynamo", "scipy.optimize", "seqeval.metrics"):
        importlib.import_module(name)
    for module, constant, value in ((rnntool.training.loop, "CHECKPOINT_EVERY_S", 0.0),
                                    (rnntool.tasks.lm, "BLOCK_BYTES", 256)):
        assert hasattr(module, constant)
        setattr(module, constant, value)


def rnntool(*arguments: object, **how: Any) -> Ran:
    """Run a command; `how` are the keyword arguments of `in_fork`."""
    def run() -> None:
        from rnntool.__main__ import main as run_command

        sys.argv = ["rnntool", *map(str, arguments)]
        run_command()

    return in_fork(run, **how)


def in_fork(
    run: Callable[[], None], *, folder: Path, input: bytes = b"", strace: Sequence[str] = (),
    limit_s: float = 60.0, memory: int = 4 * GIB, file_size: int | None = None,
) -> Ran:
    """Call a function in a fork of this process, as if it were the main program of a process of its own.

    `strace` are options for strace. `memory` (bytes) is what the fork may take beyond what this process has,
    and `file_size` (bytes) limits the files that it writes.
    """
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, STDERR_BYTES)
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, \
            tempfile.NamedTemporaryFile() as log, os.fdopen(read, "rb") as stderr:
        stdin.write(input)
        stdin.seek(0)
        traceback.format_stack()  # caches files that torch reads later, so that all forks open the same ones
        child = os.fork()
        if child == 0:
            try:
                _limit(memory, file_size)
                for descriptor, source in enumerate((stdin.fileno(), stdout.fileno(), write)):
                    os.dup2(source, descriptor)
                os.close(write)
                os.chdir(folder)
                os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
                sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has replaced it
                if strace:
                    os.kill(os.getpid(), signal.SIGSTOP)
                _finish(run)
            finally:
                os._exit(70)  # not reached
        os.close(write)
        tracer = _attach(child, [*strace, "-o", log.name]) if strace else None
        process = os.pidfd_open(child)
        ended = bool(select.select([process], [], [], limit_s)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(process)
        if tracer:
            tracer.wait()
        stdout.seek(0)
        err, trace = (file.read().decode(errors="backslashreplace") for file in (stderr, log))
        return Ran(code if ended else None, stdout.read(), err, trace.splitlines())


def _limit(memory: int, file_size: int | None) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    address_space = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))


def _finish(run: Callable[[], None]) -> None:
    """End the process as Python does after its main program."""
    code = 0
    try:
        run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(code)


def _attach(process: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Attach strace to a process that stops itself, and let it go on."""
    os.waitpid(process, os.WUNTRACED)
    tracer = subprocess.Popen(["strace", "-f", "-p", str(process), *options], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    if b"attached" not in (message := tracer.stderr.readline()):
        os.kill(process, signal.SIGKILL)
        raise OSError(message.decode())
    os.kill(process, signal.SIGCONT)
    return tracer


# --- Operations on files -----------------------------------------------------------------------------------

WRITES = ("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile", "ftruncate", "fallocate",
          "fsync", "fdatasync")
CHANGES = ("openat", "open", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink",
           "unlinkat", "rmdir", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat",
           "utimensat")
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_OPENS_FOR_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE")


@dataclass(frozen=True)
class Operation:
    """The `number`-th call of a system call in its thread; strace counts in the same way."""

    call: str
    number: int
    arguments: str

    def __str__(self) -> str:
        return f"{self.call} {self.number}: {self.arguments}"

    def inject(self, what: str) -> list[str]:
        """Return options for strace that let `what` happen at this operation."""
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.number}"]


def operations(trace: Sequence[str], within: Path) -> list[Operation]:
    """Return the operations in a trace that change a file or folder in `within`."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in trace:
        match = _CALL.match(line)
        if not match or "resumed>" in line:
            continue
        thread, call, arguments = match.groups()
        counts[thread, call] += 1
        relative = re.match(r'"[^/]', arguments)  # strace prints no folder for calls that take just a path
        changes = not call.startswith("open") or _OPENS_FOR_WRITING.search(arguments)
        if changes and (relative or str(within) in arguments):
            found.append(Operation(call, counts[thread, call], arguments.replace(f"{within}/", "")[:100]))
    return found


TRACE_CHANGES = ["-y", "-s", "0", "-e", f"trace={','.join((*WRITES, *CHANGES))}"]


# --- Models and data ---------------------------------------------------------------------------------------


def flags(task: str, **settings: object) -> list[str]:
    """Return the options of `rnntool train` for a tiny network."""
    names = tiny.SETTINGS[task] | settings
    return [f"--{name.replace('_', '-')}={value}" for name, value in names.items()]


DATA: dict[str, str] = {
    "tag.conllu": tiny.conllu(tiny.pos_sentences(40)),
    "ner.conll": tiny.conll(tiny.ner_sentences(40)),
    "classify.tsv": tiny.tsv(tiny.questions(40)),
    "lm.txt": "".join(f"{line}\n" for line in tiny.lines_of_text(40)),
    "transduce.tsv": tiny.pairs(tiny.reversals(60)),
    "segment.conllu": tiny.segmented_conllu(60),
}
MODELS: dict[str, tuple[str, str, dict[str, object]]] = {  # name: task, data, settings
    "tag": ("tag", "tag.conllu", {}),
    "ner": ("tag", "ner.conll", {"head": "crf", "chars": "lstm"}),
    "classify": ("classify", "classify.tsv", {"cell": "gru"}),
    "lm": ("lm", "lm.txt", {}),
    "transduce": ("transduce", "transduce.tsv", {}),
    "segment": ("segment", "segment.conllu", {}),
}
FILTERS = {"tag": "tag", "ner": "tag", "classify": "classify", "lm": "score", "transduce": "transduce",
           "segment": "segment"}


def write_data(folder: Path) -> None:
    """Write all files of data."""
    for name, text in DATA.items():
        (folder / name).write_text(text, "utf-8")


def train_models(folder: Path, names: Sequence[str] = tuple(MODELS)) -> dict[str, Path]:
    """Train tiny models on tiny data, and return their folders."""
    write_data(folder)
    for name in names:
        task, data, settings = MODELS[name]
        options = flags(task, epochs=3, **settings)
        ran = rnntool("train", task, data, "-o", name, "-q", *options, folder=folder)
        if fault := ran.fault(0):
            raise RuntimeError(fault)
    return {name: folder / name for name in names}


def sample_of(name: str) -> bytes:
    """Return input for a model's filter."""
    lines = {"tag": "the baker sings .\n\nthe jumpful rulation teaches the painter .\n",
             "ner": "Anna Berg met Bob in Oslo .\nDora met Emil Frey in New York .\n",
             "classify": "who did the baker sing ?\nwhat year did the ruler jump ?\n",
             "lm": "the baker sings .\nthe workful danceration rules .\n",
             "transduce": "fade\n\ncab\n",
             "segment": "Hunt dont sing. Jump\nbak.\n\nWork.\n"}
    return lines[name].encode()


def answer(name: str, model: Path, folder: Path, **how: Any) -> Ran:
    """Run the filter of a model."""
    probs = ["--probs"] if FILTERS[name] in ("tag", "classify") else []
    jsonl = [] if name == "segment" else ["--jsonl"]
    return rnntool(FILTERS[name], "-m", model, "-q", "--from", "text", *jsonl, *probs, folder=folder,
                   input=sample_of(name), **how)


def snapshot(folder: Path) -> dict[str, str]:
    """Return a digest of each file in a folder and in those below, without the times in metrics.jsonl."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if path.name == "metrics.jsonl":
            content = re.sub(rb'"seconds": [0-9.e-]+', b"", content)
        digests[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return digests


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """Say how two snapshots differ, if they do."""
    parts = {"missing": before.keys() - after.keys(), "left over": after.keys() - before.keys(),
             "different": {name for name in before.keys() & after.keys() if before[name] != after[name]}}
    return "; ".join(f"{part}: {', '.join(sorted(names))}" for part, names in parts.items() if names) or None
