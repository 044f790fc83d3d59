"""All JSON that rnntool writes is valid, and loses nothing that was read."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import ROOT, Run
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.json_text import json_line, to_json
from rnntool.errors import DataError
from rnntool.tasks.base import Criterion
from rnntool.tasks.lm import LMTask

# their JSON is read only by rnntool itself, and has no floats
INTERNAL = {"corpus.py", "token_cache.py", "pretrained_model.py"}


def strict(text: str) -> Any:
    """Parse JSON as other programs do."""
    def fail(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=fail)


def test_no_module_writes_json_by_itself() -> None:
    for path in (ROOT / "rnntool").rglob("*.py"):
        assert "json.dump" not in path.read_text("utf-8") or path.name in INTERNAL, path


@given(st.recursive(st.floats(allow_subnormal=False) | st.integers() | st.text() | st.none() | st.booleans(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_only_figures_that_are_not_finite_become_null(value: Any) -> None:
    def expected(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: expected(item) for key, item in value.items()}
        if isinstance(value, list):
            return list(map(expected, value))
        return None if isinstance(value, float) and not math.isfinite(value) else value

    assert strict(to_json(value)) == strict(to_json(value, indent=2)) == expected(value)


def test_a_result_may_replace_a_field_that_json_cannot_hold() -> None:
    source = {"text": "a", "perplexity": math.inf}
    for result, written in ((2.5, "2.5"), (math.nan, "null")):
        line = json_line(source | {"perplexity": result}, source=source, place="x:1")
        assert line == f'{{"text": "a", "perplexity": {written}}}\n'
    with pytest.raises(DataError, match=r"^x:1: expected numbers that JSON can hold in 'perplexity', found "):
        json_line(source, source=source, place="x:1")


NUMBERS = "[1.10, 0.1000, -0.0, 1E2, 123456789012345678901234567890, 0.30000000000000004, 5e-324]"


@pytest.mark.parametrize(("command", "model", "record"), [
    (["tag", "--jsonl"], "tagger", '"text": "the baker"'),
    (["classify", "--jsonl"], "classifier", '"text": "who"'),
    (["score", "--jsonl"], "writer", '"text": "the baker"'),
    (["score", "--jsonl", "--pairs"], "writer", '"sentence_good": "the", "sentence_bad": "eht"'),
])
def test_filters_pass_numbers_on_or_name_the_line(
    command: list[str], model: str, record: str, run: Run, request: pytest.FixtureRequest
) -> None:
    arguments = [*command, "-m", request.getfixturevalue(model), "--from", "jsonl"]
    whole = f'{{{record}, "x": {NUMBERS}}}\n'
    done = run(*arguments, input=whole)
    assert done.code == 0 and strict(done.out)["x"] == json.loads(NUMBERS), done.err
    for number, found in (("NaN", "NaN"), ("1e400", "infinity or a number"), ("-Infinity", "infinity")):
        done = run(*arguments, input=whole + f'{{{record}, "x": {{"y": [1, {number}]}}}}\n')
        assert (done.code, strict(done.out)["x"][0]) == (3, 1.1)  # what came before it is answered
        assert f"<stdin>:2: expected numbers that JSON can hold in 'x', found {found}" in done.err


def test_a_perplexity_that_overflows_is_null(text_file: Path, tmp_path: Path, run: Run) -> None:
    settings: dict[str, Any] = {"epochs": 2, "optimizer": "sgd", "lr": 1e6, "layers": 1, "dropout": 0.0}
    tiny.train("lm", tmp_path / "m", [text_file], dev=[text_file], **settings)
    history = [strict(line) for line in (tmp_path / "m/metrics.jsonl").read_text().splitlines()]
    assert [entry["perplexity"] for entry in history] == [None, None]
    assert strict((tmp_path / "m/config.json").read_text())["report"]["perplexity"] is None
    done = run("evaluate", text_file, "-m", "m", "--compare", "m", "--json")
    report = strict(done.out)
    assert (report["perplexity"], report["interval"], report["compare"]["difference"]) == (None, None, None)
    assert report["nll_nats"] > 700 and done.err == ""
    assert re.search(r"^perplexity +inf$", run("evaluate", text_file, "-m", "m").out, re.M)
    scored = strict(run("score", "-m", "m", "--jsonl", input="the baker\n").out)
    assert scored["perplexity"] is None and scored["log_prob"] < -700
    assert strict(run("info", "m", "--json").out)["report"]["perplexity"] is None
    page = run("report", "m")
    assert page.code == 0 and "Learning curves" in page.out


def test_an_infinite_perplexity_is_never_the_best() -> None:
    criterion: Criterion = LMTask.criterion
    assert not criterion.is_better(math.inf, None) and not criterion.is_better(math.inf, 5.0)
    assert criterion.is_better(1e300, None)
