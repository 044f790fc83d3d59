"""Let 8 threads share each shipped model, for many more texts than tests/test_threads.py, and fork meanwhile.

Each answer is that of one thread, during and afterwards, and in a forked process as well.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import harness
from harness import ROOT, Case, in_fork
from test_threads import OPERATIONS, THREADS

TURNS = 4  # of each thread


def work(name: str, number: int) -> None:
    """Compare the answers of many threads and of a forked process with those of one thread."""
    import rnntool

    operation, folder = OPERATIONS[name], ROOT / "models" / name
    seeds = range(number * THREADS, (number + 1) * THREADS)
    alone = rnntool.load(folder)
    expected = {seed: operation(alone, seed) for seed in seeds}
    shared = rnntool.load(folder, threads=number % 3)
    sys.setswitchinterval(1e-6)

    def turn(thread: int) -> int:
        order = random.Random(thread).choices(seeds, k=TURNS)
        return sum(operation(shared, seed) != expected[seed] for seed in order)

    with ThreadPoolExecutor(THREADS) as pool:
        pending = pool.map(turn, range(THREADS))
        child = os.fork()
        if child == 0:
            os._exit(operation(shared, seeds[0]) != expected[seeds[0]])
        forked = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(f"{sum(pending)} wrong answers of threads, and {forked} of a forked process")
    print(f"{sum(operation(shared, seed) != expected[seed] for seed in seeds)} wrong answers afterwards")


def check(name: str, number: int, at: Path) -> str | None:
    """Work in a process of its own, so that a crash is seen."""
    ran = in_fork(partial(work, name, number), folder=at, limit_s=300.0)
    right = "0 wrong answers of threads, and 0 of a forked process\n0 wrong answers afterwards\n"
    return ran.fault(0) or (None if ran.out.decode() == right else ran.out.decode())


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Take the shipped models in turn."""
    def case(number: int) -> Case:
        name = list(OPERATIONS)[number % len(OPERATIONS)]
        run: Callable[[Path], str | None] = partial(check, name, number + seed * count)
        return Case(name, f"texts {number}", run)

    return [case(number) for number in range(count)]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=40)
