"""`rnntool transduce`, and `score` and `evaluate` with a sequence-to-sequence model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import failed, invoke, jsonl, ok
from test_resume import stop_after

from rnntool.errors import DataError
from rnntool.training.loop import Interrupted


def test_one_line_in_one_line_out(transducer: Path) -> None:
    out = ok(invoke("transduce", "-m", transducer, input="fade\n\ncab\n   \nabc"))
    assert out == "e d a f\n\nb a c\n\nc b a\n"


def test_several_targets_on_a_line(transducer: Path) -> None:
    (line,) = ok(invoke("transduce", "-m", transducer, "--n-best", 3, input="fade\n")).splitlines()
    first, *others = line.split("\t")
    assert first == "e d a f" and len(set(others)) == 2


def test_json_with_alignments(transducer: Path) -> None:
    record = {"source": "fade", "id": 7, "target": "gold"}
    ran = invoke("transduce", "-m", transducer, "-f", "jsonl", "--jsonl", "--alignments", "--n-best", 2,
                 input=json.dumps(record) + "\n")
    (answer,) = jsonl(ok(ran))
    assert (answer["source"], answer["id"], answer["input_target"]) == ("fade", 7, "gold")
    assert answer["target"] == "e d a f" and answer["truncated"] is False
    assert answer["source_tokens"] == ["f", "a", "d", "e", "</s>"]
    assert answer["target_tokens"] == ["e", "d", "a", "f", "</s>"]
    looks_at = [row.index(max(row)) for row in answer["alignment"]][:4]
    assert looks_at == sorted(looks_at, reverse=True), "it reads the letters from the last to the first"
    assert next(one["target"] for one in answer["nbest"]) == "e d a f"
    assert answer["score"] == pytest.approx(answer["log_prob"] / 5, abs=1e-5)


def test_a_table_has_a_row_for_each_target(transducer: Path) -> None:
    out = ok(invoke("transduce", "-m", transducer, "--to", "tsv", "--n-best", 2, input="fade\n\n"))
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["source", "rank", "target", "log_prob", "score", "truncated"]
    assert [row[:2] for row in rows[1:]] == [["fade", "1"], ["fade", "2"], ["", "1"]]


def test_the_length_limit_is_never_silent(transducer: Path) -> None:
    ran = invoke("transduce", "-m", transducer, "--length-limit", 2, "--jsonl", input="fade\na\ncab\n")
    assert [answer["truncated"] for answer in jsonl(ran.out)] == [True, False, True]
    assert ran.err == ("rnntool: 2 of 3 targets reached the length limit and are cut off; raise "
                       "--length-limit if they should be longer\n")


def test_tokens_that_the_model_has_never_seen_are_reported(transducer: Path) -> None:
    ran = invoke("transduce", "-m", transducer, input="fade\nfadeö\n")
    assert ran.err == "rnntool: 1 of 2 sources have a token that tiny-reversal has never seen\n"


def test_options_without_effect_are_errors(transducer: Path, classifier: Path) -> None:
    for options, words in (
        (["--alignments"], ["--alignments", "--jsonl"]),
        (["--temperature", "0.5"], ["--temperature", "--sample"]),
        (["--sample", "--beam", "3"], ["--sample contradicts --beam"]),
    ):
        failed(invoke("transduce", "-m", transducer, *options, input="a\n"), 2, *words)
    failed(invoke("transduce", "-m", classifier, input="a\n"), 4, "`transduce`", "`classify`")


def test_score_pairs_of_source_and_target(transducer: Path) -> None:
    pairs = tiny.pairs([("fade", "e d a f"), ("fade", "f a d e"), ("ab", "b a")])
    lines = ok(invoke("score", "-m", transducer, input=pairs)).splitlines()
    totals, _, counts = zip(*(map(float, line.split("\t")) for line in lines), strict=True)
    assert totals[0] > totals[1] and counts == (5, 5, 3)
    answers = jsonl(ok(invoke("score", "-m", transducer, "--jsonl", input=pairs)))
    assert [answer["log_prob"] for answer in answers] == pytest.approx(totals, abs=1e-4)
    assert answers[1]["target"] == "f a d e"
    failed(invoke("score", "-m", transducer, "--per", "word", input=pairs), 2, "--per")


def test_evaluate_and_its_mistakes(transducer: Path, reversal_file: Path, tmp_path: Path) -> None:
    report = json.loads(ok(invoke("evaluate", "-m", transducer, reversal_file, "--json")))
    assert report["exact_match"] == 1 and report["interval_of"] == "exact_match"
    (tmp_path / "wrong.tsv").write_text("fade\tx\n", "utf-8")
    out = ok(invoke("evaluate", "-m", transducer, tmp_path / "wrong.tsv", "--errors", 1, "--errors-to",
                    tmp_path / "errors.jsonl"))
    assert "e d a f" in out
    (error,) = jsonl((tmp_path / "errors.jsonl").read_text("utf-8"))
    assert (error["gold"], error["predicted"], error["source"]) == ("x", "e d a f", "fade")
    headers = []
    for data in (reversal_file, tmp_path / "wrong.tsv"):
        ok(invoke("evaluate", "-m", transducer, data, "--errors-to", tmp_path / "errors.csv"))
        headers.append((tmp_path / "errors.csv").read_text("utf-8").partition("\n")[0])
    assert headers[0] == headers[1] == "source,target,prob,gold,predicted,context,file,line"


def test_evaluate_with_another_beam(transducer: Path, reversal_file: Path, classifier: Path) -> None:
    options = ("evaluate", reversal_file, "--beam", 2, "--length-penalty", "0.5")
    report = json.loads(ok(invoke(*options, "-m", transducer, "--json")))
    assert (report["beam"], report["length_penalty"]) == (2, 0.5)
    failed(invoke(*options, "-m", classifier), 2, "--beam", "sequence-to-sequence")


def test_evaluate_ignores_parts_of_symbols(transducer: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "stress.tsv"
    pairs.write_text("fade\te2 d0 a1 f\ncab\tb 0 a c\nab\ta b\n", "utf-8")

    def report(*options: object) -> dict[str, Any]:
        return json.loads(ok(invoke("evaluate", "-m", transducer, pairs, "--json", *options)))

    plain, without = report(), report("--ignore", "[0-9]")
    assert plain["exact_match"] == 0 and "ignore" not in plain
    assert without["exact_match"] == pytest.approx(2 / 3) and without["ignore"] == "[0-9]"
    assert without["symbol_error_rate"] == 2 / 9 and without["bleu"] > plain["bleu"]
    assert without["signature"].endswith("|ignore:[0-9]")
    compared = report("--ignore", "[0-9]", "--compare", transducer, "--errors", 9)
    assert compared["compare"]["value"] == without["exact_match"]
    (mistake,) = compared["errors"]
    assert (mistake["gold"], mistake["predicted"]) == ("a b", "b a")


def test_only_regular_expressions_of_sequences_are_ignored(
    transducer: Path, classifier: Path, reversal_file: Path
) -> None:
    failed(invoke("evaluate", "-m", transducer, reversal_file, "--ignore", "[0-9"), 2,
           "--ignore: expected a regular expression, found '[0-9' (unterminated character set")
    failed(invoke("evaluate", "-m", classifier, reversal_file, "--ignore", "x"), 2, "sequence-to-sequence")


def test_export_writes_both_graphs(transducer: Path, tmp_path: Path) -> None:
    ok(invoke("export", transducer, "-o", tmp_path / "encoder.onnx", "--int8"))
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.onnx", "decoder.onnx"}
    failed(invoke("export", transducer, "-o", tmp_path / "other.onnx"), 2, "decoder.onnx", "--force")
    failed(invoke("export", transducer, "-o", tmp_path / "decoder.onnx", "--force"), 2, "second graph")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in transducer.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    ok(invoke("export", copy, "-o", copy / "model.onnx", "--int8", "--force"))
    assert ok(invoke("transduce", "-m", copy, input="fade\n")) == "e d a f\n"
    assert "int8" in ok(invoke("info", copy))


def test_compare_two_models(transducer: Path, reversal_file: Path) -> None:
    out = ok(invoke("evaluate", "-m", transducer, reversal_file, "--compare", transducer, "--json"))
    assert json.loads(out)["compare"]["difference"] == 0


# --- Parallel files ----------------------------------------------------------------------------------------


@pytest.fixture
def parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of sources and of targets in the working folder."""
    monkeypatch.chdir(tmp_path)
    dev = [*tiny.reversals(8, seed=9), ("ab", "b a")] * 2
    for name, rows in (("train", tiny.reversals(60)), ("dev", dev)):
        for side, texts in zip(("src", "tgt"), zip(*rows, strict=True), strict=True):
            Path(f"{name}.{side}").write_text("".join(text + "\n" for text in texts))


OPTIONS = ("--hidden", 8, "--embed", 8, "--layers", 1, "--epochs", 1, "--threads", 1)


def test_a_header_makes_standard_input_a_table(tmp_path: Path) -> None:
    rows = "".join(f"{source}\t{target}\tV;{len(source)}\n" for source, target in tiny.reversals(40))
    (tmp_path / "forms.tsv").write_text(f"lemma\tform\tfeatures\n{rows}")
    tiny.train("transduce", tmp_path / "m", [tmp_path / "forms.tsv"], epochs=1, hidden=8,
               source_columns="lemma,features", target_column="form")
    table = "id\tlemma\tfeatures\n7\tab\tV;2\n"
    ran = invoke("transduce", "-m", tmp_path / "m", "--jsonl", "--beam", 1, "-q", input=table)
    (answer,) = jsonl(ok(ran))
    assert (answer["id"], answer["lemma"], answer["features"]) == ("7", "ab", "V;2")
    lines = invoke("transduce", "-m", tmp_path / "m", "--beam", 1, "-q", input="ab\tV;2\n\nc\tV;1\n")
    assert len(ok(lines).splitlines()) == 3
    failed(invoke("transduce", "-m", tmp_path / "m", input="ab\n"), 3, "<stdin>:1: expected 2 columns")


@pytest.mark.usefixtures("parallel")
def test_train_and_evaluate_on_parallel_files(transducer: Path) -> None:
    files = "--source", "train.src", "--target", "train.tgt", "--dev", "dev.src", "--dev-target", "dev.tgt"
    report = json.loads(ok(invoke("train", "transduce", *files, "-o", "m", "-q", "--json", *OPTIONS)))
    assert report["records"] == 18, "a record for each line, although sources are repeated"
    call = ("evaluate", "-m", transducer, "--json")
    report = json.loads(ok(invoke(*call, "dev.src", "--target", "dev.tgt")))
    assert (report["records"], report["exact_match"]) == (18, 1)
    pairs = "".join("\t".join(row) + "\n" for row in tiny.reversals(8, seed=9))
    Path("dev.tsv").write_text(pairs)
    assert json.loads(ok(invoke("evaluate", "-m", "m", "dev.tsv", "--json")))["records"] == 8


@pytest.mark.usefixtures("parallel")
@pytest.mark.parametrize(("files", "code", "words"), [
    ("train.src --source train.src --target train.tgt", 2, "--source: names the training file, and so does"),
    ("--source train.src", 2, "--source: needs --target"),
    ("train.src dev.src --target train.tgt", 2, "--target: expected one file of sources, found 2"),
    ("train.src --target train.tgt --dev-target dev.tgt", 2, "--dev-target: needs --dev"),
    ("train.src --target train.tgt --from tsv", 2, "--from contradicts --target"),
    ("train.src --target dev.tgt", 3, "dev.tgt:19: expected as many lines as train.src"),
    ("dev.src --target train.tgt", 3, "dev.src:19: expected as many lines as train.tgt"),
    ("train.src --target missing", 3, "missing: no such file"),
    ("train.src", 3, "if another file has the targets, name it with --target"),
    ("- --target -", 2, "standard input can be read only once"),
])  # fmt: skip
def test_parallel_files_that_do_not_fit(files: str, code: int, words: str) -> None:
    failed(invoke("train", "transduce", *files.split(), "-o", "m", *OPTIONS, input=""), code, words)


@pytest.mark.usefixtures("parallel")
def test_a_training_on_parallel_files_resumes_in_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    out, files = Path("m").resolve(), [Path("train.src").resolve()]
    settings = {"target": "train.tgt", "epochs": 2, "batch_size": 10}
    with pytest.raises(Interrupted):
        tiny.train("transduce", out, files, stopping=stop_after(3), **settings)
    tiny.train("transduce", out.with_name("straight"), files, **settings)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    Path("train.tgt").write_text("a file of the same name\n")
    tiny.train("transduce", out, resume=True)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, out.with_name("straight"))]
    assert weights[0] == weights[1]
    shutil.rmtree(out)
    monkeypatch.chdir("..")
    with pytest.raises(Interrupted):
        tiny.train("transduce", out, files, stopping=stop_after(3), **settings)
    Path("train.tgt").write_text(Path("train.tgt").read_text().replace("a", "b"))
    with pytest.raises(DataError, match=r"train\.tgt.*: the data has changed"):
        tiny.train("transduce", out, resume=True)
