"""`rnntool train`: sources of settings, messages, written files, errors."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import textwrap
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Ran, Run, failed, invoke, ok

from rnntool import model_folder
from rnntool.training.model_card import model_card

Train = Callable[..., Ran]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs `rnntool train …` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(invoke, "train")


def small(task: str, *options: str, **more: Any) -> list[str]:
    """Options for a tiny network, and further `options`, which take the place of those with the same name."""
    flags = tiny.SETTINGS[task] | {"epochs": 1} | more
    if flags.get("tokenizer", "word") != "word":
        flags = {name: value for name, value in flags.items() if name not in (*tiny.WORDS, "min_count")}
    given = {option.partition("=")[0] for option in options}
    defaults = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    return [*(default for default in defaults if default.partition("=")[0] not in given), *options]


def test_train_prints_the_result_and_a_next_command(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    done = train("classify", "in.tsv", "-o", "out", *small("classify"), "-v")
    assert (done.code, done.out) == (0, "")
    assert "36 training records, 4 for development" in done.err
    assert done.err.splitlines()[-1] == (
        "rnntool: model written to out; try: echo 'A line of text.' | rnntool classify -m out")
    failed(train("classify", "in.tsv", "-o", "out", *small("classify")), 2,
           "exists already; --force replaces the model")
    done = train("classify", "in.tsv", "-o", "out", *small("classify"), "--force", "--json")
    assert json.loads(done.out).keys() >= {"accuracy", "macro_f1"}
    done = train("classify", "in.tsv", "-o", "quiet", *small("classify"), "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_train_combines_settings_from_all_sources(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    (tmp_path / "c.toml").write_text('hidden = 5\ncell = "gru"\nmax-time = "90s"\nembed = 6\n')
    monkeypatch.setenv("RNNTOOL_EMBED", "7")
    monkeypatch.setenv("RNNTOOL_LAYERS", "2")
    options = ["--config", "c.toml", "--hidden", "4", "--epochs", "1", "-q"]
    done = train("classify", "in.tsv", "-o", "out", *options)
    assert (done.code, done.err) == (0, "")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["settings"]
    assert {key: settings[key] for key in ("hidden", "cell", "max_time", "embed", "layers", "clip")} == {
        "hidden": 4, "cell": "gru", "max_time": 90.0, "embed": 7, "layers": 2, "clip": 1.0}  # fmt: skip
    (tmp_path / "c.toml").write_text("hiden = 5\n")
    wrong = ["classify", "in.tsv", "-o", "x"]
    failed(train(*wrong, "--config", "c.toml"), 2, "c.toml: unknown setting 'hiden'; did you mean hidden?")
    for text, words in (
        ("[network]\nhidden = 5\n", "expected all settings at the top level, found the table [network]"),
        ("batch-size = 4\nbatch_size = 8\n", "expected 'batch_size' once, found it twice, with - and with _"),
        ('hidden = "5"\n', "hidden: expected a whole number, found '5'"),
        ('max-time = "soon"\n', "max_time: expected a duration such as 90s"),
        ("max-time = -5\n", "max_time: expected a number of at least 1, found -5.0"),
        ("max-time = inf\n", "max_time: expected a number of at least 1, found inf"),
    ):
        (tmp_path / "c.toml").write_text(text)
        failed(train(*wrong, "--config", "c.toml"), 2, f"c.toml: {words}")
    failed(train(*wrong, "--config", "gone.toml"), 2, "gone.toml: can't be read")
    failed(train(*wrong, "--hidden", "0"), 2, "--hidden: expected a whole number of at least 1, found 0")
    failed(train(*wrong, "--max-time", "soon"), 2, "expected a duration such as 90s")
    failed(train(*wrong, "--schedule", "one-cycle", "--warmup", "0.1"), 2, "--warmup: needs --schedule")
    failed(train(*wrong, "--pooling", "min"), 2, "--pooling: expected last, mean", "found 'min'")
    failed(train(*wrong, "--pooling", "mean+mean"), 2,
           "--pooling: expected each name once, found 'mean+mean'")
    failed(train(*wrong, "--preset", "huge"), 2, "--preset: expected one of fast", "found 'huge'")
    assert not (tmp_path / "x").exists()


def test_an_option_overrides_a_variable(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("a b\n\nc d\n" * 9)
    monkeypatch.setenv("RNNTOOL_UNIT", "document")
    monkeypatch.setenv("RNNTOOL_EPOCHS", "1")
    plain = [option for option in small("lm") if not option.startswith("--epochs")]
    assert train("lm", "in.txt", "-o", "out", *plain, "--paragraphs", "-q").code == 0
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["settings"]
    assert (settings["unit"], settings["epochs"]) == ("paragraph", 1)
    failed(train("lm", "-o", "out", "--resume"), 4, "its training has ended")
    failed(train("lm", "-o", "out", "--resume", "--epochs", "5"), 4, "its training has ended")
    failed(train("lm", "-o", "out", "--resume", "--documents"), 2, "leave out --documents")


def test_a_sentence_with_the_only_example_of_a_tag_stays_in_training(train: Train, tmp_path: Path) -> None:
    rows = [[("a", "X", "x"), (f"w{i}", f"T{i}", f"t{i}")] for i in range(9)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(
        {"tokens": [w for w, _, _ in row], "p": [p for _, p, _ in row], "q": ["x", q]}) + "\n"
        for row, q in zip(rows, [*"abcdefgh", "a"], strict=True)))
    for column in ("p", "q"):  # and a second column counts like the first
        other = "q" if column == "p" else "p"
        done = train("tag", "in.jsonl", "-o", column, *small("tag"), "--column", f"{column},{other}",
                     "--dev-fraction", "0.9", "-v")
        assert "9 training records, 0 for development" in done.err
        assert "labels are not in the training data" not in done.err


def test_train_warns_of_unknown_variables(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("a b\n" * 9)
    monkeypatch.setenv("RNNTOOL_HIDEN", "5")
    message = ("rnntool: RNNTOOL_HIDEN: no setting has this name, so it is ignored; "
            "did you mean RNNTOOL_HIDDEN?\n")
    assert train("lm", "in.txt", "-o", "out", *small("lm")).err.startswith(message)
    assert train("lm", "in.txt", "-o", "out", *small("lm"), "--force", "-q").err == ""


@pytest.mark.parametrize(("task", "name", "text", "options", "code", "words"), [
    ("classify", "in.tsv", "text\tlabel\na\tx\nb\tx\n", [], 3, "at least 2 different labels, found only 'x'"),
    ("classify", "in.tsv", "", [], 3, "expected labeled texts, found none"),
    ("classify", "in.tsv", "text\tlabel\n", [], 3, "expected labeled texts, found none"),
    ("classify", "in.tsv", "body\tkind\na\tx\n", [], 3, "in.tsv:1: expected a column 'label'"),
    ("classify", "in.tsv", "text\tlabel\na\tx\tz\n", [], 3, "in.tsv:2: expected 2 columns"),
    ("classify", "in.jsonl", '{"text": "a"}\n', [], 3, "in.jsonl:1: expected a key 'label'"),
    ("classify", "in.jsonl", '{"text": \n', [], 3, "in.jsonl:1: expected one JSON object"),
    ("tag", "in.conll", "a X\nb X\n\n", [], 3, "at least 2 different tags, found only 'X'"),
    ("tag", "in.conll", "a X\nb\n\n", [], 3, "in.conll:2: expected at least 2 columns, found 1"),
    ("tag", "in.conll", "a X\nb Y\n\n", ["--column", "5"], 3, "expected at least 5 columns, found 2"),
    ("tag", "in.conll", "", [], 3, "expected tagged sentences, found none"),
    ("tag", "in.txt", "just some text\n", [], 3, "expected words with tags, found text"),
    ("tag", "in.txt", "", [], 3, "expected words with tags, found an empty file"),
    ("lm", "in.txt", "", [], 3, "expected text, found none"),
    ("lm", "in.txt", "\n\n", [], 3, "expected text, found none"),
    ("lm", "in.txt", "text\n", ["--dev", "gone.txt"], 3, "gone.txt: no such file"),
    ("lm", "in.txt", "text\n", ["--dev", os.devnull], 3, "expected records for development, found none"),
    ("lm", "in.txt", "text\n", ["--vectors", "gone.vec", "--tokenizer", "word"], 3,
     "gone.vec: no such file"),
    ("lm", "in.txt", "text\n", ["--init", "gone"], 4, "gone: no such folder, and no model has this name"),
    ("lm", "in.txt", "body\tkind\na\tx\n", ["--text-column", "body"], 2,
     "--text-column: expected files in jsonl, tsv or csv, found text; leave it out, or name the format"),
    ("classify", "in.ft", "__label__x a\n__label__y b\n" * 9, ["--label-column", "kind"], 2,
     "--label-column: expected files in jsonl, tsv or csv, found fasttext; leave it out, or name the format"),
    ("lm", "in.tsv", "text\tlabel\na\tx\n" * 9, ["--paragraphs"], 2,
     "--paragraphs: expected files in text, found tsv"),
    ("lm", "in.txt", "text\n", ["--tokenizer", "bpe", "--vocab-size", "100"], 2,
     "--vocab-size: expected 261 or more"),
    ("lm", "in.txt", "text\n", ["--tokenizer", "byte", "--vocab-size", "300"], 2,
     "--vocab-size: needs --tokenizer"),
    ("lm", "in.txt", "text\n" * 9, ["--dev-fraction", "0", "--evaluations", "4"], 2,
     "--evaluations: expected records for development, found none"),
    ("classify", "in.tsv", "text\tlabel\na\tx\nb\ty\n",
     ["--text-column", "text", "--label-column", "text"], 2,
     "--text-column: expected a column other than --label-column, found 'text' in both"),
    ("tag", "in.conllu", tiny.conllu(tiny.pos_sentences(9)), ["--column", "4"], 2,
     "or a key of MISC, found '4'"),
    ("lm", "in.txt", "text\n", ["--resume"], 2, "--resume: the training continues with the files and"),
])  # fmt: skip
def test_train_on_bad_data(
    task: str, name: str, text: str, options: list[str], code: int, words: str, train: Train, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    failed(train(task, name, "-o", "out", *small(task, *options)), code, words)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize(("task", "name", "text"), [
    ("classify", "in.csv", "text,label\na,x\nb,y\n"),
    ("tag", "in.conll", "a X\n\nb Y\n\nb Y\n\na X\nb Y\n\n")])
def test_held_out_records_leave_every_label_in_training(
    task: str, name: str, text: str, train: Train, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    for seed in "123":
        held = ["--dev-fraction", "0.5", "--seed", seed]
        done = train(task, name, "-o", "out", *small(task), *held, "--force", "-q")
        assert (done.code, done.err) == (0, "")


def test_train_warns_of_labels_that_only_development_data_has(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    (tmp_path / "dev.tsv").write_text(tiny.tsv([*tiny.questions(5), ("why ?", "reason"), ("why", "reason")]))
    done = train("classify", "in.tsv", "-o", "a", *small("classify"), "--dev", "dev.tsv")
    message = "development data: 2 labels are not in the training data and count as mistakes: 'reason'\n"
    assert f"rnntool: {message}" in done.err
    assert train("classify", "in.tsv", "-o", "q", *small("classify"), "--dev", "dev.tsv", "-q").err == ""
    assert "count as mistakes" not in train("classify", "in.tsv", "-o", "b", *small("classify")).err
    (tmp_path / "in.conll").write_text(tiny.conll(tiny.ner_sentences(20)))
    (tmp_path / "dev.conll").write_text(tiny.conll(
        [*tiny.ner_sentences(4), [("Fry", "B-DOG"), ("er", "I-DOG"), ("a", "B-CAT")]]))
    done = train("tag", "in.conll", "-o", "c", *small("tag"), "--dev", "dev.conll")
    assert "data: 2 labels are not in the training data and count as mistakes: 'DOG', 'CAT'\n" in done.err
    (tmp_path / "dev.conll").write_text(tiny.conll([*tiny.ner_sentences(4), [("a", "B-CAT")]]))
    done = train("tag", "in.conll", "-o", "d", *small("tag"), "--dev", "dev.conll")
    assert "data: 1 label is not in the training data and counts as a mistake: 'CAT'\n" in done.err


def test_train_writes_a_model_card_with_license_and_language(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b\nc\n\nd\n" * 20)
    (tmp_path / 'odd "name".vec').write_text("a 1 2\nb 3 4\n")
    terms = ["--license", "cc-by-4.0", "--language", "en", "--about", 'Letters, "four" of them.']
    done = train("lm", "in.txt", "-o", "out", *small("lm", tokenizer="word", embed=2), "--paragraphs", "-q",
                 *terms, "--vectors", 'odd "name".vec')
    assert (done.code, done.err) == (0, "")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    config = model_folder.read_config(tmp_path / "out")
    _, header, text = card.split("---\n")
    assert {"license: cc-by-4.0", "language: en"} <= set(header.splitlines())
    for language, yaml in {"no": '"no"', "[en, no]": '[en, "no"]'}.items():
        changed = dataclasses.replace(config, settings=config.settings.replace(language=language))
        assert f"language: {yaml}" in model_card("m", changed)
    assert 'Letters, "four" of them.' in text
    settings = tomllib.loads(textwrap.dedent(text.split("## Settings\n\n")[1]))
    assert (settings["unit"], settings["vectors"]) == ("paragraph", 'odd "name".vec')
    assert json.loads((tmp_path / "out" / "config.json").read_text())["settings"]["unit"] == "paragraph"
    failed(train("lm", "in.txt", "-o", "x", "--paragraphs", "--documents"), 2,
           "--unit paragraph contradicts --unit document")


@pytest.mark.parametrize("content", ['{"format": 1', "{}", '{"format": 1, "task": "tag", "settings": {}}'])
def test_a_damaged_model_to_start_from(content: str, tagger: Path, train: Train, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(tagger, tmp_path / "damaged"))
    (damaged / "config.json").write_text(content)
    (tmp_path / "in.conllu").write_text("1\tthe" + "\t_" * 8 + "\n\n")
    failed(train("tag", "in.conllu", "-o", "out", "--init", "damaged"), 4,
           str(Path("damaged") / "config.json"))
    assert not (tmp_path / "out").exists()


def test_train_usage(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text\n")
    failed(train("lm", "in.txt"), 2, "give -o DIR")
    failed(train("lm", "-o", "out"), 2, "expected training files")
    failed(train("lm", "gone.txt", "-o", "out"), 3, "gone.txt: no such file")
    failed(train("lm", "-", "--dev", "-", "-o", "out"), 2, "standard input")
    failed(train("lm", "in.txt", "-o", "in.txt"), 2, "in.txt: expected a folder, found a file")
    failed(train("lm", "in.txt", "-o", "in.txt/out"), 1, "can't be written to")
    failed(train("lm", "gone.txt", "-o", "in.txt/out"), 1, "can't be written to")  # before data is read
    failed(train("lm", "in.txt", "-o", "."), 2, "contains other files but no model")
    failed(train("lm", "--resume", "-o", "out"), 4, "no training to resume")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_train_on_invalid_utf8(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"good\nbad \xff\n" * 5)
    failed(train("lm", "in.txt", "-o", "out", *small("lm")), 3,
           "in.txt:2: expected UTF-8, found 0xff at byte 5")
    done = train("lm", "in.txt", "-o", "out", *small("lm"), "--encoding-errors", "replace", "-q")
    assert (done.code, done.err) == (0, "")


def test_train_on_sentences_without_words(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text(tiny.conll(tiny.ner_sentences(10)) + "\n" * 50)
    for head in ("softmax", "crf"):
        done = train("tag", "in.conll", "-o", head, *small("tag"), "--head", head, "-q")
        assert (done.code, done.err) == (0, "")


def test_train_from_another_model(train: Train, writer: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    base = [*small("classify", tokenizer="char", embed=16, hidden=16, layers=2), "--no-bidirectional"]
    done = train("classify", "in.tsv", "-o", "out", *base, "--init", writer, "-v")
    assert done.code == 0
    entries = len((tmp_path / "out" / "vocab.txt").read_text("utf-8").splitlines())
    shared = len(set((tmp_path / "out" / "vocab.txt").read_text("utf-8").splitlines())
                 & set((writer / "vocab.txt").read_text("utf-8").splitlines()))
    parts = [f"input.embedding ({shared} of {entries} entries)",
             "layers.0.forward_cell", "layers.1.forward_cell"]
    message = f"transferred from {writer}: {', '.join(parts)}; not transferred: nothing"
    assert f"rnntool: {message}\n" in done.err
    kept = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["init"]
    assert kept == {"model": str(writer), "parts": parts, "left": []}
    done = train("classify", "in.tsv", "-o", "plain", *base, "--init", writer)
    assert f"rnntool: {message}\n" in done.err
    done = train("classify", "in.tsv", "-o", "quiet", *base, "--init", writer, "-q")
    assert (done.code, done.err) == (0, "")


def test_train_from_another_model_inherits_its_tokenizer_and_sizes(
    train: Train, writer: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    short = ["--epochs=1", "--layers=2", "--no-bidirectional", "--init", str(writer), "-q"]
    assert train("classify", "in.tsv", "-o", "out", *short).code == 0
    content = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert [content["settings"][name] for name in ("tokenizer", "lower", "embed", "hidden")] == [
        "char", False, 16, 16]
    assert content["init"]["left"] == []
    assert train("classify", "in.tsv", "-o", "own", *short, "--hidden=8", "--lower").code == 0
    content = json.loads((tmp_path / "own" / "config.json").read_text("utf-8"))
    assert [content["settings"][name] for name in ("lower", "embed", "hidden")] == [True, 16, 8]


def test_train_from_another_model_copies_whole_layers_only(
    train: Train, writer: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    base = [*small("classify", tokenizer="char", embed=10, hidden=16, layers=2), "--no-bidirectional"]
    done = train("classify", "in.tsv", "-o", "out", *base, "--init", writer)
    assert "transferred from" in done.err
    assert ": layers.1.forward_cell; not transferred: input.embedding, layers.0.forward_cell\n" in done.err
    other = [option for option in base if option != "--hidden=16"]
    failed(train("classify", "in.tsv", "-o", "odd", *other, "--hidden=10", "--init", writer), 4,
           "none of its weights fit this network")


def test_train_from_another_model_maps_characters(train: Train, tmp_path: Path) -> None:
    from rnntool.inference.weights import load_weights

    rows = tiny.questions(40)
    (tmp_path / "a.tsv").write_text(tiny.tsv(rows))
    (tmp_path / "b.tsv").write_text(tiny.tsv([("Aha Aho " + text, label) for text, label in rows]))
    still = ["--lr=0", "--weight-decay=0", "-q"]
    assert train("classify", "a.tsv", "-o", "a", *small("classify"), "-q").code == 0
    assert train("classify", "b.tsv", "-o", "b", *small("classify"), *still, "--init", "a").code == 0
    tables = []
    for name in "ab":
        content = json.loads((tmp_path / name / "config.json").read_text())
        characters = content["data"]["features"]["characters"]
        table = load_weights(tmp_path / name)["encoder.input.characters.embedding.weight"]
        tables.append(dict(zip(characters, table[2:].tolist(), strict=True)))
    before, after = tables
    assert list(after).index("e") != list(before).index("e")
    assert "A" in after.keys() - before.keys()
    assert all(after[char] == row for char, row in before.items())


def test_train_from_another_model_keeps_the_vectors_that_were_given(train: Train, tmp_path: Path) -> None:
    from rnntool.inference.weights import load_weights

    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(40)))
    (tmp_path / "a.vec").write_text("who 1 2\nwhere 3 4\n")
    (tmp_path / "b.vec").write_text("where 5 6\nwho 7 8\n")
    assert train("classify", "in.tsv", "-o", "a", *small("classify"), "--vectors", "a.vec", "-q").code == 0
    again = ["--vectors", "b.vec", "--init", "a", "-q"]
    done = train("classify", "in.tsv", "-o", "b", *small("classify"), *again)
    assert (done.code, done.err) == (0, "")
    vectors = load_weights(tmp_path / "b")["encoder.input.vectors.weight"]
    assert vectors.tolist() == [[0, 0], [5, 6], [7, 8]]


def test_train_holds_out_a_record_of_small_data(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a b\nb a\n")
    done = train("lm", "in.txt", "-o", "out", *small("lm"), "-v")
    assert done.code == 0
    assert "1 training record, 1 for development" in done.err
    done = train("lm", "in.txt", "-o", "most", *small("lm"), "--dev-fraction", "0.9", "-v")
    assert "1 training record, 1 for development" in done.err
    for watching in (["--patience", "2"], ["--schedule", "plateau"]):
        base = ["lm", "in.txt", "-o", "x", *small("lm"), *watching]
        failed(train(*base, "--dev-fraction", "0"), 2, watching[0], "give --dev")
        assert train(*base[:3], "out" + watching[0], *base[4:], "-q").code == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("task", "name"), [("classify", "in.tsv"), ("tag", "in.conll")])
def test_train_where_no_word_is_frequent(
    task: str, name: str, train: Train, run: Run, tmp_path: Path
) -> None:
    data = {"in.tsv": "text\tlabel\nfine work\tgood\npoor stuff\tbad\nodd\tbad\n",
            "in.conll": "Fine X\nwork Y\n\npoor X\nstuff Y\n\nodd X\n\n"}
    (tmp_path / name).write_text(data[name])
    base = [task, name, *small(task), "--min-count=2", "--dev-fraction=0", "-q"]
    done = train(*base, "-o", "out")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "out" / "vocab.txt").read_text() == ""
    assert len(ok(run(task, "-m", "out", input="fine work\n")).split()) in (1, 4)
    bare = [task, name, "--min-count=2", "--dev-fraction=0", "--chars=none", "--affix-embed=0"]
    failed(train(*bare, "-o", "x"), 3, "lower --min-count")


def test_train_resume_rejects_other_options(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text\n")
    base = ["lm", "-o", "out", "--resume"]
    for more in (["in.txt"], ["--dev", "in.txt"], ["--from", "text"], ["--force"],
                 ["--encoding-errors", "replace"], ["--preset", "char"], ["--hidden", "3"]):
        failed(train(*base, *more), 2, "--resume: the training continues with the files and settings",
               f"leave out {more[0]}")
    failed(train(*base, "--finish", "--epochs", "3"), 2, "--finish contradicts --epochs; leave one out")
    failed(train("lm", "in.txt", "-o", "out", "--finish"), 2, "--finish: has no effect without --resume")


@pytest.mark.parametrize("columns", ["upos,upos", ",", "upos,", "upos,,xpos"])
def test_columns_need_different_names(columns: str, pos_file: Path, run: Run) -> None:
    done = run("train", "tag", pos_file, "-o", "x", "--column", columns)
    assert done.code == 2
    assert "expected different names or numbers" in done.err


def test_train_reports_settings_without_effect(train: Train, tmp_path: Path) -> None:
    spans = [("Anna", "B-PER"), ("Berg", "I-PER"), ("in", "O"), ("Oslo", "B-LOC"), ("sings", "O")]
    text = tiny.conll([spans] * 9)
    (tmp_path / "slip.conll").write_text(text.replace("sings O", "sings 0", 1), "utf-8")
    (tmp_path / "v.txt").write_text("xx 1 2\nyy 2 3\n")
    done = train("tag", "slip.conll", "-o", "m", "--vectors", "v.txt", *small("tag"))
    assert done.code == 0
    assert "the tags are learned as plain tags and not as spans, because of '0'; correct these" in done.err
    assert "0 of 9 embeddings start from one of 2 pretrained vectors of size 2" in done.err


def test_train_reports_a_guess_and_what_is_odd_about_the_data(train: Train, tmp_path: Path) -> None:
    rows = "".join(f"{i}\t{word}\t{tag}\n" for i, word, tag in
                   [(1, "Anna", "PER-B"), (2, "Berg", "PER-I"), (3, "sings", "O"), (4, ".", "O")])
    (tmp_path / "ner.txt").write_text(f"{rows}\n" * 9 + rows * 600, "utf-8")
    done = train("tag", "ner.txt", "-o", "m", *small("tag"))
    assert (done.code, done.out) == (0, "")
    said = [line for line in done.err.splitlines() if "ner.txt" in line or "the tags" in line]
    assert said == [f"rnntool: {line}" for line in (
        "ner.txt: read as conll, a guess; confirm it with --from conll",
        "ner.txt:1: the words are the numbers 1, 2, 3, …; if the words are in another column, set "
        "--word-column",
        "ner.txt:46: a sentence of 2,400 words; if blank lines are missing between sentences, insert them",
        "the tags are learned as plain tags; if they are spans, write B-PER instead of PER-B")]
    (tmp_path / "ner.conll").write_text(f"{rows}\n" * 9, "utf-8")
    done = train("tag", "ner.conll", "-o", "m", "--force", "--word-column", "2", *small("tag"))
    assert (done.code, "numbers" in done.err) == (0, False)
    tagged = invoke("tag", "-m", "m", "--from", "conll", input="1\tAnna\n2\tsings\n")
    assert [len(row.split("\t")) for row in ok(tagged).splitlines()] == [3, 3]
    first = invoke("tag", "-m", "m", "--from", "conll", "--word-column", "1", input="Anna\nsings\n")
    assert [row.split("\t")[1] for row in ok(first).splitlines()] == [
        row.split("\t")[2] for row in tagged.out.splitlines()], "the same words"
    failed(invoke("evaluate", "-m", "m", "ner.conll", "--word-column", "4"), 3,
           "ner.conll:1: expected a word in column 4, found 3 columns; choose another column with "
           "--word-column")
    ok(invoke("evaluate", "-m", "m", "ner.conll", "-o", "report.txt"))


def test_train_asks_for_the_names_of_tags(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"tokens": ["Anna", "sings"], "ner_tags": [1, 0]}\n')
    failed(train("tag", "in.jsonl", "-o", "m", "--column", "ner_tags"), 3,
           "in.jsonl:1: expected a list of strings", "found numbers; replace each by its name")


@pytest.mark.parametrize("task", ["lm", "tag", "classify", "transduce"])
def test_train_rejects_weights_that_are_not_finite(task: str, train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text(tiny.conll(tiny.pos_sentences(8)), "utf-8")
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(8)), "utf-8")
    (tmp_path / "in.txt").write_text("a line\n" * 8)
    (tmp_path / "pairs.tsv").write_text(tiny.pairs(tiny.reversals(8)))
    name = {"lm": "in.txt", "tag": "in.conll", "classify": "in.tsv", "transduce": "pairs.tsv"}[task]
    options = small(task, lr=1e38, batch_size=99, dev_fraction=0, clip=0, ema=0)
    failed(train(task, name, "-o", "m", "-q", *options), 1, "the weights became infinite at step 1; lower")
    failed(train(task, name, "-o", "n", *small(task, "--lr", "inf")), 2, "--lr: expected a number")


def test_train_reads_toml_with_a_byte_order_mark_and_rejects_time_zero(train: Train, tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text(tiny.conll(tiny.pos_sentences(8)), "utf-8")
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbfhidden=5\r\n")
    base = ["tag", "in.conll", "-o", "m", "-q"]
    assert train(*base, "--config", "c.toml", *(o for o in small("tag") if "hidden" not in o)).code == 0
    failed(train(*base, "--force", "--max-time", "0s"), 2, "--max-time: expected a duration such as 90s")
    failed(train("tag", "-o", "m", "--resume"), 4, "its training has ended; to train again, give --force")
