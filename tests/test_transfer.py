"""Transfer from a pretrained model: both directions of a language model, its vocabulary and its layers."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_resume import stop_after
from torch import Tensor, nn

from rnntool import model_folder
from rnntool.commands.train import _inherited
from rnntool.errors import DataError, ModelError, UsageError
from rnntool.inference import model
from rnntool.inference.torch_engine import TorchEngine, to_tensors
from rnntool.models.config import LMHeadConfig
from rnntool.models.encoder import WordInput
from rnntool.models.heads.language_model import SoftmaxHead
from rnntool.tasks import TASKS, tag
from rnntool.tasks.specs.resolve import resolve
from rnntool.tokenize import BOS, EOS, PAD
from rnntool.training.loop import Interrupted

WORDS: dict[str, Any] = {"tokenizer": "word", "embed": 12, "hidden": 12}
UNTRAINED: dict[str, Any] = {"lr": 0.0, "weight_decay": 0.0, "epochs": 1}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word language model of both directions, with two layers for each."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "raw.txt").write_text("\n".join(tiny.lines_of_text(60)) + "\n", "utf-8")
    tiny.train("lm", folder / "lm", [folder / "raw.txt"], direction="both", epochs=3, **WORDS)
    return folder / "lm"


@pytest.fixture(scope="module")
def tagged(both: Path) -> Path:
    """A few tagged sentences of the same language, with a word that doesn't occur in the raw text."""
    path = both.parent / "few.conllu"
    sentences = [*tiny.pos_sentences(6, seed=3), [("Zebra", "NOUN"), (".", "PUNCT")]]
    path.write_text(tiny.conllu(sentences), "utf-8")
    return path


# --- Both directions ---------------------------------------------------------------------------------------


def test_a_reversed_batch_has_reversed_tokens_and_targets() -> None:
    head = SoftmaxHead(LMHeadConfig(outputs=10), 4, nn.Embedding(12, 4))

    def arrays(tokens: list[list[int]], targets: list[list[int]], lengths: list[int]) -> dict[str, Tensor]:
        return {"tokens": torch.tensor(tokens).T, "targets": torch.tensor(targets).T,
                "lengths": torch.tensor(lengths)}

    records = arrays([[BOS, 7, 8], [BOS, PAD, PAD], [11, 9, PAD]], [[7, 8, EOS], [EOS, -1, -1], [9, EOS, -1]],
                     [3, 1, 2])  # the last one starts with its label, which is never predicted
    reversed_records = head.mirror(records)
    expected = arrays([[BOS, 8, 7], [BOS, PAD, PAD], [BOS, 9, PAD]],
                      [[8, 7, EOS], [EOS, -1, -1], [9, EOS, -1]], [3, 1, 2])
    for name in ("tokens", "targets"):
        targets = reversed_records["targets"]
        real = targets != -1 if name == "tokens" else torch.ones_like(targets) > 0
        assert torch.equal(reversed_records[name][real], expected[name][real]), name
    window = head.mirror(arrays([[5, EOS, BOS, 6]], [[EOS, BOS, 6, -1]], [4]))  # the padded end of a stream
    assert window["targets"].T.tolist() == [[-1, EOS, EOS, 5]]


def test_the_backward_direction_is_a_language_model_of_the_reversed_text(both: Path) -> None:
    network = tiny.network_of(both)
    task = model.load(both, threads=1).task
    records = list(map(model.Text, tiny.lines_of_text(3, seed=5)))
    arrays = to_tensors(task.encode(records), torch.device("cpu"))
    outputs = network.config.head.outputs
    backward = network.head.mirror(arrays)
    assert network.backward_encoder is not None
    with torch.inference_mode():
        states, _ = network.backward_encoder(backward)
        logits = network.head(states, backward)["logits"]
        probs = [network.head(states, {"targets": torch.full_like(backward["targets"], i)})["log_probs"].exp()
                 for i in range(outputs)]
        torch.testing.assert_close(torch.stack(probs).sum(0), torch.ones(backward["targets"].shape))
        # word by word, from the last to the first
        for i, record in enumerate(records):
            ids = [*task.tokenizer.encode(record.text)][::-1]
            for n, target in enumerate([*ids, EOS]):
                prefix = {"tokens": torch.tensor([BOS, *ids[:n]])[:, None], "lengths": torch.tensor([n + 1])}
                prefix_states, _ = network.backward_encoder(prefix)
                torch.testing.assert_close(network.head.logits(prefix_states)[-1, 0], logits[n, i])
                assert backward["targets"][n, i] == target
        losses = [network.head.loss(network.encoder(arrays)[0], arrays), network.head.loss(states, backward)]
        torch.testing.assert_close(network.loss(arrays)[0], sum(losses) / 2)


@pytest.mark.parametrize("context", ["line", "stream"])
def test_both_directions_learn_and_the_graph_has_the_forward_one(
    context: str, both: Path, tmp_path: Path
) -> None:
    raw = both.parent / "raw.txt"
    tiny.train("lm", tmp_path / "one", [raw], epochs=3, context=context, **WORDS)
    tiny.train("lm", tmp_path / "two", [raw], epochs=3, context=context, direction="both", **WORDS)
    one, two = (json.loads((tmp_path / name / "config.json").read_text("utf-8")) for name in ("one", "two"))
    assert two["report"]["perplexity"] < 1.3 * one["report"]["perplexity"]
    loaded = model.load(tmp_path / "two", threads=1)
    assert next(loaded.generate(["the"], min_tokens=1, max_tokens=3)).tokens
    inputs = loaded.engine.inputs  # type: ignore[attr-defined]
    assert {"state.0.h", "state.1.h"} <= set(inputs) and not any("back" in name for name in inputs)


# --- Transfer ----------------------------------------------------------------------------------------------


def test_a_bidirectional_encoder_starts_with_the_weights_of_both_language_models(
    both: Path, tagged: Path, tmp_path: Path
) -> None:
    tiny.train("tag", tmp_path / "t", [tagged], init=str(both), layers=2, **UNTRAINED)
    content = model_folder.read_config(tmp_path / "t")
    entries = len((tmp_path / "t" / "vocab.txt").read_text("utf-8").splitlines())
    transferred = len((both / "vocab.txt").read_text("utf-8").splitlines())
    assert content.init == {
        "model": str(both),
        "parts": [f"input.embedding ({transferred} of {entries} entries)",
                  *(f"layers.{i}.{side} (12 of {28 if i == 0 else 24} inputs)"
                    for i in range(2) for side in ("forward_cell", "backward_cell"))],
        "left": ["input.characters.embedding", "input.characters.convolution", "input.affixes"],
    }
    lm, tagger = tiny.network_of(both), tiny.network_of(tmp_path / "t")
    lm_task, tag_task = (model.load(folder, threads=1).task for folder in (both, tmp_path / "t"))
    words = "the workful baker dances .".split()
    arrays = to_tensors(tag_task.encode([model.Sentence(words)]), torch.device("cpu"))
    ids = lm_task.tokenizer.lookup(words)
    assert lm.backward_encoder is not None
    with torch.inference_mode():
        states, _ = tagger.encoder(arrays)
        lengths = torch.tensor([len(ids)])
        forward, _ = lm.encoder({"tokens": torch.tensor(ids)[:, None], "lengths": lengths})
        backward, _ = lm.backward_encoder({"tokens": torch.tensor(ids[::-1])[:, None], "lengths": lengths})
    torch.testing.assert_close(states, torch.cat([forward, backward.flip(0)], dim=-1))


def test_the_vocabulary_of_words_is_transferred(both: Path, tagged: Path, tmp_path: Path) -> None:
    tiny.train("tag", tmp_path / "t", [tagged], init=str(both), **UNTRAINED)
    source = set((both / "vocab.txt").read_text("utf-8").splitlines())
    assert source <= set((tmp_path / "t" / "vocab.txt").read_text("utf-8").splitlines())
    # from one language model to another, in both directions
    more = tmp_path / "more.txt"
    more.write_text("a zebra sings .\n" * 20, "utf-8")
    tiny.train("lm", tmp_path / "lm", [more], init=str(both), direction="both", **WORDS, **UNTRAINED)
    content = model_folder.read_config(tmp_path / "lm")
    assert content.init["parts"][1:] == [
        "layers.0.forward_cell", "layers.1.forward_cell", "layers.0.backward_cell", "layers.1.backward_cell"]
    before, after = tiny.network_of(both), tiny.network_of(tmp_path / "lm")
    assert before.backward_encoder is not None and after.backward_encoder is not None
    pairs = ((before.encoder, after.encoder), (before.backward_encoder, after.backward_encoder))
    for source_encoder, encoder in pairs:
        for name, weight in source_encoder.layers.named_parameters():
            assert torch.equal(weight, encoder.layers.get_parameter(name)), name


def test_layers_are_not_transferred_from_a_cell_with_other_parameters(
    both: Path, tagged: Path, tmp_path: Path
) -> None:
    tiny.train("lm", tmp_path / "lm", [both.parent / "raw.txt"], cell="mogrifier", epochs=1, **WORDS)
    tiny.train("tag", tmp_path / "t", [tagged], init=str(tmp_path / "lm"), cell="lstm", **UNTRAINED)
    init = model_folder.read_config(tmp_path / "t").init
    assert [part.partition(" ")[0] for part in init["parts"]] == ["input.embedding"]
    assert "layers.0.forward_cell" in init["left"]


def test_subword_tokenizers_are_transferred_unchanged(tmp_path: Path) -> None:
    raw, few = tmp_path / "raw.txt", tmp_path / "few.tsv"
    raw.write_text("".join(text + "\n" for text, _ in tiny.questions(80)), "utf-8")
    few.write_text(tiny.tsv(tiny.questions(20, seed=4)), "utf-8")
    same: dict[str, Any] = {"tokenizer": "unigram", "embed": 12, "hidden": 12, "lower": False}
    tiny.train("lm", tmp_path / "lm", [raw], layers=1, epochs=1, vocab_size=300, **same)
    with pytest.raises(UsageError, match=r"^vocab_size: .* initial model are used as they are, found 300"):
        tiny.train("classify", tmp_path / "x", [few], init=str(tmp_path / "lm"), vocab_size=300, **same)
    with pytest.raises(UsageError, match=r"^min_count: .* initial model are used as they are, found 2"):
        tiny.train("lm", tmp_path / "x", [raw], init=str(tmp_path / "lm"), **same | {"min_count": 2})
    tiny.train("classify", tmp_path / "c", [few], init=str(tmp_path / "lm"), bidirectional=False, **same,
               **UNTRAINED)
    tokenizers = {(tmp_path / name / "tokenizer.model").read_bytes() for name in ("c", "lm")}
    assert len(tokenizers) == 1
    assert model_folder.read_config(tmp_path / "c").init["left"] == []


def test_weights_of_new_inputs_learn_while_the_rest_is_frozen(
    both: Path, tagged: Path, tmp_path: Path
) -> None:
    tiny.train("tag", tmp_path / "t", [tagged], init=str(both), freeze=True, epochs=3, weight_decay=0.1,
               dev_fraction=0.0)
    before, after = tiny.network_of(both), tiny.network_of(tmp_path / "t")
    old, new = ({n: p.detach() for n, p in n.named_parameters()} for n in (before, after))
    cell = "encoder.layers.0.forward_cell.kernel."
    assert torch.equal(old[cell + "weight_hh_l0"], new[cell + "weight_hh_l0"])
    assert torch.equal(old[cell + "weight_ih_l0"], new[cell + "weight_ih_l0"][:, :12])
    assert new[cell + "weight_ih_l0"][:, 12:].abs().max() > 0
    assert torch.equal(old["backward_encoder.layers.0.forward_cell.kernel.bias_ih_l0"],
                       new["encoder.layers.0.backward_cell.kernel.bias_ih_l0"])


def first_layer(folder: Path) -> Tensor:
    """Return the input weights of the first layer in the forward direction, (G * H, I)."""
    weights = dict(tiny.network_of(folder).named_parameters())
    return weights["encoder.layers.0.forward_cell.kernel.weight_ih_l0"].detach()


def test_input_weights_of_pretrained_vectors_need_the_same_vectors(tagged: Path, tmp_path: Path) -> None:
    for name, shift in (("a", 0), ("b", 1)):
        rows = [f"{word} {i + shift} {i * i} 1\n" for i, word in enumerate("the of s baker sings".split())]
        (tmp_path / f"{name}.vec").write_text("".join(rows), "utf-8")
    vectors = {name: str(tmp_path / f"{name}.vec") for name in "ab"}
    tiny.train("tag", tmp_path / "base", [tagged], vectors=vectors["a"], epochs=1)
    base = first_layer(tmp_path / "base")
    inputs = base.shape[1]

    def left_out(name: str, **settings: Any) -> list[str]:
        tiny.train("tag", tmp_path / name, [tagged], init=str(tmp_path / "base"), **settings, **UNTRAINED)
        init = model_folder.read_config(tmp_path / name).init
        assert ("layers.0.forward_cell" in init["parts"]) == (name in ("same", "without")), init
        return list(init["left"])

    assert left_out("same", vectors=vectors["a"], vectors_limit=4) == []
    assert torch.equal(first_layer(tmp_path / "same"), base)
    assert left_out("other", vectors=vectors["b"]) == [
        "the weights of layers.0 for input.vectors, which differs"]
    parts = model_folder.read_config(tmp_path / "other").init["parts"]
    assert f"layers.0.forward_cell ({inputs - 3} of {inputs} inputs)" in parts
    weight = first_layer(tmp_path / "other")
    assert torch.equal(weight[:, :-3], base[:, :-3]) and not weight[:, -3:].any()
    assert left_out("without") == []
    assert torch.equal(first_layer(tmp_path / "without"), base[:, :-3])
    # the weights of an input that wasn't transferred itself aren't transferred either
    assert left_out("letters", vectors=vectors["a"], chars="lstm") == [
        "input.characters.layer.forward_cell", "input.characters.layer.backward_cell"]
    weight = first_layer(tmp_path / "letters")
    zeros = (weight == 0).all(dim=0)
    assert zeros.sum() == 8 and torch.equal(weight[:, ~zeros], base[:, ~zeros])


@pytest.mark.parametrize("embed", [2, 12])
def test_embeddings_start_from_the_numbers_of_pretrained_vectors_that_fit(
    embed: int, tagged: Path, tmp_path: Path
) -> None:
    (tmp_path / "pretrained.vec").write_text("the 7 8 9\nzebra 4 5 6\nunheard 1 2 3\n", "utf-8")
    tiny.train("tag", tmp_path / "model", [tagged], vectors=str(tmp_path / "pretrained.vec"), embed=embed,
               lower=False, min_count=1, **UNTRAINED)
    source = tiny.network_of(tmp_path / "model").encoder.input
    assert isinstance(source, WordInput) and source.vectors is not None
    assert source.vectors.weight.tolist() == [[0, 0, 0], [7, 8, 9], [4, 5, 6], [1, 2, 3]]
    tokenizer = model.load(tmp_path / "model").task.tokenizer
    width = min(3, embed)
    for word, vector in (("the", [7, 8, 9]), ("Zebra", [4, 5, 6])):  # as written, else in lower case
        (row,) = tokenizer.encode(word)
        assert source.embedding.weight[row, :width].tolist() == vector[:width]
    assert source.embedding.weight[tokenizer.encode(".")[0]].abs().max() <= 0.1


def test_models_with_another_tokenizer_are_refused(
    both: Path, writer: Path, tagged: Path, tmp_path: Path
) -> None:
    sentence = r"^init: expected a model with tokenizer=word, found \S+, whose tokenizer is char$"
    with pytest.raises(UsageError, match=sentence):
        tiny.train("tag", tmp_path / "t", [tagged], init=str(writer))
    assert not (tmp_path / "t").exists()


# --- A decoder ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of targets: letters with spaces between them."""
    folder = tmp_path_factory.mktemp("targets")
    (folder / "targets.txt").write_text("".join(f"{row[1]} z\n" for row in tiny.reversals(100)), "utf-8")
    (folder / "pairs.tsv").write_text(tiny.pairs(tiny.reversals(60)), "utf-8")
    tiny.train("lm", folder / "lm", [folder / "targets.txt"], tokenizer="word", layers=1, hidden=24, embed=24,
               epochs=3)
    return folder / "lm"


DECODER: dict[str, Any] = {"target_tokenizer": "space", "hidden": 24, "embed": 24}


@pytest.mark.parametrize("settings", [
    {}, {"tied": False, "attention": "none", "layers": 2}, {"input_feeding": True},
])
def test_a_decoder_starts_from_a_language_model(
    settings: dict[str, Any], target_lm: Path, tmp_path: Path
) -> None:
    tiny.train("transduce", tmp_path / "m", [target_lm.parent / "pairs.tsv"], init_target=str(target_lm),
               **{**DECODER, **UNTRAINED, **settings})
    new, lm = tiny.network_of(tmp_path / "m"), tiny.network_of(target_lm)
    vocabulary = [model.load(folder).task for folder in (tmp_path / "m", target_lm)]
    entries = [vocabulary[0].target.entries, vocabulary[1].tokenizer.entries]
    assert "z" in entries[0], "the decoder has all entries of the language model"
    rows = [4 + entries[0].index(entry) for entry in entries[1]], [*range(4, 4 + len(entries[1]))]
    decoder, embedding = new.head, lm.encoder.input.embedding.weight
    assert torch.equal(decoder.embedding.weight[rows[0]], embedding[rows[1]])
    assert torch.equal(decoder.output.weight[rows[0]], lm.head.output.weight[rows[1]])
    assert torch.equal(decoder.output.bias[rows[0]], lm.head.output.bias[rows[1]])
    assert torch.equal(decoder.combine.weight, torch.eye(24)), "the softmax reads the states, as before"
    width = embedding.shape[1]
    for name, weight in lm.encoder.layers[0].named_parameters():
        copied = decoder.layers[0].get_parameter(name)
        if name.endswith("weight_ih_l0"):  # of what is fed back, nothing at first
            assert not copied[:, width:].any()
            copied = copied[:, :width]
        assert torch.equal(copied, weight), name
    init = model_folder.read_config(tmp_path / "m").init_target
    count = f"({len(entries[1])} of {len(entries[0])} entries)"
    assert {f"decoder.input.embedding {count}", f"decoder.output {count}"} <= set(init["parts"])
    assert ("decoder.layers.1.forward_cell" in init["left"]) == ("layers" in settings)


def test_a_training_from_a_language_model_of_targets_goes_on(target_lm: Path, tmp_path: Path) -> None:
    pairs, said = target_lm.parent / "pairs.tsv", list[str]()
    common: dict[str, Any] = {**DECODER, "init_target": str(target_lm), "epochs": 4}
    tiny.train("transduce", tmp_path / "whole", [pairs], log=said.append, **common)
    assert any(line.startswith("transferred from ") and "decoder.input.embedding" in line for line in said)
    with pytest.raises(Interrupted):
        tiny.train("transduce", tmp_path / "m", [pairs], stopping=stop_after(4), **common)
    tiny.train("transduce", tmp_path / "m", resume=True)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "m")]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    tiny.train("transduce", tmp_path / "random", [pairs], **{**common, "init_target": None})
    first, other = (json.loads((tmp_path / name / "metrics.jsonl").read_text("utf-8").splitlines()[0])
                    for name in ("whole", "random"))
    assert first["dev_loss"] < other["dev_loss"]


def test_models_that_no_decoder_can_start_from_are_refused(
    target_lm: Path, writer: Path, transducer: Path, tmp_path: Path
) -> None:
    for folder, error, message in (
        (writer, UsageError, r"^init_target: expected a model with tokenizer=word, found .* is char$"),
        (transducer, UsageError, r"^init_target: expected a model of `rnntool train lm`, found .* transdu"),
        (target_lm, ModelError, r"none of its weights fit this network; choose the cell, hidden and embed"),
    ):
        with pytest.raises(error, match=message):
            tiny.train("transduce", tmp_path / "m", [target_lm.parent / "pairs.tsv"], init_target=str(folder),
                       target_tokenizer="space", hidden=20, embed=10)


def test_sizes_and_units_come_from_the_language_model_of_targets(target_lm: Path, tmp_path: Path) -> None:
    settings = resolve(TASKS["transduce"], {"init_target": str(target_lm)}, inherit=_inherited)
    assert (settings.tokenizer, settings.target_tokenizer, settings.hidden, settings.embed) == (
        "char", "space", 24, 24)
    settings = resolve(TASKS["transduce"], {"init": str(target_lm), "hidden": 9}, inherit=_inherited)
    assert (settings.tokenizer, settings.target_tokenizer, settings.hidden) == ("space", None, 9)
    with pytest.raises(UsageError, match="init_target: has no effect with shared_vocabulary"):
        resolve(TASKS["transduce"], {"init_target": str(target_lm), "shared_vocabulary": True})
    rows = tmp_path / "rows.tsv"
    rows.write_text("".join(f"{target}\t{source}\n" for source, target in tiny.reversals(40)), "utf-8")
    tiny.train("transduce", tmp_path / "m", [rows], init=str(target_lm), tokenizer="space", **DECODER | {
        "target_tokenizer": "char"}, **UNTRAINED)
    assert "layers.0.forward_cell" in model_folder.read_config(tmp_path / "m").init["parts"]


# --- Characters in context ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def character_lm(both: Path) -> Path:
    """A character language model of both directions."""
    out = both.parent / "character_lm"
    tiny.train("lm", out, [both.parent / "raw.txt"], direction="both", epochs=2)
    return out


@pytest.fixture(scope="module")
def contextual_tagger(character_lm: Path, tagged: Path) -> Path:
    """A tagger whose word vectors contain the states of a character language model."""
    out = character_lm.parent / "contextual_tagger"
    tiny.train("tag", out, [tagged], features=str(character_lm), epochs=8)
    return out


def test_a_word_vector_contains_the_character_states_at_the_ends_of_the_word(
    character_lm: Path, contextual_tagger: Path
) -> None:
    lm, tagger = tiny.network_of(character_lm), tiny.network_of(contextual_tagger)
    text = "the workful baker dances ."
    task = model.load(contextual_tagger).task
    arrays = to_tensors(task.encode([model.Sentence(text.split())]), torch.device("cpu"))
    ids = model.load(character_lm).task.tokenizer.encode(text)
    lengths = torch.tensor([len(ids) + 1])
    assert lm.backward_encoder is not None
    with torch.inference_mode():
        read = tagger.encoder.input(arrays)[:, 0]
        forward = lm.encoder({"tokens": torch.tensor([BOS, *ids])[:, None], "lengths": lengths})[0][1:, 0]
        reversed_ids = torch.tensor([BOS, *ids[::-1]])[:, None]
        backward = lm.backward_encoder({"tokens": reversed_ids, "lengths": lengths})[0][1:, 0]
    start = 0
    for word, vector in zip(text.split(), read, strict=True):
        end = start + len(word)
        torch.testing.assert_close(vector[-32:], torch.cat([forward[end - 1], backward.flip(0)[start]]))
        start = end + 1


def test_a_language_model_in_a_tagger_never_learns(character_lm: Path, contextual_tagger: Path) -> None:
    lm, tagger = tiny.network_of(character_lm), tiny.network_of(contextual_tagger)
    assert isinstance(tagger.encoder.input, WordInput) and tagger.encoder.input.context is not None
    context = dict(tagger.encoder.input.context.named_parameters())
    assert lm.backward_encoder is not None
    sides = {"forward_encoder": lm.encoder, "backward_encoder": lm.backward_encoder}
    for side, encoder in sides.items():
        for name, weight in encoder.named_parameters():
            key = f"{side}.{name}".replace("backward_encoder.input", "forward_encoder.input")  # they share it
            assert torch.equal(context[key], weight), name


@pytest.mark.parametrize(("cell", "direction"), [
    ("lstm", "both"), ("gru", "forward"), ("mogrifier", "both"), ("mingru", "both")])
def test_a_tagger_with_context_needs_no_language_model_and_runs_alike_on_both_engines(
    cell: str, direction: str, character_lm: Path, tagged: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    tiny.train("lm", base, [character_lm.parent / "raw.txt"], epochs=1, cell=cell, direction=direction)
    out = tmp_path / "t"
    tiny.train("tag", out, [tagged], features=str(base), epochs=2, layers=2)
    shutil.rmtree(base)
    sentences = [sentence.split() for sentence in tiny.lines_of_text(9, seed=8)]
    sentences += [[], ["\u4e16\u754c", "bakes"], ["x" * 50]]
    records = list(map(model.Sentence, sentences))
    loaded = model.load(out, threads=1)
    arrays = loaded.task.encode(records)
    onnx = loaded.engine.run(arrays)
    torch_ = TorchEngine(tiny.network_of(out), torch.device("cpu")).run(arrays)
    for i, words in enumerate(sentences):
        n = len(words)
        np.testing.assert_allclose(onnx["emissions"][:n, i], torch_["emissions"][:n, i], atol=1e-5)
        alone = loaded.engine.run(loaded.task.encode([records[i]]))["emissions"][:n, 0]
        np.testing.assert_allclose(onnx["emissions"][:n, i], alone, atol=1e-5)
    tags = [result.tags for result in loaded.tag(sentences)]
    assert list(map(len, tags)) == [len(words) for words in sentences]


def test_long_sentences_are_read_in_pieces(contextual_tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model.load(contextual_tagger, threads=1)
    words = " ".join(tiny.lines_of_text(20, seed=2)).split()
    arrays = loaded.task.encode([model.Sentence(words)])
    whole = loaded.task.run(loaded.engine, arrays)["emissions"]
    monkeypatch.setattr(tag, "PIECE", 30)
    monkeypatch.setattr(tag, "CONTEXT", 20)
    pieces = loaded.task.run(loaded.engine, arrays)["emissions"]
    assert pieces.shape == whole.shape
    np.testing.assert_allclose(pieces, whole, atol=0.05)


def test_training_a_tagger_with_context_resumes_exactly(
    character_lm: Path, contextual_tagger: Path, tagged: Path, tmp_path: Path
) -> None:
    signals = iter([None] * 3 + [2] * 99)
    with pytest.raises(Interrupted):
        tiny.train("tag", tmp_path / "t", [tagged], features=str(character_lm), epochs=8,
                   stopping=lambda: next(signals))
    tiny.train("tag", tmp_path / "t", resume=True)
    assert (tmp_path / "t" / "model.onnx").read_bytes() == (contextual_tagger / "model.onnx").read_bytes()


def test_input_weights_of_characters_in_context_need_the_same_language_model(
    character_lm: Path, contextual_tagger: Path, tagged: Path, tmp_path: Path
) -> None:
    base, size = first_layer(contextual_tagger), 32
    inputs = base.shape[1]
    other, raw = tmp_path / "other", character_lm.parent / "raw.txt"
    tiny.train("lm", other, [raw], direction="both", epochs=1, seed=2)
    for features, name, note in (
            (character_lm, "same", ""), (other, "not", f" ({inputs - size} of {inputs} inputs)")):
        out = tmp_path / name
        tiny.train("tag", out, [tagged], features=str(features), init=str(contextual_tagger), **UNTRAINED)
        init = model_folder.read_config(out).init
        assert f"layers.0.forward_cell{note}" in init["parts"]
        weight = first_layer(out)
        assert torch.equal(weight[:, :-size], base[:, :-size])
        if features == character_lm:
            assert torch.equal(weight, base) and init["left"] == []
        else:
            assert not weight[:, -size:].any()
            assert init["left"] == ["the weights of layers.0 for input.context, which differs"]


def test_the_reported_parameter_count_is_that_of_the_graph(
    both: Path, character_lm: Path, contextual_tagger: Path, tagged: Path, tmp_path: Path
) -> None:
    def reported(folder: Path) -> int:
        count = model_folder.read_config(folder).parameters
        assert f"{count:,} parameters, made by" in (folder / "README.md").read_text("utf-8")
        return int(count)

    def counted(folder: Path) -> dict[str, int]:
        return {name: weight.numel() for name, weight in tiny.network_of(folder).named_parameters()}

    backward = "backward_encoder."
    assert reported(both) == sum(n for name, n in counted(both).items() if not name.startswith(backward))
    counts = counted(contextual_tagger)
    language_model = sum(n for name, n in counts.items() if ".context." in name)
    head = sum(n for name, n in counted(character_lm).items() if name.startswith("head."))
    assert language_model == sum(counted(character_lm).values()) - head
    assert reported(contextual_tagger) == sum(counts.values())
    (tmp_path / "a.vec").write_text("the 1 2\nof 3 4\n", "utf-8")
    sizes = {name: {} if name == "plain" else {"vectors": str(tmp_path / "a.vec")} for name in ("plain", "v")}
    for name, settings in sizes.items():
        tiny.train("tag", tmp_path / name, [tagged], epochs=1, hidden=7, cell="mingru", **settings)
    read = 2 * 2 * 7 * 2  # directions, gates, units, size of a vector
    assert reported(tmp_path / "v") == reported(tmp_path / "plain") + 3 * 2 + read


def test_features_need_a_recurrent_character_language_model(
    both: Path, tagged: Path, tmp_path: Path
) -> None:
    sentence = r"^features: expected a model with tokenizer=char, found \S+, whose tokenizer is word$"
    with pytest.raises(UsageError, match=sentence):
        tiny.train("tag", tmp_path / "t", [tagged], features=str(both))
    tiny.train("lm", tmp_path / "w", [both.parent / "raw.txt"], encoder="window", epochs=1)
    sentence = r"^features: expected a recurrent .* found \S+, a window encoder of the task lm; train one"
    with pytest.raises(UsageError, match=sentence):
        tiny.train("tag", tmp_path / "t", [tagged], features=str(tmp_path / "w"))


def test_language_models_can_split_words_as_classifiers_do(tmp_path: Path) -> None:
    raw, few = tmp_path / "raw.txt", tmp_path / "few.tsv"
    raw.write_text("Who doesn't bake? I don't.\n" * 30, "utf-8")
    few.write_text("text\tlabel\n" + "Who baked?\ta\nI did.\tb\n" * 5, "utf-8")
    sizes: dict[str, Any] = {"embed": 12, "hidden": 12, "layers": 1}
    tiny.train("lm", tmp_path / "lm", [raw], tokenizer="word", split="words", epochs=1, **sizes)
    vocabulary = set((tmp_path / "lm" / "vocab.txt").read_text("utf-8").splitlines())
    assert vocabulary == {"Who", "does", "n't", "bake", "?", "I", "do", "."}
    tiny.train("classify", tmp_path / "c", [few], init=str(tmp_path / "lm"), lower=False, epochs=1, **sizes)
    assert vocabulary < set((tmp_path / "c" / "vocab.txt").read_text("utf-8").splitlines())


def test_resuming_checks_the_character_language_model(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in tiny.lines_of_text(20)), "utf-8")
    (tmp_path / "tags.conllu").write_text(tiny.conllu(tiny.pos_sentences(60)), "utf-8")
    tiny.train("lm", tmp_path / "chars", [tmp_path / "lines.txt"], epochs=1)
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        tiny.train("tag", tmp_path / "m", [tmp_path / "tags.conllu"], epochs=3,
                   features=str(tmp_path / "chars"),
                   stopping=lambda: signal.SIGTERM if next(steps) == 3 else None)
    tiny.train("lm", tmp_path / "chars", [tmp_path / "lines.txt"], epochs=1, seed=2, force=True)
    with pytest.raises(DataError, match=r"^\S*chars: the data has changed since this training"):
        tiny.train("tag", tmp_path / "m", resume=True)
