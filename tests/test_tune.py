"""`rnntool tune`: studies that can be interrupted anywhere, their search space, and what they write."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import environment, failed, invoke
from test_resume import files_of, metrics_of, stop_after

import rnntool
from rnntool.data.progress import silent
from rnntool.errors import RnntoolError, UsageError
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve
from rnntool.tasks.specs.search import Choices, Range, read_space, split_texts
from rnntool.training.job import Job
from rnntool.training.loop import Interrupted
from rnntool.training.session import Session
from rnntool.training.tuning import Plan, tune

EXTENSIONS = {"lm": "txt", "classify": "tsv", "tag": "conll", "transduce": "tsv",
              "segment": "conllu"}
CONTENTS = {
    "lm": "".join(f"{line}\n" for line in tiny.lines_of_text(40)),
    "classify": tiny.tsv(tiny.questions(60)),
    "tag": tiny.conll(tiny.ner_sentences(30)),
    "transduce": tiny.pairs(tiny.reversals(40)),
    "segment": tiny.segmented_conllu(40),
}
SEARCH = {"hidden": "8,16", "lr": "0.001:0.05:log", "dropout": "0.0:0.5"}


def file_of(task: str, folder: Path) -> Path:
    """Write the training file of a task."""
    path = folder / f"{task}.{EXTENSIONS[task]}"
    path.write_text(CONTENTS[task], "utf-8")
    return path


def study(
    task: str, out: Path, *, search: Mapping[str, str] = SEARCH, trials: int = 4,
    max_time: float | None = None, resume: bool = False, extension: Mapping[str, Any] | None = None,
    said: Callable[[str], None] = silent, stopping: Callable[[], int | None] = lambda: None, **settings: Any,
) -> dict[str, Any]:
    """Run a study of tiny networks in this process."""
    job = plan = None
    if not resume:
        job = Job(task=task, train=[str(file_of(task, out.parent))], dev=[], settings=resolve(
            TASKS[task], {"epochs": 2} | settings, inherit=lambda _: tiny.SETTINGS[task]))
        plan = Plan(search=search, trials=trials, max_time=max_time)
    session = Session(device="cpu", threads=1, watch=lambda step: None, stopping=stopping, log=silent,
                      warn=said)
    return tune(job, plan, out, session, task=task, extension=extension)


def command(task: str, folder: Path, search: Mapping[str, str], *, trials: int) -> list[str]:
    """Return the command that begins a study of tiny networks in the folder `m`."""
    settings = {"epochs": 2} | tiny.SETTINGS[task]
    return [sys.executable, "-m", "rnntool", "tune", task, file_of(task, folder).name, "-o", "m", "--trials",
            str(trials), *(f"--search={name}={values}" for name, values in search.items()),
            *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items()
              if name not in search)]


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder."""
    return subprocess.Popen(words, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without durations."""
    trials = [{name: value for name, value in trial.items() if name != "seconds"}
              for trial in report["trials"]]
    return report | {"trials": trials}


@pytest.mark.parametrize("task", TASKS)
def test_a_study_with_the_default_search_of_each_task(task: str, tmp_path: Path) -> None:
    lines: list[str] = []
    report = study(task, tmp_path / "m", search=TASKS[task].search, trials=6, epochs=1, said=lines.append)
    assert len(report["trials"]) == 6
    assert [line.partition(":")[0] for line in lines] == [f"trial {i} of 6" for i in range(1, 7)]
    assert set(report["trials"][0]) == {"trial", "state", "value", "seconds", *TASKS[task].search}
    rnntool.load(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m" / "tune").iterdir()) == [
        "job.json", "settings.toml", "study.jsonl", "trials.tsv"]
    with (tmp_path / "m" / "tune" / "trials.tsv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["trial"]) for row in table] == [trial["trial"] for trial in report["trials"]]


def test_a_study_that_is_stopped_anywhere_gives_the_same_trials_and_model(tmp_path: Path) -> None:
    whole = study("lm", tmp_path / "whole")
    for pause in (0, 1, 6, 11, 3, 0):
        with pytest.raises(Interrupted) as caught:
            study("lm", tmp_path / "stopped", resume=(tmp_path / "stopped").exists(),
                  stopping=stop_after(pause))
        assert str(caught.value).startswith(("stopped before trial", "trial "))
        assert str(caught.value).endswith("; saved")
    again = study("lm", tmp_path / "stopped", resume=True)
    assert without_times(again) == without_times(whole)
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")
    again = study("lm", tmp_path / "stopped", resume=True)  # nothing is left to do
    assert without_times(again) == without_times(whole)
    more = study("lm", tmp_path / "stopped", resume=True, extension={"trials": 5})
    assert len(more["trials"]) == 5
    with pytest.raises(UsageError, match="its study is of the task lm; continue it with `rnntool tune lm`"):
        study("tag", tmp_path / "stopped", resume=True)


def test_the_first_trial_has_the_usual_settings_and_the_best_one_is_the_model(tmp_path: Path) -> None:
    report = study("lm", tmp_path / "m")
    (first,) = (trial for trial in report["trials"] if trial["trial"] == 1)
    assert {name: first[name] for name in SEARCH} == {name: tiny.SETTINGS["lm"][name] for name in SEARCH}
    values = [trial["value"] for trial in report["trials"]]
    assert values == sorted(values)
    assert report["best"]["value"] == values[0]
    assert report["best"]["trial"] == report["trials"][0]["trial"]
    assert min(entry["perplexity"] for entry in metrics_of(tmp_path / "m")) == values[0]
    assert (tmp_path / "m" / "README.md").read_text("utf-8").splitlines()[5] == "# m"


def test_train_accepts_the_settings_of_the_best_trial(tmp_path: Path) -> None:
    study("lm", tmp_path / "m", search=SEARCH | {"layers": "1,2", "dropout_between": "0.0:0.5"}, trials=3)
    done = invoke("train", "lm", tmp_path / "lm.txt", "-o", tmp_path / "n", "--config",
                  tmp_path / "m" / "tune" / "settings.toml", "-q")
    assert (done.code, done.err) == (0, "")
    assert files_of(tmp_path / "n").items() >= {
        name: content for name, content in files_of(tmp_path / "m").items() if name != "config.json"}.items()


def test_trials_that_fall_behind_are_stopped_early(tmp_path: Path) -> None:
    lines: list[str] = []
    report = study("lm", tmp_path / "m", search={"lr": "0.00001,0.02", "hidden": "8,16"}, trials=10,
                   epochs=10, said=lines.append)
    states = [trial["state"] for trial in report["trials"]]
    assert states == sorted(states), "complete trials come first"
    stopped = [trial for trial in report["trials"] if trial["state"] == "stopped early"]
    assert stopped
    assert any(trial["lr"] < 0.02 for trial in stopped)
    assert any(": stopped early, perplexity " in line and "% " not in line for line in lines)


def test_a_trial_that_fails_is_not_the_end_of_a_study(tmp_path: Path) -> None:
    report = study("lm", tmp_path / "m", search={"lr": "0.02,1e30", "hidden": "8,16"}, trials=6, clip=0.0,
                   seed=3)
    assert {trial["state"] for trial in report["trials"]} == {"complete", "failed"}
    with pytest.raises(RnntoolError, match="became"):
        study("lm", tmp_path / "n", search={"lr": "1e30,1e31"}, trials=6, clip=0.0)


def test_a_study_that_is_killed_goes_on(tmp_path: Path) -> None:
    words = command("lm", tmp_path, SEARCH, trials=4)
    with started(words, tmp_path) as process:
        assert process.stderr is not None
        assert any(line.startswith("rnntool: trial 1 of 4") for line in process.stderr)
        time.sleep(0.1)
        process.kill()
    folder = tmp_path / "m" / "tune"
    (folder / "study.jsonl.lock").touch()
    with (folder / "study.jsonl").open("a", encoding="utf-8") as journal:
        journal.write('{"op_code":')  # a power cut can leave a part of a line
    done = subprocess.run([*words[:5], "-o", "m", "--resume", "--json"], cwd=tmp_path, env=environment(),
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sorted(trial["trial"] for trial in report["trials"]) == [1, 2, 3, 4]
    assert report["best"]["value"] == min(trial["value"] for trial in report["trials"] if trial["value"])
    assert set(SEARCH) <= set(report["trials"][0])


def test_the_time_is_for_the_whole_study(tmp_path: Path) -> None:
    start = time.monotonic()
    report = study("lm", tmp_path / "m", trials=1000, max_time=5.0, epochs=20)
    assert 1 <= len(report["trials"]) < 1000
    assert time.monotonic() - start < 50
    assert sum(trial["seconds"] for trial in report["trials"]) < 20


def test_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_of("classify", tmp_path)
    monkeypatch.chdir(tmp_path)
    run = invoke
    base = ["tune", "classify", "classify.tsv", "-o", "m"]
    for search, words in {
        "hidden": "--search: expected NAME=A,B,… or NAME=LOW:HIGH or NAME=LOW:HIGH:log, found 'hidden'",
        "hiden=1,2": "--search: unknown setting 'hiden'; did you mean hidden?",
        "hidden=many,more": "--search: expected a whole number for hidden, found 'many'",
        "hidden=100": "expected several values of hidden, found '100'; give one value with --hidden 100",
        "dropout=0.5:0.1": "expected a lower and a higher number, found 'dropout=0.5:0.1'",
        "lr=0:1:log": "expected a lower and a higher number above 0",
        "lr=0.1:1:linear": "found 'lr=0.1:1:linear'",
        "dropout=0.1:3": "--dropout: expected a number from 0 to 0.95, found 3.0",
        "cell=lstm,foo": "--cell: expected one of",
        "label_column=a,b": "--search: label_column can't be searched, because all trials share it",
        "seed=1,2": "can't be searched",
    }.items():
        failed(run(*base, "--search", search), 2, words)
    failed(run(*base, "--search", "lr=0.1:1", "--search", "lr=1:2"), 2, "expected lr once, found it twice")
    failed(run(*base, "--search", "lr=0.1:1", "--lr", "0.2"), 2, "--search contradicts --lr, which fixes")
    failed(run(*base, "--folds", "3"), 2, "--folds: trials are judged by development data")
    failed(run(*base, "--dev-fraction", "0"), 2,
           "the trials are judged by development data, but there is none")
    failed(run(*base, "--trials", "0"), 2, "--trials: expected a whole number of at least 1, found 0")
    failed(run("tune", "classify", "-o", "m", "--resume"), 4,
           "there is no study to resume; leave --resume out")
    failed(run("tune", "classify", "-o", "m", "--resume", "--lr", "1"), 2, "leave out --lr")
    failed(run("tune", "classify", "classify.tsv"), 2, "--output: expected a folder for the best model")
    assert not (tmp_path / "m").exists()
    with pytest.raises(Interrupted):
        study("classify", tmp_path / "m", stopping=stop_after(3))
    failed(run(*base), 2, "m: exists already; --resume continues the study, and --force replaces it")


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    failed(invoke("tune", "lm", file_of("lm", tmp_path), "-o", tmp_path / "m"), 1,
           "`rnntool tune` needs Optuna, which is not installed; install it with `pip install optuna`")


def test_a_signal_says_how_to_continue(tmp_path: Path) -> None:
    words = command("lm", tmp_path, SEARCH, trials=99)
    with started(words, tmp_path) as process:
        assert process.stderr is not None
        assert any(line.startswith("rnntool: trial 1 of 99") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        process.wait(60)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith("saved; continue with: rnntool tune lm -o m --resume")
    assert "rnntool: the best model so far is in m; try: " in said


def test_values_to_search() -> None:
    settings = resolve(TASKS["lm"], {"hidden": 200, "lr": 0.004})
    assert read_space({"hidden": "0.5x,1x,300", "lr": "0.5x:2x:log", "layers": "1:3", "tied": "true,false"},
                      settings) == {
        "hidden": Choices((100, 200, 300)), "lr": Range(0.002, 0.008, whole=False, log=True),
        "layers": Range(1, 3, whole=True), "tied": Choices((True, False))}
    assert split_texts(["--dropout-between=0:0.5", "hidden = 1,2"]) == {
        "dropout_between": "0:0.5", "hidden": "1,2"}


@pytest.mark.parametrize("task", TASKS)
def test_default_searches_are_valid(task: str) -> None:
    spec = TASKS[task]
    for preset in (None, *spec.presets):
        settings = resolve(spec, {}, preset=preset)
        for name, values in read_space(spec.search, settings).items():
            each = values.values if isinstance(values, Choices) else (values.low, values.high)
            for value in each:
                settings.replace(**{name: value})
