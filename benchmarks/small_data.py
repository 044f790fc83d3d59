#!/usr/bin/env python3
"""Quality by amount of data: rnntool with defaults, and other tools trained on the same records.

Prints accuracies of classifiers, accuracies or F1 of taggers, and bits per character of language models.
Each seed draws another sample, and figures are means over seeds. A language model reads the start of the
text; the size that rnntool chooses is compared with fixed ones. Other options are passed to every
`rnntool train`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from timing import RNNTOOL

from rnntool.data.formats import read_sentences, read_texts
from rnntool.data.inputs import open_with_format
from rnntool.data.labels import detect_scheme
from rnntool.data.pretokenizer import split_words
from rnntool.data.progress import silent
from rnntool.data.reading import Reading
from rnntool.errors import RnntoolError
from rnntool.evaluation.metrics import classification_report, tagging_report

PEERS = Path(__file__).with_name("peers.py")
MODULES = {"TF-IDF": "sklearn", "fastText": "fasttext", "CRFsuite": "pycrfsuite"}
PACKAGES = {"TF-IDF": "scikit-learn", "fastText": "fasttext-wheel", "CRFsuite": "python-crfsuite"}
TOOLS = {"classify": ("TF-IDF", "fastText"), "tag": ("CRFsuite",)}
CHARACTER_EMBEDDING = 128  # largest embedding of characters and bytes, as in the choice of sizes

Record = dict[str, Any]
Measure = Callable[["Corpus", Path, Path, int], float]  # takes training and test files and a seed


@dataclass(frozen=True)
class Corpus:
    """Records to train on and to test on; `scheme` is that of tags that write spans."""

    name: str
    task: str
    train: Sequence[Record]
    test: Sequence[Record]
    scheme: str | None = None

    def metric(self) -> str:
        """Return the key of the figure in reports. conlleval's F1 is fair to tools that break schemes."""
        return "f1_conlleval" if self.scheme else "accuracy"

    def score(self, predicted: Sequence[Any]) -> float:
        """Return the metric of predictions of another tool."""
        if self.task == "classify":
            gold = [record["label"] for record in self.test]
            report = classification_report(gold, predicted)
        else:
            report = tagging_report([record["tags"] for record in self.test], predicted, self.scheme)
        return float(report[self.metric()])


def read(task: str, path: str, column: str, text_column: str) -> list[Record]:
    """Read a file in any format that rnntool trains on."""
    kind: Any = "texts" if task == "classify" else "sentences"
    with open_with_format(path, kind, format=None, reading=Reading(), log=silent, supervised=True) as opened:
        lines, format = opened
        if task == "classify":
            texts = read_texts(
                lines, format=format, text_column=text_column, label_column=column, need_labels=True)
            return [{"text": text.text, "label": text.labels[0]} for text in texts]
        sentences = read_sentences(lines, format=format, column=column, split=split_words, need_tags=True)
        return [{"tokens": sentence.words, "tags": sentence.tags} for sentence in sentences if sentence.words]


def corpora(options: argparse.Namespace) -> Iterator[Corpus]:
    """Read the corpora of classifiers and taggers."""
    for task in TOOLS:
        for train_path, test_path, column in getattr(options, task):
            train, test = (read(task, path, column, options.text_column) for path in (train_path, test_path))
            scheme = detect_scheme(record["tags"] for record in train) if task == "tag" else None
            yield Corpus(f"{Path(train_path).parent.name}/{column}", task, train, test, scheme)


def write(path: Path, records: Sequence[Record]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def output(*command: str) -> str:
    """Run a command and return its output; `SystemExit` if it fails."""
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed with exit code {process.returncode}")
    return process.stdout


def rnntool(corpus: Corpus, train: Path, test: Path, seed: int, training: Sequence[str]) -> float:
    """Return the metric of a model that rnntool trains."""
    model = str(train.with_name("model"))
    preset = ["--preset", "ner"] if corpus.scheme else []
    output(*RNNTOOL, "train", corpus.task, str(train), "-o", model, "-q", "--force", "--seed", str(seed),
           *preset, *training)
    return float(json.loads(output(*RNNTOOL, "evaluate", str(test), "-m", model, "--json"))[corpus.metric()])


def peer(corpus: Corpus, train: Path, test: Path, seed: int, *, interpreter: str, tool: str) -> float:
    """Return the metric of another tool."""
    lines = output(interpreter, str(PEERS), tool, str(train), str(test)).splitlines()
    return corpus.score([json.loads(line) for line in lines])


def installed_peers(interpreter: str) -> list[str]:
    """Return the other tools that an interpreter can import, and say which ones are missing."""
    tools = []
    for tool, module in MODULES.items():
        if subprocess.run([interpreter, "-c", f"import {module}"], capture_output=True).returncode:
            print(f"without {tool}: to compare with it, run `pip install {PACKAGES[tool]}`", file=sys.stderr)
        else:
            tools.append(tool)
    return tools


def show(cells: Sequence[str], width: int = 14) -> None:
    """Print a row of a table at once, because the next one may take hours; the first column is wide."""
    print(cells[0].ljust(2 * width) + "".join(cell.rjust(width) for cell in cells[1:]), flush=True)


def compare(options: argparse.Namespace, training: Sequence[str], folder: Path) -> None:
    """Print the grid of classifiers and taggers."""
    peers = installed_peers(options.peers)
    for corpus in list(corpora(options)):  # a missing file is found at once
        tools: dict[str, Measure] = {"rnntool": partial(rnntool, training=training)}
        tools |= {tool: partial(peer, interpreter=options.peers, tool=tool)
                  for tool in TOOLS[corpus.task] if tool in peers}
        test = write(folder / "test.jsonl", corpus.test)
        print(f"\n{corpus.metric()} on {len(corpus.test):,} records of the test file")
        show([corpus.name, "records", "seeds", *tools])
        sizes = [size for size in options.sizes if size < len(corpus.train)]
        for size in [*sizes, len(corpus.train)]:
            scores: dict[str, list[float]] = {tool: [] for tool in tools}
            elapsed_s = dict.fromkeys(tools, 0.0)
            for seed in range(1, options.seeds + 1):
                sample = random.Random(seed).sample(corpus.train, size)
                train = write(folder / "train.jsonl", sample)
                for tool, measure in tools.items():
                    start = time.perf_counter()
                    scores[tool].append(100 * measure(corpus, train, test, seed))
                    elapsed_s[tool] += time.perf_counter() - start
            cells = [f"{statistics.mean(scores[tool]):.1f} {elapsed_s[tool] / options.seeds:5.0f} s"
                     for tool in tools]
            show(["", f"{size:,}", str(options.seeds), *cells])


def bits_per_char(train: Path, test: str, *training: str) -> tuple[float, int]:
    """Train a language model; return its bits per character on the test file, and its units per layer."""
    model = train.with_name("model")
    output(*RNNTOOL, "train", "lm", str(train), "-o", str(model), "-q", "--force", *training)
    units = json.loads((model / "config.json").read_text("utf-8"))["network"]["encoder"]["hidden"]
    return json.loads(output(*RNNTOOL, "evaluate", test, "-m", str(model), "--json"))["bits_per_char"], units


def compare_sizes(options: argparse.Namespace, training: Sequence[str], folder: Path) -> None:
    """Print the grid of language models: the chosen size, and fixed ones."""
    for path, test, tokenizer in options.lm:
        print("\nbits per character on the test file: the chosen size, and fixed numbers of units per layer")
        show([f"{Path(path).name}/{tokenizer}", "MB", "time", "chosen", *map(str, options.widths), "to best"])
        text = Path(path).read_bytes()
        for megabytes in options.megabytes:
            size = round(1e6 * megabytes)
            if size > len(text):
                print(f"{path} has less than {megabytes:g} MB", file=sys.stderr)
                continue
            train = folder / "train.txt"
            train.write_bytes(text[: text.rfind(b"\n", 0, size) + 1])
            for limit in options.times:
                common = ["--tokenizer", tokenizer, "--max-time", limit, *training]
                chosen, units = bits_per_char(train, test, *common)
                fixed = []
                for width in options.widths:
                    embed = min(width, CHARACTER_EMBEDDING) if tokenizer in ("char", "byte") else width
                    sizes = ["--hidden", str(width), "--embed", str(embed)]
                    fixed.append(bits_per_char(train, test, *common, *sizes)[0])
                cells = [f"{chosen:.3f} ({units})", *(f"{bits:.3f}" for bits in fixed)]
                show(["", f"{megabytes:g}", limit, *cells, f"{100 * (chosen / min(fixed) - 1):+.1f} %"])


def main() -> None:
    """Print the grids of all corpora."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = partial(parser.add_argument, action="append", nargs=3, default=[])
    add("--classify", metavar=("TRAIN", "TEST", "COLUMN"), help="texts, and the column of their labels")
    add("--tag", metavar=("TRAIN", "TEST", "COLUMN"), help="sentences, and the column of their tags")
    add("--lm", metavar=("TRAIN", "TEST", "TOKENIZER"), help="plain text, and the tokenizer")
    parser.add_argument("--text-column", default="text", metavar="COLUMN",
                        help="column of the texts; default: %(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000], metavar="N",
                        help="records to draw, besides all; default: 200 1000")
    parser.add_argument("--seeds", type=int, default=3, help="samples of each size; default: %(default)s")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.1, 1, 10], metavar="X",
                        help="of text for language models; default: 0.1 1 10")
    parser.add_argument("--times", nargs="+", default=["3m", "10m", "30m"], metavar="TIME",
                        help="for training a language model; default: 3m 10m 30m")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512], metavar="N",
                        help="units per layer to compare the chosen ones with; default: 64 128 256 512")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON",
                        help="interpreter that has the other tools; default: this one")
    options, training = parser.parse_known_args()
    if not (options.classify or options.tag or options.lm):
        parser.error("give at least one corpus with --classify, --tag or --lm")
    with tempfile.TemporaryDirectory() as name:
        try:
            if options.classify or options.tag:
                compare(options, training, Path(name))
            compare_sizes(options, training, Path(name))
        except RnntoolError as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
