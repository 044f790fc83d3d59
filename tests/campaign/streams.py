"""Long streams in flat memory, slow producers and consumers, and readers that close the pipe early.

A consumer that pauses gets every record, and the command waits instead of filling memory. A producer that
waits gets each answer before it writes the next record, and the same answers as one that is fast.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

import harness
from harness import Case, sample_of, train_models

RNNTOOL = [sys.executable, "-m", "rnntool"]
EARLY = 60_000  # records, of about a million tokens
ALLOWED_GROWTH = 1.05  # of the peak memory, from then to the end of the stream
PRODUCED = 10  # records, one after the other
Check = Callable[[list[str], list[bytes], bytes], str | None]  # (command, records, output for all of them)
PATIENCE_S = 60.0


def commands(models: dict[str, Path]) -> dict[str, list[str]]:
    """Return filters that answer each line with a line."""
    return {
        "tag": ["tag", "-m", str(models["tag"]), "--from", "tokens", "--jsonl"],
        "tag, guessed format": ["tag", "-m", str(models["tag"]), "--jsonl"],
        "tag, CRF": ["tag", "-m", str(models["ner"]), "--from", "text", "--jsonl", "--probs"],
        "classify": ["classify", "-m", str(models["classify"]), "--from", "text", "--jsonl"],
        "score": ["score", "-m", str(models["lm"]), "--from", "text", "--jsonl"],
        "score, stream": ["score", "-m", str(models["lm"]), "--context", "stream", "--jsonl"],
        "tokenize": ["tokenize", "--jsonl"],
        "generate": ["generate", "-m", str(models["lm"]), "--max-tokens", "3", "--seed", "1", "--jsonl",
                     "--prompts", "-"],
    }


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command with pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*RNNTOOL, *arguments], stdin=pipe, stdout=pipe, stderr=pipe)


def lines(rng: random.Random, tokens: int) -> Iterator[bytes]:
    """Generate lines with so many tokens: half of the words never occur again."""
    words = sample_of("tag").decode().split()
    while tokens > 0:
        length = min(tokens, rng.randint(1, 30))
        tokens -= length
        new = ("".join(rng.choices("abcdefghij", k=rng.randint(2, 12))) for _ in range(length))
        yield " ".join(word if rng.random() < 0.5 else rng.choice(words) for word in new).encode() + b"\n"


def feed(pipe: IO[bytes], content: Iterator[bytes]) -> threading.Thread:
    """Write into a pipe in a thread of its own, and close it."""
    def write() -> None:
        with suppress(BrokenPipeError), pipe:
            for line in content:
                pipe.write(line)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def memory(process: int, kind: str = "VmHWM:") -> int:
    """Return the peak memory, or another kind, of a running process in bytes."""
    return int(Path(f"/proc/{process}/status").read_text().partition(kind)[2].split()[0]) * 1024


def ended(process: subprocess.Popen[bytes]) -> str | None:
    """Wait for a command, and return what is wrong with its end."""
    assert process.stderr
    with process.stderr as stderr:
        message = stderr.read().decode()
    code = process.wait(PATIENCE_S)
    return f"exit code {code}: {message}" if code or message else None


def flat_memory(arguments: Sequence[str], millions: int, rng: random.Random) -> str | None:
    """Compare the peak memory after a part of a long stream with that at its end."""
    process = start(arguments)
    assert process.stdin and process.stdout
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for line in lines(rng, millions * 1_000_000):
            sent += 1
            yield line

    feed(process.stdin, counted())
    records = early = late = 0
    for records, _ in enumerate(process.stdout, 1):
        if records % 1000 == 0:
            late = memory(process.pid)
            early = early or (late if records >= EARLY else 0)
    if fault := ended(process):
        return fault
    if records != sent:
        return f"{sent} records came in, {records} out"
    return f"{early / 1e6:.0f} MB grew to {late / 1e6:.0f} MB" if late > early * ALLOWED_GROWTH else None


def slow_consumer(arguments: list[str], content: list[bytes], expected: bytes) -> str | None:
    """Read a record, pause, and read the others."""
    process = start(arguments)
    assert process.stdin and process.stdout
    feed(process.stdin, iter(content))
    received = process.stdout.readline()
    time.sleep(1)
    before = memory(process.pid)
    time.sleep(2)
    growth = memory(process.pid) - before
    received += process.stdout.read()
    if growth > 2**20:
        return f"memory grew by {growth / 1e6:.1f} MB while nobody read"
    return ended(process) or (None if received == expected else "another answer than without a pause")


def slow_producer(arguments: list[str], content: list[bytes], expected: bytes) -> str | None:
    """Write half a record, then the rest, and read its answer before the next."""
    process = start(arguments)
    assert process.stdin and process.stdout
    answers: list[bytes] = []
    for line in content[:PRODUCED]:
        for part in (line[:len(line) // 2], line[len(line) // 2:]):
            with suppress(BrokenPipeError):  # its end is checked below
                process.stdin.write(part)
                process.stdin.flush()
            time.sleep(0.02)
        if not select.select([process.stdout], [], [], PATIENCE_S)[0]:
            process.kill()
            return f"no answer to record {len(answers) + 1}"
        answers.append(process.stdout.readline())
    process.stdin.close()
    if rest := process.stdout.read():
        return f"more than an answer for each record: {rest[:200]!r}"
    right = b"".join(answers) == b"".join(expected.splitlines(True)[:PRODUCED])
    return ended(process) or (None if right else "other answers than to fast input")


def early_close(arguments: list[str], content: list[bytes], expected: bytes) -> str | None:
    """Close the pipe after a record."""
    process = start(arguments)
    assert process.stdin and process.stdout
    feed(process.stdin, iter(content * 50))
    process.stdout.readline()
    process.stdout.close()
    return ended(process)


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Try everything with each command."""
    content = list(lines(random.Random(seed), 40_000))  # some 2,600 records

    def check_pipe(check: Check, arguments: list[str], at: Path) -> str | None:
        whole = subprocess.run([*RNNTOOL, *arguments], input=b"".join(content), capture_output=True)
        return check(arguments, content, whole.stdout)

    def check_memory(arguments: list[str], at: Path) -> str | None:
        return flat_memory(arguments, count, random.Random(seed))

    found = []
    for name, arguments in commands(train_models(shared)).items():
        found.append(Case(f"{count} million tokens", name, partial(check_memory, arguments)))
        found += [Case(check.__name__.replace("_", " "), name, partial(check_pipe, check, arguments))
                  for check in (slow_consumer, slow_producer, early_close)]
    return found


if __name__ == "__main__":
    harness.main(__doc__, cases, count=5, count_help="millions of tokens of the long streams")
