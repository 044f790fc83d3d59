"""Generated data, small enough to learn in a second, and training in this process."""

from __future__ import annotations

import dataclasses
import random
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnntool import model_folder
from rnntool.data.progress import silent
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve

if TYPE_CHECKING:
    from rnntool.models.network import Network

Tags = list[tuple[str, str]]

STEMS = ("bak", "danc", "form", "garden", "hunt", "jump", "paint", "print", "rul", "sing", "teach", "work")
SUFFIXES = {"NOUN": ("er", "ation"), "VERB": ("s", "ed"), "ADJ": ("ful", "less")}
PEOPLE = ("Anna Berg", "Bob", "Carla Diaz", "Dora", "Emil Frey")
PLACES = ("Paris", "New York", "Oslo", "Cape Town", "Rome")
QUESTIONS = {
    "person": ("who", "which man"),
    "place": ("where", "in which town"),
    "time": ("when", "what year"),
}


def pos_sentences(n: int, seed: int = 0) -> list[Tags]:
    """Generate sentences whose tags follow from suffixes: `the workful baker dances .`"""
    rng = random.Random(seed)

    def word(tag: str) -> tuple[str, str]:
        return rng.choice(STEMS) + rng.choice(SUFFIXES[tag]), tag

    sentences = []
    for _ in range(n):
        adjective = [word("ADJ")] if rng.random() < 0.5 else []
        sentence = [("the", "DET"), *adjective, word("NOUN"), word("VERB")]
        if rng.random() < 0.5:
            sentence += [("the", "DET"), word("NOUN")]
        sentences.append([*sentence, (".", "PUNCT")])
    return sentences


# consonants, and two kinds of vowels, which don't occur in the same word
SCRIPTS = {
    "latin": ("bcdgklmnprstvz", "aou", "eiö"),
    "devanagari": ("कखगघचजटडतदनपबमयरलवसह", ("ा", "ु", "ो"), ("ि", "े", "ी")),
    "thai": ("กขคงจชดตถทนบปพมยรลสห", ("า", "ุ", "อ"), ("ิ", "ี", "ึ")),
    "hangul": ("ᄀᄂᄃᄅᄆᄇᄉᄌᄎᄏᄐᄑᄒ", ("ᅡ", "ᅩ", "ᅮ"), ("ᅥ", "ᅦ", "ᅵ")),
}


def made_up_sentences(script: str, n: int, seed: int = 0) -> list[Tags]:
    """Generate sentences of an agglutinative language: the last of two to five suffixes determines the tag.

    A suffix is a consonant and a vowel of the kind that the stem has (vowel harmony). Each word has a new
    random stem, so hardly any word occurs twice. There are no capital letters.
    """
    consonants, *vowel_kinds = SCRIPTS[script]
    rng, language_rng = random.Random(seed), random.Random(script)
    inventory = language_rng.sample([(c, i) for c in consonants for i in range(len(vowel_kinds[0]))], 20)
    tags = {suffix: f"T{i % 5}" for i, suffix in enumerate(inventory)}

    def word() -> tuple[str, str]:
        vowels = rng.choice(vowel_kinds)
        stem = "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(rng.randint(2, 3)))
        suffixes = rng.choices(inventory, k=rng.randint(2, 5))
        form = stem + "".join(consonant + vowels[i] for consonant, i in suffixes)
        return unicodedata.normalize("NFC", form), tags[suffixes[-1]]

    return [[word() for _ in range(rng.randint(3, 9))] for _ in range(n)]


def ner_sentences(n: int, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Generate sentences with people and places in IOB2, some next to each other."""
    rng = random.Random(seed)

    def entity(names: Sequence[str], kind: str) -> Tags:
        words = rng.choice(names).split()
        return [(word, ("B-" if i == 0 else "I-") + kind) for i, word in enumerate(words)]

    sentences = []
    for _ in range(n):
        sentence = [*entity(PEOPLE, "PER"), ("met", "O"), *entity(PEOPLE, "PER")]
        if rng.random() < 0.5:
            sentence += entity(PEOPLE, "PER")
        sentences.append([*sentence, ("in", "O"), *entity(PLACES, "LOC"), (".", "O")])
    return sentences


def iob1(tags: Iterable[str]) -> list[str]:
    """Convert IOB2 tags to IOB1: `B-` only after an entity with the same label."""
    converted, previous = [], "O"
    for tag in tags:
        touches = previous[2:] == tag[2:] and previous != "O"
        converted.append(tag if tag == "O" or (tag[0] == "B" and touches) else "I-" + tag[2:])
        previous = tag
    return converted


def questions(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Generate questions whose first words determine the label: (text, label)."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        label = rng.choice(sorted(QUESTIONS))
        words = [rng.choice(QUESTIONS[label]), "did the", rng.choice(STEMS) + "er", rng.choice(STEMS), "?"]
        rows.append((" ".join(words), label))
    return rows


# the words of two labels, without any in common
WORDS_OF = {"food": ("bread", "soup", "rice", "beans"), "sky": ("sun", "wind", "cloud", "rain")}


def labeled_texts(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Generate short texts, each with words of its label only: (text, label)."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        label = rng.choice(sorted(WORDS_OF))
        rows.append((" ".join(rng.choices(WORDS_OF[label], k=rng.randint(3, 5))), label))
    return rows


def reversals(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Generate words and their characters in reverse, with spaces between them: (source, target)."""
    rng = random.Random(seed)
    words = ("".join(rng.choices("abcdef", k=rng.randint(1, 5))) for _ in range(n))
    return [(word, " ".join(reversed(word))) for word in words]


def pairs(rows: Iterable[tuple[str, ...]]) -> str:
    """Write rows as a table without a header."""
    return "".join("\t".join(row) + "\n" for row in rows)


def lines_of_text(n: int, seed: int = 0) -> list[str]:
    """Generate short sentences with a small alphabet."""
    return [" ".join(word for word, _ in sentence) for sentence in pos_sentences(n, seed)]


def conllu(sentences: Iterable[Tags]) -> str:
    """Write sentences as CoNLL-U."""
    blocks = []
    for number, sentence in enumerate(sentences, 1):
        rows = [f"{i}\t{word}\t_\t{tag}" + "\t_" * 6 for i, (word, tag) in enumerate(sentence, 1)]
        blocks.append(f"# sent_id = {number}\n" + "\n".join(rows) + "\n\n")
    return "".join(blocks)


def segmented_conllu(n: int, seed: int = 0) -> str:
    """Write CoNLL-U with periods attached to words, and with the token `dont` of the words `do` and `nt`.

    Every fifth sentence begins a paragraph.
    """
    rng = random.Random(seed)
    blocks = []
    for number in range(n):
        words = [rng.choice(STEMS).capitalize(), *rng.choices(STEMS, k=rng.randint(1, 4))]
        rows, i = [], 0
        for word in [*words, "."]:
            if word != "." and i and rng.random() < 0.3:
                rows += [f"{i + 1}-{i + 2}\tdont", f"{i + 1}\tdo", f"{i + 2}\tnt"]
                i += 2
            i += 1
            rows.append(f"{i}\t{word}")
        misc = [*["_"] * (len(rows) - 2), "SpaceAfter=No", "_"]
        block = "".join(row + "\t_" * 7 + f"\t{value}\n" for row, value in zip(rows, misc, strict=True))
        blocks.append(("# newpar\n" if number % 5 == 0 else "") + block + "\n")
    return "".join(blocks)


def joint_conllu(sentences: Iterable[Tags]) -> str:
    """Write CoNLL-U with finer tags as XPOS, and `NER=B-PER` in MISC for words that end in `er`."""
    blocks = []
    for sentence in sentences:
        rows = []
        for i, (word, tag) in enumerate(sentence, 1):
            misc = "NER=B-PER" if word.endswith("er") else "_"
            rows.append(f"{i}\t{word}\t_\t{tag}\t{tag}-{word[-1]}" + "\t_" * 4 + f"\t{misc}\n")
        blocks.append("".join(rows) + "\n")
    return "".join(blocks)


def conll(sentences: Iterable[Tags], scheme: Callable[[Iterable[str]], list[str]] = list) -> str:
    """Write sentences as CoNLL columns, with the tags converted by `scheme`."""
    blocks = []
    for sentence in sentences:
        tags = scheme(tag for _, tag in sentence)
        rows = (f"{word} {tag}\n" for (word, _), tag in zip(sentence, tags, strict=True))
        blocks.append("".join(rows) + "\n")
    return "".join(blocks)


def tsv(rows: Iterable[tuple[str, str]]) -> str:
    """Write texts and labels as a table with a header and an id column."""
    return "id\ttext\tlabel\n" + "".join(f"{i}\t{text}\t{label}\n" for i, (text, label) in enumerate(rows))


NETWORK: dict[str, Any] = {
    "embed": 12, "hidden": 12, "layers": 1, "dropout": 0.1, "precision": "fp32", "seed": 1,
    "optimizer": "adamw", "lr": 0.02, "clip": 1.0, "warmup": 0.0, "ema": 0.0, "token_dropout": 0.0,
}
WORDS: dict[str, Any] = {"char_embed": 8, "char_hidden": 8, "affix_embed": 8, "affix_buckets": 64}
SETTINGS: dict[str, dict[str, Any]] = {
    "lm": NETWORK | {"tokenizer": "char", "layers": 2, "dropout_between": 0.1, "hidden": 16, "embed": 16,
                     "batch_size": 10},
    "classify": NETWORK | WORDS | {"batch_size": 10, "min_count": 1},
    "tag": NETWORK | WORDS | {"batch_size": 10, "neighbours": 0.0},
    "segment": NETWORK | {"batch_size": 10, "min_count": 1},
    "transduce": NETWORK | {"hidden": 32, "embed": 24, "batch_size": 20, "lr": 0.01, "label_smoothing": 0.0},
}


def _never_stop() -> int | None:
    return None


def train(
    task: str,
    out: Path,
    files: Sequence[Path] = (),
    *,
    dev: Sequence[Path] = (),
    resume: bool = False,
    force: bool = False,
    finish: bool = False,
    extension: Mapping[str, Any] | None = None,
    predictions: Path | None = None,
    stopping: Callable[[], int | None] = _never_stop,
    log: Callable[[str], None] = silent,
    **settings: Any,
) -> dict[str, Any]:
    """Train a tiny model in this process (or resume it) and return its dev report."""
    from rnntool.training.job import Job
    from rnntool.training.train import train as run

    job = None
    if not resume:
        job = Job(task=task, train=list(map(str, files)), dev=list(map(str, dev)),
                  predictions=str(predictions) if predictions else None,
                  settings=resolve(TASKS[task], settings, inherit=lambda _: SETTINGS[task]))
    return run(job, out, task=task, device="cpu", threads=1, force=force, finish=finish, extension=extension,
               watch=lambda step: None, stopping=stopping, log=log)


def forget_digests(folder: Path) -> None:
    """Let a model folder have no digests, as older versions wrote it, so that its files can be changed."""
    config = dataclasses.replace(model_folder.read_config(folder), sha256={})
    model_folder.write_json(folder / model_folder.CONFIG, config.to_json())


def network_of(folder: Path) -> Network:
    """Load the torch network of a model folder, in evaluation mode."""
    from rnntool.inference.weights import load_network

    return load_network(folder, model_folder.read_config(folder)).eval()


def write_graph(network: Network, path: Path, *, int8: bool = False) -> None:
    """Write the main graph of a network to a file."""
    from rnntool.models.export.network_graph import MAIN, build_graphs, serialize

    path.write_bytes(serialize(build_graphs(network)[MAIN], int8=int8))


def network_arrays(
    rng: np.random.Generator, lengths: Sequence[int], *, vocabulary: int = 30, targets: int = 30
) -> dict[str, NDArray[Any]]:
    """Make random input arrays for any network, with rows of these lengths and U = 9 word types."""
    steps, batch, types = max(1, *lengths), len(lengths), 9
    sizes = np.array(lengths, np.int32)
    target_ids = rng.integers(0, targets, (steps, batch))
    target_ids[np.arange(steps)[:, None] >= sizes] = -1
    return {
        "tokens": rng.integers(0, vocabulary, (steps, batch)),
        "words": rng.integers(0, types, (steps, batch)),
        "lengths": sizes,
        "targets": target_ids,
        "type_tokens": rng.integers(0, vocabulary, types),
        "type_chars": rng.integers(0, 20, (types, 6)),
        "type_char_lengths": rng.integers(1, 7, types).astype(np.int32),
        "type_affixes": rng.integers(0, 32, (types, 4)),
        "type_vectors": rng.integers(0, 7, types),
    }
