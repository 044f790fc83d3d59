"""What the subcommands of `rnntool inspect` look at: word vectors, and states of a network along texts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.options import Compute, Messages, format_option
from rnntool.data.options import Options, option, with_default
from rnntool.data.reading import TableReading
from rnntool.errors import UsageError, setting

if TYPE_CHECKING:
    from rnntool.data.progress import Watch
    from rnntool.inference.model import ModelFolder
    from rnntool.inspection.states import TextStates
    from rnntool.inspection.word_vectors import Vectors

PicturePath = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Also draw a picture: an SVG file (.svg) or an HTML page (.html).")]
TextFormat = Annotated[str | None, format_option("any that training reads")]


def comma_separated(text: str) -> list[str]:
    """Split an option's value at commas; drop repeated and empty parts."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def watched(texts: Iterable[TextStates], watch: Watch | None) -> Iterator[TextStates]:
    """Pass texts on; if there is a `watch`, it receives the number of tokens so far."""
    from rnntool.data.progress import Counter

    read = Counter("reading", "tokens", watch) if watch else None
    for text in texts:
        if read:
            read.add(len(text.spans))
        yield text


@dataclass(frozen=True, kw_only=True)
class StatesOptions(Options):
    """Which states of a network to look at, and how to compute them."""

    layer: int | None = option(
        None, "Layer to inspect, counted from 1.", low=1, shown_default="the last layer")
    threads: int = with_default(Compute, "threads", 0)

    def read(
        self, model: str, files: Sequence[str], *, format: str | None, reading: TableReading,
        messages: Messages,
    ) -> tuple[ModelFolder, Iterator[TextStates]]:
        """Load a model; return it, and its states at each token of the texts in the files."""
        from rnntool.commands.inputs import inspected_records
        from rnntool.inference.model import read
        from rnntool.inspection.states import StateReader

        loaded = read(model)
        reader = StateReader(loaded, layer=self.layer, threads=self.threads)
        return loaded, reader.read(inspected_records(
            loaded.task, files, format=format, reading=reading, messages=messages))


@dataclass(frozen=True, kw_only=True)
class VectorSource(Options):
    """Where word vectors come from: a model or a file."""

    model: str | None = option(
        None, "Model whose embedding to use: a folder, or a name that `rnntool models` lists.",
        flags=("-m", "--model"), metavar="MODEL", variable="RNNTOOL_MODEL")
    vectors: str | None = option(
        None, "File of vectors to use instead: text of GloVe, word2vec or fastText, or binary word2vec.",
        metavar="FILE")

    def load(self) -> Vectors:
        """Read the vectors of the model or of the file."""
        model = self.model
        if self.vectors and model == os.environ.get("RNNTOOL_MODEL"):  # the option takes precedence
            model = None
        if self.vectors and not model:
            return _vectors_of_file(self.vectors)
        if model and not self.vectors:
            return _vectors_of_model(model)
        raise UsageError(expected="either a model or a file of vectors", found="both" if model else "neither",
                         advice=f"give {setting('model')} or {setting('vectors')}")


def _vectors_of_file(path: str) -> Vectors:
    from rnntool.data.vector_file import read_vectors
    from rnntool.inspection.word_vectors import Vectors

    names, vectors = read_vectors(path, limit=sys.maxsize)
    rows = {name: row for row, name in enumerate(names)}
    return Vectors(Path(path).name, names, vectors, lambda word: rows.get(word, rows.get(word.lower())))


def _vectors_of_model(name: str) -> Vectors:
    from rnntool.inference import model as models
    from rnntool.inspection.onnx_internals import embedding
    from rnntool.inspection.word_vectors import Vectors
    from rnntool.tokenize import SPECIALS, UNK

    model = models.read(name)
    tokenizer = model.task.tokenizer
    first = len(SPECIALS)  # special tokens come first, and labels have rows after the tokens
    vectors = embedding(model.folder, model.config)[first : tokenizer.size]
    names = [tokenizer.piece(first + i) for i in range(len(vectors))]
    rows = {name: row for row, name in enumerate(names)}

    def find(word: str) -> int | None:
        ids = tokenizer.encode(word)
        if len(ids) == 1 and ids[0] != UNK:
            return ids[0] - first
        return rows.get(word.lower() if tokenizer.lower else word)  # a piece, spelled as it is listed

    return Vectors(model.name, names, vectors, find)


def draw_plane(
    vectors: Vectors, rows: Sequence[int], path: str | None, *, bold: int, caption: str,
    joined: Sequence[tuple[int, int]] = (),
) -> None:
    """Draw words in their principal plane, if there is a path: the first in bold, some joined by lines."""
    if path is None:
        return
    from rnntool.inspection import charts, svg

    unique = list(dict.fromkeys(rows))
    points, share = vectors.principal_plane(unique)
    names = [vectors.names[row] for row in unique]
    svg.write(charts.scatter(
        f"Word vectors of {vectors.source}", names, points, x_name="first principal component",
        y_name="second principal component", bold={vectors.names[row] for row in rows[:bold]},
        joined=[(unique.index(rows[a]), unique.index(rows[b])) for a, b in joined],
        caption="Words that are close together have similar vectors. This is the plane in which these "
                f"{len(unique)} vectors differ most; it shows {share:.0%} of their variance. {caption}"),
        path)
