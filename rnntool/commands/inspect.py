"""`rnntool inspect`: a table on standard output, and a picture where one is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnntool.commands import console
from rnntool.commands.common import Common
from rnntool.commands.inputs import task_records
from rnntool.commands.outputs import show
from rnntool.data.formats import read_judgements
from rnntool.data.inputs import Inputs, opened
from rnntool.data.progress import silent
from rnntool.data.streams import called
from rnntool.errors import DataError, UsageError
from rnntool.inference import model as models
from rnntool.inference.model import ModelFolder
from rnntool.inspection import charts, clusters, states, svg
from rnntool.inspection.word_vectors import Agreement, Vectors, agreement
from rnntool.tasks.base import excerpt
from rnntool.tasks.specs.settings import CELL_NAMES
from rnntool.tokenize import SPECIALS, UNK

FRESH = ("elman", "gru", "lstm")  # what is compared where no model is given
HIDDEN = 100  # units of new networks
FREQUENT = 30  # words that are clustered
VARYING = 5  # units that are shown
MOST_TOKENS = 20_000  # of a text whose states are shown
SHOWN = 10  # missing words that are listed
AROUND = 12  # characters on each side of a token, for people to recognise it by


def run_gradients(
    files: list[str], *, model: list[str], cells: str | None, steps: int, hidden: int | None, texts: int,
    seed: int, output: str | None, format: str | None, as_json: bool, common: Common,
) -> None:
    """How much of a gradient is left k steps back."""
    svg.check_path(output)
    if files and not model:
        raise UsageError("expected a model to read the text, found none; give -m MODEL, or leave the files out")
    files = files or ["-"]
    if len(model) > 1 and "-" in files:
        raise UsageError("standard input can be read once only; give several models a file")
    fresh = _parts(cells) if cells else () if model else FRESH
    if (cells and not fresh) or not set(fresh) <= set(CELL_NAMES):
        raise UsageError(
            f"--cells: expected some of {', '.join(CELL_NAMES)}, with commas between, found {cells!r}")
    if hidden is not None and not fresh:
        raise UsageError("--hidden: is the size of new networks, found a trained one alone; give --cells, "
                         "or leave it out")
    from rnntool.inference.weights import load_network
    from rnntool.inspection.gradients import (
        cell_gradients,
        network_gradients,
        text_batches,
        vanishing_step,
    )

    curves: dict[str, list[float]] = {}
    for name in model:
        loaded = models.read(name)
        records = _records(loaded, files, format, common)
        network = load_network(loaded.folder, loaded.config)
        batches = text_batches(loaded.task, records, steps=steps, count=texts)
        curve = network_gradients(network, batches, steps=steps)
        if not curve:
            raise DataError(f"{called(files)}: expected texts of two tokens or more, found none; give "
                            "longer ones")
        curves[name if loaded.name in curves else loaded.name] = curve
    for name in fresh:
        curve = cell_gradients(name, size=hidden or HIDDEN, steps=steps, texts=texts, seed=seed)
        curves[f"new {name}" if model else name] = curve
    reaches = {name: vanishing_step(curve) for name, curve in curves.items()}
    longest = max(map(len, curves.values()))
    shown = [k for k in range(longest) if k & (k - 1) == 0 or k == longest - 1]  # 0, powers of 2, the last
    rows = [(str(k), *(f"{curve[k]:.3g}" if k < len(curve) else "-" for curve in curves.values()))
            for k in shown]
    gone = ("1 % left", *(f"> {len(curves[name]) - 1}" if k is None else str(k)
                          for name, k in reaches.items()))
    show({"gradients": curves, "reach": reaches}, as_json,
         console.table([("steps back", *curves), *rows, gone], right=tuple(range(len(curves) + 1))))
    if output:
        drawn = {name: list(enumerate(map(float, curve))) for name, curve in curves.items()}
        svg.write(charts.curves("What is left of a gradient", drawn, x_name="steps back",
                                    y_name="share", log=True), output)


def run_clusters(
    files: list[str], *, model: str, words: str | None, top: int | None, layer: int | None,
    output: str | None, format: str | None, as_json: bool, common: Common,
) -> None:
    """The tree of words by their mean states."""
    svg.check_path(output)
    if words and top:
        raise UsageError("--top takes the most frequent words, --words those that it names; leave one out")
    loaded = models.read(model)
    reader = states.StateReader(loaded, layer=layer, threads=common.threads)
    records = _records(loaded, files, format, common)
    found = states.mean_states(reader.read(records), loaded.task)
    names = list(found)[: top or FREQUENT]
    if words:
        names = _parts(words.lower() if loaded.task.tokenizer.lower else words)
    missing = ", ".join(repr(name) for name in names if name not in found)
    if missing:
        raise DataError(f"{called(files)}: expected a text with all of the words, found it without {missing}; "
                        "leave them out of --words")
    if len(names) < 2:
        raise DataError(f"{called(files)}: expected two words or more to cluster, found {len(names)}; give "
                        + ("--words more of them" if words else "more text"))
    linkage = clusters.average_linkage(np.stack([found[name][1] for name in names]))
    counts = [found[name][0] for name in names]
    show({"model": loaded.name, "words": names, "counts": counts, "merges": linkage.tolist()}, as_json,
         "".join(f"{line}\n" for line in clusters.text_tree(
             [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)], linkage)))
    if output:
        svg.write(charts.dendrogram(f"Words by their states in {loaded.name}", names, linkage), output)


def run_neighbors(
    words: list[str], *, model: str | None, vectors: str | None, top: int, output: str | None, as_json: bool,
) -> None:
    """The words nearest to some words."""
    svg.check_path(output)
    known = _vectors(model, vectors)
    found = {word: known.neighbors(word, top) for word in words}
    rows = [(word, near.name, f"{near.cosine:.4f}") for word, nearest in found.items() for near in nearest]
    show({word: [{"word": near.name, "cosine": near.cosine} for near in nearest]
          for word, nearest in found.items()}, as_json,
         console.table([("word", "neighbor", "cosine"), *rows], right=(2,)))
    drawn = [*map(known.row, found), *(near.row for nearest in found.values() for near in nearest)]
    _draw_plane(known, drawn, [], len(found), output)


def run_analogy(
    a: str, b: str, c: str, *, model: str | None, vectors: str | None, top: int, output: str | None,
    as_json: bool,
) -> None:
    """What is to `c` as `b` is to `a`."""
    svg.check_path(output)
    known = _vectors(model, vectors)
    found = known.analogy(a, b, c, top)
    answers = [{"word": near.name, "cosine": near.cosine} for near in found]
    rows = [(near.name, f"{near.cosine:.4f}") for near in found]
    show({"a": a, "b": b, "c": c, "answers": answers}, as_json,
         console.table([("word", "cosine"), *rows], right=(1,)))
    drawn = [*map(known.row, (a, b, c)), *(near.row for near in found)]
    _draw_plane(known, drawn, [(0, 1), (2, 3)] if found else [], 4, output)


def run_similarity(
    file: str, *, model: str | None, vectors: str | None, columns: str | None, output: str | None,
    as_json: bool, common: Common,
) -> None:
    """How well likeness of vectors agrees with human judgement."""
    svg.check_path(output)
    names = _parts(columns or "1,2,3")
    if len(names) != 3:
        raise UsageError(f"--columns: expected three names with commas between, found {columns!r}")
    known = _vectors(model, vectors)
    source = opened(file, "judgements", format=None, errors=common.encoding_errors, log=silent)
    with source as (lines, format):
        pairs = list(read_judgements(lines, format=format, columns=names))
    found = agreement(known, pairs)
    rows = [(pair.first, pair.second, pair.score, cosine)
            for pair, cosine in zip(found.used, found.cosines, strict=True)]
    report = {"spearman": found.spearman, "p_value": found.p_value, "pairs": len(pairs), "used": len(rows),
              "missing": found.missing}
    keys = ("first", "second", "score", "cosine")
    show(report | {"rows": [dict(zip(keys, row, strict=True)) for row in rows]}, as_json,
         _agreed(found, report))
    if output:
        points = np.array([(score, cosine) for _, _, score, cosine in rows])
        svg.write(charts.scatter(
            f"Spearman's correlation {found.spearman:.3f}, {known.source}",
            [f"{a}, {b}" for a, b, *_ in rows], points, x_name="human judgement", y_name="cosine",
            named=len(rows) <= 30), output)


def _agreed(found: Agreement, report: dict[str, Any]) -> str:
    missing = ", ".join(found.missing[:SHOWN]) + (", …" if len(found.missing) > SHOWN else "")
    return console.table([
        ("spearman", f"{found.spearman:.4f}"), ("p_value", f"{found.p_value:.4g}"),
        ("pairs", f"{report['used']} of {report['pairs']}"),
        ("missing words", f"{len(found.missing)}" + (f": {missing}" if missing else "")),
    ])


def run_states(
    files: list[str], *, model: str, units: str | None, top: int | None, layer: int | None,
    output: str | None, format: str | None, as_json: bool, common: Common,
) -> None:
    """The units that vary most along a text, and the text coloured by them."""
    svg.check_path(output)
    if units and top:
        raise UsageError("--top takes the units that vary most, --units those that it names; leave one out")
    loaded = models.read(model)
    reader = states.StateReader(loaded, layer=layer, threads=common.threads)
    records = _records(loaded, files, format, common)
    reads, size = [], 0
    for read in reader.read(records):
        if size + len(read.spans) > MOST_TOKENS:
            common.warn(f"looked at the first {MOST_TOKENS:,} tokens")
            reads.append(read.head(MOST_TOKENS - size))
            break
        reads.append(read)
        size += len(read.spans)
    if not any(len(read.spans) for read in reads):
        raise DataError(f"{called(files)}: expected a text, found none; give one that has words")
    read = states.concatenated(reads)
    chosen = _units(units, read.states.shape[1]) or states.most_varying(read.states, top or VARYING)
    heads = ("unit", "deviation", "mean", "lowest", "highest", "lowest at", "highest at")
    rows: list[tuple[str, ...]] = [heads]
    shares = {}
    for unit in chosen:
        values = read.states[:, unit]
        low, high = int(values.argmin()), int(values.argmax())
        rows.append((str(unit), f"{values.std():.3f}", f"{values.mean():+.3f}", f"{values[low]:+.3f}",
                     f"{values[high]:+.3f}",
                     *(excerpt(read.text, *read.spans[place], width=AROUND) for place in (low, high))))
        largest = max(1.0, float(np.abs(values).max()))  # of a ReLU; all others end at 1
        shares[f"unit {unit}"] = (values / largest).tolist()
    show({"model": loaded.name, "tokens": [[read.text[a:b], a, b] for a, b in read.spans],
          "units": {unit: [round(x, 5) for x in read.states[:, unit].tolist()] for unit in chosen}},
         as_json, console.table(rows, right=(0, 1, 2, 3, 4)), indent=None)
    if not as_json and sys.stdout.isatty():
        for name, row in shares.items():
            console.coloured(name, read.text, read.spans, [charts.diverging_color(share) for share in row])
    if output:
        svg.write(charts.colored_texts(f"States of {loaded.name}", read.text, read.spans, shares),
                      output)


def _parts(given: str) -> list[str]:
    """What is given with commas between, each once."""
    return list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))


def _units(given: str | None, size: int) -> list[int]:
    """Units by number, as they are typed."""
    units = [int(part) if part.isascii() and part.isdigit() else size for part in _parts(given or "")]
    if any(unit >= size for unit in units):
        raise UsageError(f"--units: expected numbers from 0 to {size - 1} with commas between, found {given!r}")
    return units


def _records(loaded: ModelFolder, files: list[str], format: str | None, common: Common) -> Inputs:
    """The records of files, read as in training, whether or not they have answers."""
    return task_records(loaded.task, files, loaded.task.settings, format=format, reading=common,
                        messages=common)


def _vectors(model: str | None, file: str | None) -> Vectors:
    """The vectors of a model's tokens, or those of a file."""
    if file and model == os.environ.get("RNNTOOL_MODEL"):  # what was typed goes before it
        model = None
    if (model is None) == (file is None):
        raise UsageError("expected either a model or a file of vectors; give -m MODEL or --vectors FILE")
    if file is not None:
        from rnntool.data.formats.vectors import read_vectors

        names, rows = read_vectors(file, limit=sys.maxsize)
        places = {name: row for row, name in enumerate(names)}
        return Vectors(Path(file).name, names, rows, lambda word: places.get(word, places.get(word.lower())))
    from rnntool.inspection.onnx_internals import embedding

    assert model is not None
    loaded = models.read(model)
    tokenizer = loaded.task.tokenizer
    first = len(SPECIALS)  # which no text has

    rows = embedding(loaded.folder, loaded.config)[first : tokenizer.size]  # labels stand behind the tokens
    names = [tokenizer.piece(first + i) for i in range(len(rows))]
    places = {name: row for row, name in enumerate(names)}

    def find(word: str) -> int | None:
        ids = tokenizer.encode(word)
        if len(ids) == 1 and ids[0] != UNK:
            return ids[0] - first
        return places.get(word.lower() if tokenizer.lower else word)  # as it is listed, if it is no text's

    return Vectors(loaded.name, names, rows, find)


def _draw_plane(
    known: Vectors, rows: Sequence[int], joined: Sequence[tuple[int, int]], bold: int, output: str | None
) -> None:
    """Words in the plane in which they differ most, the first ones `bold`, some of them `joined`."""
    if output is None:
        return
    drawn = list(dict.fromkeys(rows))
    points, share = known.principal_plane(drawn)
    names = [known.names[row] for row in drawn]
    svg.write(charts.scatter(
        f"Words of {known.source}: {share:.0%} of their variance", names, points,
        x_name="first principal component", y_name="second", bold={known.names[row] for row in rows[:bold]},
        joined=[(drawn.index(rows[a]), drawn.index(rows[b])) for a, b in joined]), output)
