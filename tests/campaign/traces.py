"""Trace each command with strace: it opens no socket, and writes only its output, cache and temporary files.

Each command runs in a new process, as a user starts it. Its home folder and its temporary folder are
empty at the end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import harness
from harness import CHANGES, FILTERS, Case, flags, operations, sample_of, train_models

WORDS = ("the", ".", "singation", "sings")  # of the tiny tagger
NETWORK = ("socket", "connect", "bind", "sendto", "sendmsg", "listen")


def commands(models: dict[str, Path]) -> list[list[str]]:
    """Return every command, with all tasks."""
    tag, classify, lm = (str(models[name]) for name in ("tag", "classify", "lm"))
    return [
        ["--help"], ["--version"], ["models"], ["tokenize"],
        *([FILTERS[name], "-m", str(folder), *more] for name, folder in models.items()
          for more in ([], ["-o", "out.gz", *([] if name == "segment" else ["--jsonl"])])),
        ["tag", "-m", tag, "--segmenter", str(models["segment"])],
        *([command, str(folder), *more] for folder in models.values()
          for command, *more in (["info"], ["report", "-o", "out.html"], ["export", "-o", "out.onnx"])),
        ["generate", "-m", lm, "--max-tokens", "5", "-o", "out.txt"],
        ["evaluate", "-m", tag, "tag.conllu"], ["evaluate", "-m", classify, "classify.tsv"],
        ["evaluate", "-m", lm, "lm.txt", "--dynamic", "--cache"],
        ["evaluate", "-m", str(models["transduce"]), "transduce.tsv"],
        ["evaluate", "-m", str(models["segment"]), "segment.conllu"],
        *(["train", task, data, "-o", "out", *flags(task, epochs=1)]
          for task, data in (("tag", "tag.conllu"), ("classify", "classify.tsv"), ("lm", "lm.txt"),
                             ("transduce", "transduce.tsv"), ("segment", "segment.conllu"))),
        ["train", "lm", "lm.txt", "-o", "out", *flags("lm", epochs=1, tokenizer="unigram", vocab_size=300)],
        ["inspect", "states", "-m", lm, "lm.txt", "-o", "out.svg"],
        ["inspect", "clusters", "-m", classify, "lm.txt", "-o", "out.svg"],
        ["inspect", "gradients", "--cells", "gru", "--steps", "3", "--texts", "2", "-o", "out.svg"],
        ["inspect", "neighbors", "-m", tag, "the", "-o", "out.svg"],
        ["inspect", "analogy", "-m", tag, *WORDS[:3]],
        ["inspect", "similarity", "-m", tag, "pairs.tsv"],
    ]


def check(arguments: Sequence[str], at: Path) -> str | None:
    """Trace a command, and return what it should not have done."""
    work, home, temporary, log = (at / name for name in ("work", "home", "temporary", "log"))
    for folder in (work, home, temporary):
        folder.mkdir()
    harness.write_data(work)
    (work / "pairs.tsv").write_text("".join(f"the\t{word}\t{i}\n" for i, word in enumerate(WORDS)))
    home.chmod(0o555)
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary),
                                "XDG_CACHE_HOME": str(work / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch has set it in this process
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "99", "-o", log, "-e", f"trace={','.join((*NETWORK, *CHANGES))}",
         sys.executable, "-m", "rnntool", *arguments],
        cwd=work, env=environment, input=sample_of("tag"), capture_output=True, timeout=300)
    trace = [line for line in log.read_text(errors="replace").splitlines() if " = -1 " not in line]
    network = [line for line in trace if any(f" {call}(" in line for call in NETWORK)]
    elsewhere = [str(operation) for operation in operations(trace, Path("/"))
                 if not re.search(f'{at}/|^"out|"/dev/null"', operation.arguments)]
    left = [path.name for folder in (home, temporary) for path in folder.iterdir()]
    problems = {"ended badly": [done.stderr.decode()] if done.returncode else [], "network": network,
                "written elsewhere": elsewhere, "left in the home or temporary folder": left}
    return "; ".join(f"{what}: {' | '.join(found[:5])}" for what, found in problems.items() if found) or None


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Trace each command once."""
    return [Case(" ".join(arguments[:2] if arguments[0] in ("train", "inspect") else arguments[:1]),
                 "rnntool " + " ".join(arguments[:9]), partial(check, arguments))
            for arguments in commands(train_models(shared))[:count]]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=100)
