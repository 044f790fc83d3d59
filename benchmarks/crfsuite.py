#!/usr/bin/env python3
"""CRFsuite as a filter, for comparison: `train MODEL < CoNLL-U` and `tag MODEL < sentences`.

It needs python-crfsuite. The features are a small set for parts of speech: the word, its affixes and shape,
and the neighboring words and their suffixes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

Features = list[list[str]]


def features(words: list[str]) -> Features:
    """Return the features of each word of a sentence."""
    forms = [[word.lower(), word[-3:]] for word in words]
    rows = []
    for i, word in enumerate(words):
        row = [f"form={word}", f"lower={forms[i][0]}"]
        row += [f"begins={word[:n]}" for n in (1, 2, 3)]
        row += [f"ends={word[-n:]}" for n in (1, 2, 3, 4)]
        row += [f"title={word[:1].isupper()}", f"upper={word.isupper()}", f"hyphen={'-' in word}",
                f"digit={any(map(str.isdigit, word))}"]
        for step in (-2, -1, 1, 2):
            lower, suffix = forms[i + step] if 0 <= i + step < len(words) else ("<edge>", "<edge>")
            row += [f"{step}:lower={lower}", f"{step}:ends={suffix}"]
        rows.append(row)
    return rows


def sentences(lines: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the words and the UPOS tags of each sentence of CoNLL-U."""
    words: list[str] = []
    tags: list[str] = []
    for line in lines:
        cells = line.rstrip("\n").split("\t")
        if cells[0].isdigit():
            words.append(cells[1])
            tags.append(cells[3])
        elif not line.strip() and words:
            yield words, tags
            words, tags = [], []
    if words:
        yield words, tags


def train(crf: Any, tagged: Iterable[tuple[list[str], list[str]]], model: str) -> None:
    """Train on sentences: their words and their tags."""
    trainer = crf.Trainer(verbose=False)
    trainer.set_params({"c1": 0.1, "c2": 0.01, "max_iterations": 100})
    for words, tags in tagged:
        trainer.append(features(words), tags)
    trainer.train(model)


def tag(crf: Any, lines: Iterable[str], model: str) -> None:
    """Write a line of tags for each line of words."""
    tagger = crf.Tagger()
    tagger.open(model)
    for line in lines:
        print(*tagger.tag(features(line.split())))


def main() -> None:
    """Train or tag."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("train", "tag"))
    parser.add_argument("model", metavar="MODEL")
    options = parser.parse_args()
    try:
        crf = importlib.import_module("pycrfsuite")
    except ImportError:
        raise SystemExit("python-crfsuite is missing; run `pip install python-crfsuite`") from None
    if options.command == "train":
        train(crf, sentences(sys.stdin), options.model)
    else:
        tag(crf, sys.stdin, options.model)


if __name__ == "__main__":
    main()
