"""`rnntool evaluate`: reports, warnings, and the comparison of two models."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Ran, Run, failed, invoke, ok

LABELED = {"accuracy", "ece", "unseen_labels", "per_label"}
WORDS = {"accuracy_known", "accuracy_unknown", "unknown"}


@pytest.mark.parametrize(("name", "data", "keys"), [
    ("writer", "text_file", {"perplexity", "nll_nats", "bits_per_char", "bits_per_byte", "oov"}),
    ("classifier", "question_file", {"macro_f1", "micro_f1", "confusion"} | LABELED),
    ("tagger", "pos_file", {"confusion"} | LABELED | WORDS),
    ("ner", "ner_file", {"precision", "recall", "f1", "f1_conlleval", "confusion"} | LABELED | WORDS),
])  # fmt: skip
def test_evaluate(name: str, data: str, keys: set[str], run: Run, request: pytest.FixtureRequest) -> None:
    model, file = request.getfixturevalue(name), request.getfixturevalue(data)
    report = json.loads(ok(run("evaluate", file, "-m", model, "--json", "--errors", "2")))
    assert report.keys() == {
        "task", "model", "records", "tokens", "interval_of", "interval", "signature", "errors"} | keys
    assert (report["model"], report["records"]) == (model.name, 20)
    assert f"|model:{model.name}|seed:1|" in report["signature"]
    assert report["signature"].endswith(f"metric:{report['interval_of']}")
    low, high = report["interval"]
    assert low <= report[report["interval_of"]] <= high
    saved = json.loads((model / "config.json").read_text("utf-8"))["report"]
    # known only when a training ends
    others = {"temperature", "ece_uncalibrated", "baseline", "linear", "ngram", "perplexity_mixed"}
    saved = {key: value for key, value in saved.items() if key not in others}
    assert {key: report[key] for key in saved} == saved, "as it was reported at the end of the training"


def test_evaluate_several_columns(joint: Path, models: Path, run: Run) -> None:
    done = run("evaluate", models / "data" / "joint-dev.conllu", "-m", joint, "--json")
    report = json.loads(done.out)
    assert report["accuracy"] == report["accuracy_all"] == 1.0
    assert report["columns"]["xpos"]["accuracy"] == 1.0
    assert report["columns"]["NER"]["f1"] == 1.0
    assert "per_label" in report["columns"]["xpos"]
    assert "accuracy_all" in run("evaluate", models / "data" / "joint-dev.conllu", "-m", joint).out
    assert re.search(r"^dev NER f1 +1.0000$", run("info", joint).out, re.MULTILINE)
    assert "| xpos accuracy | 1.0000 |" in (joint / "README.md").read_text("utf-8")


def test_evaluate_checks_the_names_of_columns(joint: Path, models: Path, run: Run) -> None:
    done = run("evaluate", models / "data" / "joint-dev.conllu", "-m", joint, "--column", "xpos")
    failed(done, 2, "--column: expected columns in the order of the model tiny-joint",
           "(upos,xpos,NER), found 'xpos'")


def test_evaluate_counts_malformed_span_tags_as_wrong(ner: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "plain.conll").write_text("Anna PER\nmet X\nBob B-PER\n. O\n\n" * 2)
    report = json.loads(run("evaluate", tmp_path / "plain.conll", "-m", ner, "--json").out)
    assert report["accuracy"] == 0.5
    assert report["confusion"]["PER"]["PER"] == 4  # of the kind that they are
    assert report["confusion"]["X"] == {"O": 2}
    assert report["recall"] == 1.0


def test_evaluate_prints_tables(tagger: Path, pos_file: Path, run: Run, tmp_path: Path) -> None:
    text = pos_file.read_text("utf-8")
    (tmp_path / "wrong.conllu").write_text(text.replace("\tVERB\t", "\tNOUN\t", 1))
    out = ok(run("evaluate", "wrong.conllu", "-m", tagger, "--errors", "3"))
    assert re.search(r"^accuracy +0\.9\d+  \(95% interval: 0\.9\d+ to 1\.0000\)$", out, re.MULTILINE)
    assert "most frequent confusions\ngold  predicted  count\nNOUN  VERB           1\n" in out
    assert "most confident mistakes" in out
    assert out.splitlines()[-1].split()[1:3] == ["NOUN", "VERB"]
    assert "[" in out.splitlines()[-1]
    assert "never saw" not in out


def test_evaluate_shows_the_ten_most_frequent_confusions(tagger: Path, run: Run, tmp_path: Path) -> None:
    rows = [("the", f"X{i}") for i in range(12) for _ in range(i + 1)]
    (tmp_path / "new.conllu").write_text(tiny.conllu([rows, [("the", "DET")], [("the", "DET")] * 99]))
    out = ok(run("evaluate", "new.conllu", "-m", tagger))
    never, confused = out.split("labels that training never saw\n")[1].split("\nmost frequent confusions\n")
    assert [line.split() for line in never.splitlines()[1:]] == [[f"X{i}", str(i + 1)]
                                                                 for i in range(11, 1, -1)]
    assert [line.split() for line in confused.splitlines()[1:]] == [[f"X{i}", "DET", str(i + 1)]
                                                                    for i in range(11, 1, -1)]
    report = json.loads(ok(run("evaluate", "new.conllu", "-m", tagger, "--json")))
    assert report["unseen_labels"]["X0"] == report["confusion"]["X0"]["DET"] == 1


def test_evaluate_one_record_has_no_interval(tagger: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.conllu").write_text(tiny.conllu(tiny.pos_sentences(1)))
    report = json.loads(ok(run("evaluate", "one.conllu", "-m", tagger, "--compare", tagger, "--json")))
    assert report["interval"] is report["compare"]["interval"] is None
    assert "interval" not in ok(run("evaluate", "one.conllu", "-m", tagger, "--compare", tagger))


def test_evaluate_warns_of_unknown_labels(
    tagger: Path, ner: Path, classifier: Path, pos_file: Path, ner_file: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other.tsv").write_text(tiny.tsv([("who sings ?", "Sports"), ("when ?", "World")]))
    for model, file, found, known, option in (
        (tagger, ner_file, "I-PER", "NOUN", "--column"),
        (ner, pos_file, "NOUN", "PER", "--column"),
        (classifier, Path("other.tsv"), "Sports", "person", "--label-column"),
    ):
        done = run("evaluate", file, "-m", model)
        assert done.code == 0
        assert done.err.startswith(f"rnntool: {file}: ")
        assert done.err.count("\n") == 1
        for word in (model.name, found, known, f"with {option}\n"):
            assert word in done.err
        assert run("evaluate", file, "-m", model, "-q") == Ran(0, done.out, "")
    total = sum(map(len, tiny.pos_sentences(20, seed=9)))
    assert f"{total} of {total} labels" in run("evaluate", pos_file, "-m", ner).err


@pytest.fixture(scope="module")
def beginner(models: Path, tagger: Path) -> Path:
    """A part-of-speech tagger that was trained for one epoch only."""
    tiny.train("tag", models / "beginner", [models / "data" / "train.conllu"], epochs=1, lr=0.002,
               window_scores=False)
    return models / "beginner"


def test_evaluate_compares_two_models(tagger: Path, beginner: Path, pos_file: Path, run: Run) -> None:
    command = ("evaluate", pos_file, "-m", tagger, "--compare")
    report = json.loads(ok(run(*command, beginner, "--json")))
    alone = json.loads(ok(run("evaluate", pos_file, "-m", beginner, "--json")))
    found = report["compare"]
    assert found.keys() == {"model", "figure", "value", "difference", "interval", "p_value", "signature"}
    assert (found["model"], found["figure"], found["value"]) == ("beginner", "accuracy", alone["accuracy"])
    assert found["signature"] == alone["signature"]
    assert found["difference"] == pytest.approx(report["accuracy"] - alone["accuracy"])
    low, high = found["interval"]
    assert 0 < low <= found["difference"] <= high
    assert found["p_value"] < 0.01
    assert json.loads(ok(run(*command, beginner, "--json"))) == report, "nothing is left to chance"
    plain = json.loads(ok(run("evaluate", pos_file, "-m", tagger, "--json")))
    assert {**plain, "compare": found} == report
    itself = json.loads(ok(run(*command, tagger, "--json")))["compare"]
    assert (itself["difference"], itself["interval"], itself["p_value"]) == (0.0, [0.0, 0.0], 1.0)
    lines = ok(run(*command, beginner)).splitlines()
    at = lines.index("compared with beginner")
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["accuracy", "difference", "p_value"]


def test_evaluate_compares_by_the_first_column(
    joint: Path, tagger: Path, models: Path, pos_file: Path, run: Run
) -> None:
    file = models / "data" / "joint-dev.conllu"
    many = json.loads(ok(run("evaluate", file, "-m", joint, "--compare", tagger, "--json")))
    assert many["columns"].keys() == {"xpos", "NER"}
    one = json.loads(ok(run("evaluate", file, "-m", tagger, "--compare", joint, "--json")))
    assert (many["accuracy"], many["compare"]["value"]) == (one["compare"]["value"], one["accuracy"])
    assert many["compare"]["p_value"] == one["compare"]["p_value"]
    first = json.loads(ok(run("evaluate", pos_file, "-m", joint, "--column", "upos", "--json")))
    assert "columns" not in first
    assert first["accuracy"] == many["accuracy"]
    failed(run("evaluate", file, "-m", tagger, "--column", "upos,xpos"), 2,
           "expected at most 1", "'upos,xpos'")


def test_evaluate_rejects_models_that_cannot_be_compared(
    tagger: Path, ner: Path, writer: Path, models: Path, pos_file: Path, text_file: Path, run: Run
) -> None:
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", writer), 2, "task tag", "one of lm")
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", ner), 2, "by accuracy", "by f1")
    failed(run("evaluate", pos_file, "-m", tagger, "--compare", "gone"), 4,
           "gone: no such folder, and no model has this name")
    data = [models / "data" / "train.txt"]
    for name, settings in (
        ("bytes", {"tokenizer": "byte"}), ("words", {"tokenizer": "word", "min_count": 50}),
        ("paragraphs", {"unit": "paragraph"}), ("chars", {"context": "stream"}),
    ):
        tiny.train("lm", models / f"writer-{name}", data, epochs=1, **settings)
    command = ("evaluate", text_file, "-m", writer, "--json", "--compare")
    bytes_ = json.loads(ok(run(*command, models / "writer-bytes")))
    assert (bytes_["interval_of"], bytes_["compare"]["figure"]) == ("perplexity", "bits_per_char")
    alone = json.loads(ok(run("evaluate", text_file, "-m", models / "writer-bytes", "--json")))
    assert bytes_["compare"]["value"] == alone["bits_per_char"]
    assert bytes_["compare"]["difference"] == bytes_["bits_per_char"] - alone["bits_per_char"] < 0
    assert bytes_["compare"]["p_value"] < 0.01
    chars = json.loads(ok(run(*command, models / "writer-chars")))["compare"]
    assert chars["figure"] == "perplexity"
    failed(run(*command, models / "writer-words"), 2, "--compare: ", "of 20 records", "bits per character")
    failed(run(*command, models / "writer-paragraphs"), 2,
           "expected a model with --unit line, found one with --unit paragraph")


def test_evaluate_gives_one_batch_all_threads(
    tagger: Path, pos_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnntool.inference import model

    asked: list[dict[str, Any]] = []
    load = model.load

    def noted(*names: str, **options: Any) -> model.Model:
        asked.append(options)
        return load(*names, **options)

    monkeypatch.setattr(model, "load", noted)
    monkeypatch.setattr("rnntool.data.threads.cores", lambda: 3)
    assert invoke("evaluate", "-m", tagger, pos_file).code == 0
    assert asked[0]["parallel"] is False
    for parallel, workers, threads in ((True, 3, 1), (False, 1, 3)):
        loaded = load(tagger, threads=3, parallel=parallel)
        options = loaded.engine.session.get_session_options()  # type: ignore[attr-defined]
        assert (loaded.pipeline.workers, options.intra_op_num_threads) == (workers, threads)


def test_evaluate_reports_another_scheme(ner: Path, ner_file: Path, tmp_path: Path, run: Run) -> None:
    scheme = json.loads((ner / "config.json").read_text("utf-8"))["data"]["columns"][0]["scheme"]
    assert run("evaluate", ner_file, "-m", ner).err == ""
    message = run("evaluate", ner_file, "-m", ner, "-v").err
    assert f"the tags are spans in {scheme.upper()}" in message
    file = tmp_path / "iobes.conll"
    file.write_text("ann S-PER\nsings O\nin O\nnew B-LOC\nyork E-LOC\n", "utf-8")
    assert run("evaluate", file, "-m", ner).err == f"rnntool: {file}: the tags are spans in IOBES\n"


@pytest.mark.parametrize("option", ["--text-column", "--label-column"])
def test_evaluate_rejects_columns_of_fasttext_lines(
    option: str, classifier: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "in.ft").write_text("__label__person who sings ?\n__label__time when ?\n")
    failed(run("evaluate", "in.ft", "-m", classifier, option, "body"), 2,
           f"{option}: expected files in jsonl, tsv or csv, found fasttext")
    ok(run("evaluate", "in.ft", "-m", classifier))


# --- Mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".csv", ".tsv", ".jsonl"])
def test_all_mistakes_go_to_a_file(classifier: Path, run: Run, tmp_path: Path, extension: str) -> None:
    header = "question_id,line,text,label,note"
    rows = ['q1,9,"where, in which town ?",place,a', 'q2,8,where is it ?,time,"b\nc"',
            "q3,7,who is it ?,place,d"]
    (tmp_path / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    name = f"mistakes{extension}"
    out = ok(run("evaluate", "data.csv", "-m", classifier, "--errors", "1", "--errors-to", name))
    *_, titles, row = (line.split() for line in out.splitlines())
    assert titles == ["prob", "gold", "predicted", "place", "id", "in"]
    assert row[3:5] in (["data.csv:3", "q2"], ["data.csv:5", "q3"])
    text = (tmp_path / name).read_text()
    if extension == ".jsonl":
        mistakes = [json.loads(line) for line in text.splitlines()]
    else:
        quoting = csv.QUOTE_MINIMAL if extension == ".csv" else csv.QUOTE_NONE
        dialect: Any = {"delimiter": "," if extension == ".csv" else "\t", "quoting": quoting}
        mistakes = list(csv.DictReader(io.StringIO(text, newline=""), **dialect))
    assert sorted((m["question_id"], m["label"], m["predicted"], str(m["line"]), m["input_line"], m["file"])
                  for m in mistakes) == [
        ("q2", "time", "place", "3", "8", "data.csv"), ("q3", "place", "person", "5", "7", "data.csv")]
    report = json.loads(ok(run("evaluate", "data.csv", "-m", classifier, "--errors", "9", "--json")))
    assert [(m["id"], m["file"], m["line"]) for m in report["errors"]] == [
        (m["question_id"], m["file"], int(m["line"])) for m in mistakes]


def test_a_wrong_tag_has_the_line_of_its_word(tagger: Path, ner: Path, run: Run, tmp_path: Path) -> None:
    rows = ["# sent_id = s7", "# text = the baker sings .", *(
        f"{i}\t{word}\t_\t{tag}" + "\t_" * 6 for i, word, tag in [
            ("1", "the", "DET"), ("2-3", "bakers", "_"), ("2", "baker", "NOUN"), ("3", "sings", "NOUN")])]
    (tmp_path / "wrong.conllu").write_text("\n".join(rows) + "\n\n")
    listed = ["--errors", "1", "--json"]
    done = ok(run("evaluate", "wrong.conllu", "-m", tagger, *listed, "--errors-to", "e.csv"))
    (mistake,) = json.loads(done)["errors"]
    assert (mistake["predicted"], mistake["line"], mistake["id"]) == ("VERB", 6, "s7")
    assert (tmp_path / "e.csv").read_text().startswith("sent_id,text,prob,gold,predicted,context,file,line\n")
    (tmp_path / "wrong.conll").write_text("\nAnna B-PER\nsings B-LOC\n\n")
    assert json.loads(run("evaluate", "wrong.conll", "-m", ner, *listed).out)["errors"][0]["line"] == 3


def test_surprising_tokens_have_their_line(writer: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the baker sings .\nthe bqker\n")
    done = ok(run("evaluate", "a.txt", "-m", writer, "--errors", "1", "--json", "--errors-to", "e.jsonl"))
    (mistake,) = json.loads(done)["errors"]
    assert (mistake["gold"], mistake["file"], mistake["line"]) == ("q", "a.txt", 2)
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == len("the baker sings .the bqker")


def test_a_file_of_mistakes_needs_an_extension(classifier: Path, question_file: Path) -> None:
    for name in ("-", "mistakes", "mistakes.txt"):
        failed(invoke("evaluate", question_file, "-m", classifier, "--errors-to", name), 2,
               "--errors-to: expected a file name that ends in .csv, .tsv or .jsonl")
