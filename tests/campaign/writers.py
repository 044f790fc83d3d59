"""Commands that write files, for kills.py and full_disk.py: trainings, and the others with `-o`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from harness import (
    TRACE_CHANGES,
    Operation,
    Ran,
    answer,
    difference,
    flags,
    operations,
    rnntool,
    snapshot,
    train_models,
)

TRAININGS = {
    "tag": ["train", "tag", "tag.conllu", "-q", *flags("tag", epochs=2)],
    "ner": ["train", "tag", "ner.conll", "-q", *flags("tag", epochs=2, head="crf", chars="lstm")],
    "classify": ["train", "classify", "classify.tsv", "-q", *flags("classify", epochs=2)],
    "lm": ["train", "lm", "lm.txt", "-q", *flags("lm", epochs=2, context="stream", bptt=100)],
    "transduce": ["train", "transduce", "transduce.tsv", "-q", *flags("transduce", epochs=2)],
    "segment": ["train", "segment", "segment.conllu", "-q", *flags("segment", epochs=2)],
}
FILES = {
    "export": ["export", "tag", "--int8", "-o", "out.onnx"],
    "tag": ["tag", "-m", "tag", "lm.txt", "-o", "out.conll"],
    "classify": ["classify", "-m", "classify", "lm.txt", "-o", "out.jsonl.gz"],
    "transduce": ["transduce", "-q", "-m", "transduce", "lm.txt", "-o", "out.jsonl"],
    "segment": ["segment", "-m", "segment", "lm.txt", "-o", "out.conllu"],
    "score": ["score", "-m", "lm", "lm.txt", "-o", "out.tsv"],
    "generate": ["generate", "-m", "lm", "--seed", "1", "--max-tokens", "9", "-n", "3", "-o", "out.txt"],
    "tokenize": ["tokenize", "-m", "lm", "lm.txt", "-o", "out.txt.xz"],
    "evaluate": ["evaluate", "-m", "tag", "tag.conllu", "--json", "-o", "out.json"],
    "report": ["report", "tag", "-o", "out.html"],
    "inspect": ["inspect", "states", "-m", "lm", "lm.txt", "-o", "out.svg"],
}


@dataclass
class Writer:
    """A command that writes files, the folder in which it starts, and what it does if nothing goes wrong."""

    name: str
    arguments: Sequence[str]
    output: str
    folder: Path
    model: str | None = None  # the tiny model whose input the output reads, if it is a model
    first: Sequence[str] = ()  # the command that began the training, if this one resumes it
    operations: list[Operation] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)  # snapshots of the folder
    after: dict[str, str] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)  # of the older model, if any, and of the new one

    def measure(self, at: Path) -> Self:
        """Run the command in a copy of the folder, and remember the results."""
        self.before = snapshot(self.folder)
        if self.model and f"{self.output}/config.json" in self.before:
            self.answers.append(answer(self.model, self.folder / self.output, self.folder).out)
        ran = self.run(at, strace=TRACE_CHANGES)
        if fault := ran.fault(0):
            raise RuntimeError(f"{self.name}: {fault}")
        self.operations = operations(ran.trace, at)
        self.after = snapshot(at)
        if self.model:
            self.answers.append(answer(self.model, at / self.output, at).out)
        shutil.rmtree(at)
        return self

    def run(self, at: Path, *, strace: Sequence[str] = (), file_size: int | None = None) -> Ran:
        """Run the command in a copy of the folder."""
        shutil.copytree(self.folder, at, dirs_exist_ok=True)
        return rnntool(*self.arguments, folder=at, strace=strace, file_size=file_size)

    def broken(self, at: Path) -> str | None:
        """Return what is wrong with the output after the command ended badly."""
        if self.model:
            ran = answer(self.model, at / self.output, at)
            if len(self.answers) == 1 and ran.code == 4:
                return ran.fault(4)
            return ran.fault(0) or (None if ran.out in self.answers else f"another answer: {ran.out[:300]!r}")
        digest, older = snapshot(at).get(self.output), self.before.get(self.output)
        right = digest in (older, self.after[self.output])
        return None if right else "the file is neither the older nor the new one"

    def start_again(self, at: Path, *, resume_first: bool) -> str | None:
        """Start again as a user would, and return what is wrong with the end."""
        resume = [*self.arguments[:2], "-o", self.output, "--resume", "-q"]
        again = [resume, self.arguments] if resume_first else [self.arguments, resume]
        if not self.model:
            again = [self.arguments]
        elif "--resume" in self.arguments or "--init" in self.arguments:  # it can't start in the same way
            again = [resume]
        messages = ""
        for arguments in again:
            ran = rnntool(*arguments, folder=at)
            if ran.code == 0:
                return ran.fault(0) or difference(self.after, snapshot(at))
            if fault := ran.fault(2, 4):
                return fault
            messages += ran.err
        current = answer(self.model, at / self.output, at).out if self.model else b""
        if current not in self.answers:
            return f"it can't be started again: {messages}"
        ran = rnntool(*(self.first or self.arguments), "--force", folder=at)
        after = snapshot(at)
        if current == self.answers[-1] and "--init" in self.arguments:  # it started from another model
            after = {name: self.after.get(name, "") for name in after}
        return ran.fault(0) or difference(self.after, after)


def writers(shared: Path) -> list[Writer]:
    """Make the folders of all writers in a shared folder, and measure what they do."""
    start = shared / "start"
    start.mkdir()
    train_models(start)
    measured = shared / "measured"
    found = []
    for name, command in TRAININGS.items():
        new = Writer(f"{name}: new model", [*command, "-o", "new"], "new", start, name).measure(measured)
        stopped = shared / f"{name}-stopped"
        new.run(stopped, strace=new.operations[len(new.operations) // 2].inject("signal=KILL"))
        found += [
            new,
            Writer(f"{name}: --resume", [*command[:2], "-o", "new", "--resume", "-q"], "new", stopped, name,
                   first=new.arguments).measure(measured),
            Writer(f"{name}: --init X -o X --force", [*command, "--init", name, "-o", name, "--force"], name,
                   start, name).measure(measured)]
    for name, command in FILES.items():
        older = shared / f"{name}-older"
        shutil.copytree(start, older)
        (older / command[-1]).write_bytes(b"an older file")
        replace = [*command, "--force"] if name == "export" else command
        found += [Writer(f"{name} -o: new file", command, command[-1], start).measure(measured),
                  Writer(f"{name} -o: older file", replace, command[-1], older).measure(measured)]
    return found
