"""A training that is stopped anywhere and resumed ends with the same weights as an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import tiny
import torch
from conftest import bash, environment
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_kills import ANSWERS

import rnntool
from rnntool import model_folder
from rnntool.commands.train import signals
from rnntool.data.records import Text
from rnntool.errors import DataError, ModelError, RnntoolError, UsageError
from rnntool.tasks import TASKS
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.lm import LMTask
from rnntool.tasks.segment import SegmentTask
from rnntool.tasks.specs.resolve import resolve
from rnntool.tasks.transduce import TransduceTask
from rnntool.training.loop import Interrupted, Trainer
from rnntool.training.pretrained_model import PretrainedModel

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lm-stream-adamw-ema": ("lm", {
        "context": "stream", "bptt": 20, "ema": 0.9, "epochs": 3, "evaluations": 2}),
    "lm-stream-sgd-plateau": ("lm", {
        "context": "stream", "bptt": 20, "optimizer": "sgd", "momentum": 0.9, "lr": 4.0,
        "schedule": "plateau", "epochs": 4, "cell": "gru", "batch_size": 4}),
    "lm-labels": ("lm-labels", {"epochs": 3, "label_column": "label", "dropout": 0.3, "batch_size": 4}),
    "lm-both": ("lm", {"epochs": 2, "direction": "both", "context": "stream", "bptt": 20, "dropout": 0.2}),
    "lm-line": ("lm", {"epochs": 2, "token_dropout": 0.1, "schedule": "cosine", "warmup": 0.2}),
    "classify": ("classify", {"epochs": 4, "cell": "elman", "class_weights": "balanced", "dropout": 0.4}),
    "lm-window": ("lm", {
        "context": "stream", "bptt": 20, "epochs": 2, "encoder": "window", "optimizer": "adamw"}),
    "lm-recipe": ("lm", {
        "context": "stream", "bptt": 20, "epochs": 3, "layers": 3, "weight_dropout": 0.4,
        "token_dropout": 0.1, "dropout": 0.3, "dropout_between": 0.2, "ar": 2.0, "tar": 1.0,
        "optimizer": "sgd", "lr": 5.0, "ema": 0.9}),
    "lm-mogrifier": ("lm", {
        "context": "stream", "bptt": 20, "epochs": 2, "cell": "mogrifier", "weight_dropout": 0.4,
        "tar": 1.0}),
    "lm-mingru": ("lm", {"context": "stream", "bptt": 20, "epochs": 2, "cell": "mingru"}),
    "tag-crf": ("tag", {
        "epochs": 3, "head": "crf", "layers": 2, "ema": 0.95, "schedule": "one-cycle", "neighbours": 0.2,
        "word_dropout": 0.2, "weight_dropout": 0.3}),
    "segment": ("segment", {"epochs": 3, "ema": 0.9}),
    "transduce": ("transduce", {
        "epochs": 3, "layers": 2, "ema": 0.9, "scheduled_sampling": 0.5, "label_smoothing": 0.1}),
    "transduce-feeding": ("transduce", {"epochs": 2, "input_feeding": True, "attention": "dot"}),
}


@pytest.fixture
def data(tmp_path: Path) -> Callable[[str], Path]:
    """Write the training file of a task."""
    contents = {
        "lm": ("train.txt", "".join(f"{line}\n" for line in tiny.lines_of_text(40))),
        "lm-labels": ("texts.tsv", tiny.tsv(tiny.labeled_texts(40))),
        "classify": ("train.tsv", tiny.tsv(tiny.questions(60))),
        "tag": ("train.conll", tiny.conll(tiny.ner_sentences(60))),
        "segment": ("train.conllu", tiny.segmented_conllu(60)),
        "transduce": ("pairs.tsv", tiny.pairs(tiny.reversals(60))),
    }

    def write(task: str) -> Path:
        name, text = contents[task]
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


def stop_after(steps: int) -> Callable[[], int | None]:
    """Return SIGTERM after a number of training steps; it is called before the first step and after each."""
    calls = iter(range(1_000_000))
    return lambda: signal.SIGTERM if next(calls) == steps else None


def files_of(folder: Path, *, named: bool = True) -> dict[str, bytes]:
    """Read the files that must be equal: all but metrics.jsonl, with times, and README.md, with a name.

    Without `named`, config.json doesn't have the names of the data files.
    """
    files = {p.name: p.read_bytes() for p in folder.iterdir()
             if p.is_file() and p.name not in ("metrics.jsonl", "README.md")}
    if not named:
        config = json.loads(files["config.json"])
        del config["training_data"]
        files["config.json"] = json.dumps(config).encode()
    return files


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl without the times."""
    entries = (folder / "metrics.jsonl").read_text("utf-8").split("\n")[:-1]
    return [{k: v for k, v in json.loads(entry).items() if k != "seconds"} for entry in entries]


def test_transferred_weights_stay_frozen_and_unfreeze_at_the_same_steps_after_a_resume(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    base, file = tmp_path / "base", data("classify")
    settings: dict[str, Any] = {"tokenizer": "word", "layers": 2, "optimizer": "adamw", "weight_decay": 0.1}
    tiny.train("classify", base, [file], epochs=1, **settings)
    more = tmp_path / "more.tsv"
    more.write_text(file.read_text("utf-8") + "x\twho is the zebra ?\tperson\n" * 3, "utf-8")
    frozen = tmp_path / "frozen"
    tiny.train("classify", frozen, [more], init=str(base), freeze=True, epochs=2, ema=0.9, **settings)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, frozen))
    words = [(folder / "vocab.txt").read_text("utf-8").split("\n") for folder in (base, frozen)]
    for name, weight in after.items():
        if name.startswith("encoder.layers."):
            assert torch.equal(weight, before[name]), name
    key = "encoder.input.embedding.weight"
    shared = [(words[0].index(w) + 4, i) for i, w in enumerate(words[1], 4) if w and w in words[0]]
    assert len(shared) < len(after[key]) - 4
    assert all(torch.equal(after[key][new], before[key][old]) for old, new in shared)
    assert not torch.equal(after["head.output.weight"], before["head.output.weight"])

    settings |= {"init": str(base), "unfreeze_every": 1, "lr_decay_by_layer": 2.6, "epochs": 5,
                 "dev_fraction": 0.0}  # keep the last weights
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    tiny.train("classify", whole, [more], **settings)
    assert not any(torch.equal(weight, before[name])
                   for name, weight in load_file(whole / "model.safetensors").items()
                   if name.startswith("encoder.layers."))
    steps = metrics_of(whole)[-1]["step"]
    with pytest.raises(Interrupted):
        tiny.train("classify", stopped, [more], stopping=stop_after(steps // 3), **settings)
    with pytest.raises(Interrupted):
        tiny.train("classify", stopped, resume=True, stopping=stop_after(steps // 3))
    tiny.train("classify", stopped, resume=True)
    assert files_of(stopped) == files_of(whole)
    with pytest.raises(UsageError, match="unfreeze_every=2 frees the input after 6 epochs, "
                                         "but there are only 5; give epochs=7 or more"):
        tiny.train("classify", tmp_path / "x", [more], **settings | {"unfreeze_every": 2})


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_and_resumed_training_gives_the_same_bytes(
    kind: str, data: Callable[[str], Path], tmp_path: Path
) -> None:
    task, settings = KINDS[kind]
    file = data(task)
    task = task.partition("-")[0]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    report = tiny.train(task, whole, [file], **settings)
    last = metrics_of(whole)[-1]["step"]
    rng = random.Random(kind)
    first = rng.randint(1, last - 4)
    with pytest.raises(Interrupted) as caught:
        tiny.train(task, stopped, [file], stopping=stop_after(first), **settings)
    assert str(caught.value) == f"stopped after step {first} of {last}; saved"
    for pause in (1, rng.randint(1, max(1, last - first - 2))):
        try:
            again = tiny.train(task, stopped, resume=True, stopping=stop_after(pause))
        except Interrupted as interrupted:
            assert interrupted.has_model
            rnntool.load(stopped)
        else:
            break
    else:
        again = tiny.train(task, stopped, resume=True)
    assert again == report
    assert files_of(stopped) == files_of(whole)
    assert metrics_of(stopped) == metrics_of(whole)
    assert not (stopped / "resume").exists()


def test_a_training_can_be_stopped_after_each_step(data: Callable[[str], Path], tmp_path: Path) -> None:
    file = data("classify")
    settings: dict[str, Any] = {"epochs": 2, "ema": 0.9}
    tiny.train("classify", tmp_path / "whole", [file], **settings)
    for step in range(metrics_of(tmp_path / "whole")[-1]["step"]):
        with pytest.raises(Interrupted, match=f"stopped after step {step + 1} of"):  # even the last one
            tiny.train("classify", tmp_path / "stopped", [file] if not step else [], resume=step > 0,
                       stopping=stop_after(1), **({} if step else settings))
    tiny.train("classify", tmp_path / "stopped", resume=True)
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_a_training_without_steps_is_not_a_model(data: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        tiny.train("tag", out, [data("tag")], stopping=stop_after(0), epochs=2)
    assert [path.name for path in out.iterdir()] == ["resume"]
    message = "its training has not ended; continue it with `rnntool train tag`, output=.*out and resume$"
    with pytest.raises(ModelError, match=message):
        model_folder.read_config(out)
    message = "resume continues a training that was stopped, and force replaces the model"
    with pytest.raises(UsageError, match=message):
        tiny.train("tag", out, [tmp_path / "train.conll"])
    message = "its training is of the task tag; continue it with `rnntool train tag`"
    with pytest.raises(UsageError, match=message):
        tiny.train("lm", out, resume=True)


def test_a_stopped_training_is_a_model(data: Callable[[str], Path], tmp_path: Path) -> None:
    out, file = tmp_path / "out", data("classify")
    with pytest.raises(Interrupted) as caught:
        tiny.train("classify", out, [file], epochs=20, stopping=stop_after(30))
    assert caught.value.has_model
    assert "state.json" in {path.name for path in (out / "resume").iterdir()}
    report = model_folder.read_config(out).report
    best = max(entry["accuracy"] for entry in metrics_of(out))
    assert report["accuracy"] == best, "the best weights, and not the last ones"
    assert next(rnntool.load(out).classify(["who did the baker sing ?"])).chosen
    with pytest.raises(UsageError, match="exists already; resume continues a training that was stopped"):
        tiny.train("classify", out, [file])

    tiny.train("classify", out, resume=True, finish=True)
    assert not (out / "resume").exists()
    assert metrics_of(out)[-1]["step"] == 30, "the last weights are evaluated as well"
    assert model_folder.read_config(out).report["accuracy"] >= best
    with pytest.raises(ModelError, match="its training has ended"):
        tiny.train("classify", out, resume=True, finish=True)


def test_a_resumed_training_can_be_extended(data: Callable[[str], Path], tmp_path: Path) -> None:
    out, file = tmp_path / "out", data("lm")
    settings: dict[str, Any] = {"schedule": "constant", "evaluations": 2}
    with pytest.raises(Interrupted):
        tiny.train("lm", out, [file], epochs=2, stopping=stop_after(5), **settings)
    with pytest.raises(Interrupted, match="stopped after step 6 of 12"):
        tiny.train("lm", out, resume=True, extension={"epochs": 3}, stopping=stop_after(1))
    for name, total in {"epochs": 1, "max_time": 1e-9}.items():
        with pytest.raises(UsageError, match=r"expected .*found"):
            tiny.train("lm", out, resume=True, extension={name: total})
    tiny.train("lm", out, resume=True)
    tiny.train("lm", tmp_path / "whole", [file], epochs=3, **settings)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_an_older_model_stays_complete_until_the_new_one_replaces_it(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    out, file = tmp_path / "out", data("classify")
    tiny.train("classify", out, [file], epochs=1)
    before = files_of(out)
    with pytest.raises(UsageError, match="exists already"):
        tiny.train("classify", out, [file], epochs=1)
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [file], epochs=1, force=True, seed=2, stopping=stop_after(2))
    assert {name: (out / name).read_bytes() for name in before} == before
    tiny.train("classify", out, resume=True)
    assert files_of(out)["model.safetensors"] != before["model.safetensors"]


def test_a_training_is_not_resumed_with_changed_data(data: Callable[[str], Path], tmp_path: Path) -> None:
    out, file = tmp_path / "out", data("classify")
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [file], epochs=2, stopping=stop_after(2))
    text = file.read_text("utf-8")
    file.write_text(text.replace("person", "robot", 1), "utf-8")
    with pytest.raises(DataError, match=r"train\.tsv: the data has changed .* start again with force"):
        tiny.train("classify", out, resume=True)
    file.write_text(text, "utf-8")
    os.utime(file, (1, 1))  # only the content counts
    tiny.train("classify", out, resume=True)


def test_the_digest_of_a_model_covers_what_a_training_uses(writer: Path, tmp_path: Path) -> None:
    def digest(**changes: Any) -> bytes:
        model_folder.write_json(copy / "config.json", config | changes)
        return PretrainedModel.read("copy", str(copy), tokenizer="char", used_as="init").digest()

    copy = tmp_path / "copy"
    shutil.copytree(writer, copy)
    config = model_folder.read_config(writer).to_json()
    lowered = config["data"] | {"tokenizer": config["data"]["tokenizer"] | {"lower": True}}
    assert digest() == digest(report={}, version="another") != digest(data=lowered)


# what a training may read, by setting: a file, and its content unless a training writes it
SOURCES: dict[str, tuple[str, str]] = {
    "dev": ("dev.conllu", tiny.conllu(tiny.pos_sentences(8, seed=1))),
    "raw": ("raw.txt", "the baker sings .\n" * 20),
    "vectors": ("words.vec", "the 1 2\nbaker 3 4\n"),
    "init": ("base/vocab.txt", ""),
    "features": ("chars/vocab.txt", ""),
}


@pytest.mark.parametrize(("sources", "settings"), [
    (("dev", "raw", "vectors", "init"), {"neighbours": 0.1}), (("features",), {})])
def test_a_training_is_resumed_from_another_folder(
    sources: tuple[str, ...], settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(here)
    Path("train.conllu").write_text(tiny.conllu(tiny.pos_sentences(40)))
    for name, text in SOURCES.values():
        if text:
            Path(name).write_text(text)
    Path("lines.txt").write_text("".join(f"{line}\n" for line in tiny.lines_of_text(20)))
    tiny.train("tag", Path("base"), [Path("train.conllu")], epochs=1)
    tiny.train("lm", Path("chars"), [Path("lines.txt")], epochs=1)
    for name in ("base", "chars"):  # without digests, their files can be changed
        config = json.loads(Path(name, "config.json").read_text("utf-8"))
        model_folder.write_json(Path(name, "config.json"), config | {"sha256": {}})
    named = {name: SOURCES[name][0].partition("/")[0] for name in sources}
    dev = [Path(named.pop("dev"))] if "dev" in named else []
    settings = settings | {"epochs": 2} | named
    tiny.train("tag", Path("whole"), [Path("train.conllu")], dev=dev, **settings)
    with pytest.raises(Interrupted):
        tiny.train("tag", Path("m"), [Path("train.conllu")], dev=dev, stopping=stop_after(3), **settings)

    monkeypatch.chdir(elsewhere)
    for name in sources:
        file = here / SOURCES[name][0]
        source = here / SOURCES[name][0].partition("/")[0]
        source.rename(tmp_path / "aside")
        with pytest.raises(RnntoolError) as caught:
            tiny.train("tag", here / "m", resume=True)
        assert str(caught.value) == (f"{source}: this training needs it, but it is gone; put it back, or "
                                     "start again with force")
        assert caught.value.exit_code == (3 if name in ("dev", "raw", "vectors") else 4)
        (tmp_path / "aside").rename(source)
        before = file.read_text("utf-8")
        file.write_text(before.replace("the", "teh", 1).replace("a\n", "\u03b1\n", 1), "utf-8")
        with pytest.raises(DataError) as caught:
            tiny.train("tag", here / "m", resume=True)
        assert str(caught.value) == (f"{source}: the data has changed since this training began; start again "
                                     "with force"), name
        file.write_text(before, "utf-8")
    tiny.train("tag", here / "m", resume=True)
    assert files_of(here / "m") == files_of(here / "whole")
    content = json.loads((here / "m" / "config.json").read_text("utf-8"))
    assert str(here) not in json.dumps(content), "a model doesn't contain the paths of its training"


@pytest.mark.parametrize(("name", "content"), [
    ("state.json", b""), ("state.json", b'{"tensors": "gone.safetensors"}'), ("job.json", b"{}"),
    ("task/data.json", b"["), ("task/labels.txt", b"x"),
])
def test_a_damaged_checkpoint_gives_one_sentence(
    name: str, content: bytes, data: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [data("classify")], stopping=stop_after(2))
    (out / "resume" / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged|cut short"):
        tiny.train("classify", out, resume=True)


def test_a_checkpoint_of_another_version_is_not_called_damaged(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [data("classify")], stopping=stop_after(2))
    path = out / "resume" / "job.json"
    job = json.loads(path.read_text("utf-8"))
    for change in ({}, {"checkpoint_format": job.pop("checkpoint_format") + 1}):  # older, newer
        path.write_text(json.dumps(job | change), "utf-8")
        with pytest.raises(ModelError) as caught:
            tiny.train("classify", out, resume=True)
        assert str(caught.value) == (
            f"{out}: its training began with another version of rnntool; resume it with that version, or "
            "start again with force")


def test_there_is_no_training_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no training to resume; leave resume out to start one"):
        tiny.train("tag", tmp_path / "out", resume=True)


@pytest.mark.parametrize(("name", "kind", "dev_records"), [
    ("classify", ClassifyTask, 15), ("transduce", TransduceTask, 12), ("segment", SegmentTask, 15)])
def test_max_time_includes_evaluations_and_the_report(
    name: str, kind: Any, dev_records: int, data: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, scored, reported = 0.0, [], []

    def step(trainer: Trainer, arrays: Any, real: Any = Trainer._step) -> Any:
        nonlocal now
        now += 1
        return real(trainer, arrays)

    def slow(seconds_per_record: float, seen: list[int], work: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(task: Any, engine: Any, records: Any) -> Any:
            nonlocal now
            now += seconds_per_record * len(records)
            seen.append(len(records))
            return work(task, engine, records)
        return slowed

    monkeypatch.setattr("rnntool.training.loop.time.monotonic", lambda: now)
    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(kind, "score", slow(0.5, scored, kind.score))
    monkeypatch.setattr(kind, "evaluate", slow(2, reported, kind.evaluate))
    for max_time, share_reported in {200: 0.7, 247: 0.8, 333: 1}.items():
        now, out = 0.0, tmp_path / str(max_time)
        tiny.train(name, out, [data(name)], epochs=1000, evaluations=2, dev_fraction=0.25,
                   max_time=max_time)
        records = model_folder.read_config(out).report["records"]
        assert 0.9 * max_time < now <= max_time + 1
        assert records == reported[-1] >= share_reported * dev_records
        has_time_for_all = 0.02 * max_time >= 0.5 * dev_records
        assert scored[-1] == scored[-2] and (scored[-1] < dev_records or has_time_for_all), "a sample"
        assert scored[-1] * 0.5 <= 0.02 * max_time + 0.5


def test_samples_of_development_data(tmp_path: Path) -> None:
    lines = [Text(line) for line in tiny.lines_of_text(400)]
    lm = LMTask.learn(lines, resolve(TASKS["lm"], {"tokenizer": "char"}))
    stream = LMTask.learn(lines, resolve(TASKS["lm"], {"tokenizer": "char", "context": "stream"}))
    assert lm.sample(lines, 1.0) == stream.sample(lines, 1.0) == (lines, 1.0)
    drawn, share = lm.sample(lines, 0.1)
    assert (len(drawn), share) == (40, 0.1)
    assert drawn == lm.sample(lines, 0.1)[0] != lines[:40]
    drawn, share = stream.sample(lines, 0.1)
    first = lines.index(drawn[0])
    assert (drawn, share) == (lines[first : first + 40], 0.1), "their state is carried"
    book = [Text("abc " * 1000)]
    assert lm.sample(book, 0.25) == ([Text("abc " * 250)], 0.25)
    assert lm.sample(book, 0.2505) == ([Text("abc " * 250)], 0.2505), "no word is cut"
    assert len(lm.sample(lines[:30], 0.1)[0]) == 3, "short texts stay whole, even if there are few"
    few, share = ClassifyTask.learn(
        [Text(text, (label,)) for text, label in tiny.questions(20)],
        resolve(TASKS["classify"], {})).sample(lines[:9], 0.01)
    assert (len(few), share) == (1, 1 / 9)


STOPS = {signal.SIGTERM: 143, signal.SIGINT: 130} | ({signal.SIGHUP: 129} if os.name != "nt" else {})


def test_a_second_signal_exits_at_once() -> None:
    for number, code in STOPS.items():
        before = signal.getsignal(number)
        with signals() as received:
            assert received.stopping() is None
            os.kill(os.getpid(), number)
            assert received.stopping() == number
            with pytest.raises(SystemExit) as left:
                os.kill(os.getpid(), number)
            assert left.value.code == code
        assert signal.getsignal(number) is before


def test_a_signal_before_the_first_step_exits_at_once() -> None:
    for number, code in STOPS.items():
        with signals(), pytest.raises(Interrupted, match="stopped before the first step") as left:
            os.kill(os.getpid(), number)
        assert left.value.exit_code == code


def test_a_training_that_is_stopped_before_it_has_a_checkpoint_leaves_nothing(
    data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise Interrupted(signal.SIGINT, "stopped before the first step, so nothing is saved")

    with monkeypatch.context() as patch:
        patch.setattr("rnntool.training.checkpoint.save_file", interrupted)
        with pytest.raises(Interrupted):
            tiny.train("classify", tmp_path / "new", [data("classify")])
        (tmp_path / "there").mkdir()
        with pytest.raises(Interrupted):
            tiny.train("classify", tmp_path / "there", [data("classify")])
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(Interrupted, match=r"stopped after step 0 of .*; saved"):
        tiny.train("classify", tmp_path / "new", [data("classify")], stopping=stop_after(0))
    tiny.train("classify", tmp_path / "new", resume=True)


def test_a_training_with_missing_inputs_writes_nothing(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    out, file = tmp_path / "out", data("classify")
    with pytest.raises(ModelError, match="gone: no such folder, and no model has this name"):
        tiny.train("classify", out, [file], init="gone")
    assert not out.exists()
    with pytest.raises(Interrupted):
        tiny.train("classify", out, [file], stopping=stop_after(2))
    with pytest.raises(DataError, match="no such file"):
        tiny.train("classify", out, [tmp_path / "gone.tsv"], force=True)
    tiny.train("classify", out, resume=True, stopping=stop_after(10_000))  # the checkpoint is still there


def test_a_checkpoint_that_cannot_be_written_is_an_error(
    data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("rnntool.training.checkpoint.save_file", full)
    message = r"resume: .* can't be written \(No space left .*; free some disk space"
    with pytest.raises(RnntoolError, match=message):
        tiny.train("classify", tmp_path / "out", [data("classify")])


# --- Real processes ----------------------------------------------------------------------------------------


@contextmanager
def training(task: str, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start a training and wait for its first evaluation."""
    command = [sys.executable, "-m", "rnntool", "train", task, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment()) as process:
        try:
            assert process.stderr is not None
            assert any(line.startswith("epoch ") for line in process.stderr)
            yield process, process.stderr
        finally:
            process.kill()


def test_a_signal_to_a_process_that_reads_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rnntool", "train", "lm", "-", "-o", str(tmp_path / "out"), "-v"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True, env=environment()) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("a line\n")
        process.stdin.flush()
        assert "read as text" in process.stderr.readline()
        process.send_signal(signal.SIGINT)  # while standard input is open
        assert process.wait(10) == 130
        assert process.stderr.read() == "rnntool: stopped before the first step, so nothing is saved\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("task", "epochs", "stops"), [
    ("classify", 60, STOPS), ("transduce", 40, {}), ("segment", 12, {})])
def test_a_process_resumes_after_each_signal(
    task: str, epochs: int, stops: dict[signal.Signals, int], data: Callable[[str], Path], tmp_path: Path
) -> None:
    file, out = data(task), tmp_path / "out"
    settings: dict[str, Any] = {"epochs": epochs, "seed": 3, "dev_fraction": 0.1}
    chosen = tiny.SETTINGS[task] | settings
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    for number, code in {signal.SIGINT: 130, **stops, signal.SIGKILL: -9}.items():
        started = [file, *flags] if number == signal.SIGINT else ["--resume"]
        with training(task, *started, "-o", out) as (process, errors):
            process.send_signal(number)
            messages = [line for line in errors if not line.startswith("epoch ")]
            assert process.wait(30) == code
            assert process.stdout is not None
            assert process.stdout.read() == ""
        if number == signal.SIGKILL:
            assert not any("stopped" in message for message in messages)
        else:
            *_, model, end, sentence = messages
            assert model.startswith(f"rnntool: the best weights so far are a model in {out}; try: echo ")
            assert end.endswith(f"end the training with: rnntool train {task} -o {out} --resume --finish\n")
            assert sentence.startswith("rnntool: stopped after step ")
            assert sentence.endswith(f"; saved; continue with: rnntool train {task} -o {out} --resume\n")
        assert ANSWERS[task](rnntool.load(out))
    tiny.train(task, out, resume=True)
    tiny.train(task, tmp_path / "whole", [file], **settings)
    assert files_of(out) == files_of(tmp_path / "whole")


@pytest.mark.parametrize("given", ["<(cat {file}) --dev <(cat {file})", "- < <(cat {file}) --dev {file}"])
def test_a_training_that_read_from_pipes_says_what_it_needs(
    given: str, data: Callable[[str], Path], tmp_path: Path
) -> None:
    file, out = data("classify"), tmp_path / "out"
    settings: dict[str, Any] = {"epochs": 30, "seed": 3}
    chosen = tiny.SETTINGS["classify"] | settings
    flags = " ".join(f"--{name.replace('_', '-')}={value}" for name, value in chosen.items())
    program = f"{sys.executable} -m rnntool"
    script = f"exec {program} train classify -f tsv {given.format(file=file)} -o {out} {flags}"
    with subprocess.Popen(["bash", "-c", script], stderr=subprocess.PIPE, text=True, env=environment(),
                          stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch ") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        *_, sentence = process.stderr
    *_, command = sentence.strip().split("continue with: ")
    if "--dev <" in given:
        lost = bash(f"{program} train classify -o {out} --resume")
        needed = f" data came from a pipe and must be given again; resume with the same data: {command}\n"
        assert lost.stderr.startswith("rnntool: /dev/fd/6") and lost.stderr.endswith(needed)
    else:
        lost = bash(f"head -5 {file} | {program} train classify -o {out} --resume")
        first, second = lost.stderr.splitlines()
        assert first == "rnntool: reading the training data from standard input again"
        assert second.startswith("rnntool: <stdin>: the data has changed since this training began; give the")
    assert lost.returncode == 3
    for placeholder in ("TRAINING_DATA", "DEVELOPMENT_DATA"):
        command = command.replace(placeholder, f"<(cat {file})")
    done = bash(command.replace("rnntool", program, 1))
    assert done.returncode == 0, done.stderr
    tiny.train("classify", tmp_path / "whole", [file], dev=[file], **settings)
    assert files_of(out, named=False) == files_of(tmp_path / "whole", named=False)
    piped, whole = (model_folder.read_config(tmp_path / name).training_data for name in ("out", "whole"))
    assert piped["train"][0] == "-" or piped["train"][0].startswith("/dev/fd/")
    assert piped["reading"] == {"format": "tsv"}
    assert whole == {"train": [file.name], "dev": [file.name], "reading": {}}


@pytest.mark.skipif(os.name == "nt", reason="no such terminals")
def test_a_training_is_saved_when_its_terminal_is_closed(data: Callable[[str], Path], tmp_path: Path) -> None:
    import pty

    words = [sys.executable, "-m", "rnntool", "train", "classify", str(data("classify")), "-o",
             str(tmp_path / "out"), "--epochs=100000", "--hidden=4", "--embed=4", "--layers=1"]
    process, terminal = pty.fork()
    if not process:
        os.execve(sys.executable, words, environment())
    shown = b""
    while b"accuracy" not in shown:
        shown += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    with pytest.raises(Interrupted):
        tiny.train("classify", tmp_path / "out", resume=True, stopping=stop_after(1))
