"""Dependency trees: the best tree for scores of heads, and taggers that learn heads and relations."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import failed, invoke, jsonl, ok

from rnntool.data import trees
from rnntool.data.arrays import IGNORE, Floats, log_softmax
from rnntool.data.labels import Labels
from rnntool.data.records import Sentence
from rnntool.data.treebank import cyclic_word
from rnntool.inference import model as models
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models.config import TaggerHeadConfig
from rnntool.models.heads.tagger import TaggerHead, head_scores
from rnntool.tasks import TASKS
from rnntool.tasks.head_column import HeadColumn, RelationColumn
from rnntool.tasks.specs.resolve import resolve
from rnntool.tasks.specs.tag import UD_SPEC
from rnntool.tasks.tag import TagTask


def is_tree(heads: list[int]) -> bool:
    return (heads.count(0) == 1 and cyclic_word(heads) is None
            and all(0 <= head <= len(heads) for head in heads))


# --- The best tree -----------------------------------------------------------------------------------------


def random_scores(size: int, seed: int) -> Floats:
    scores = np.random.default_rng(seed).normal(size=(size, size + 1)) * 3
    scores[np.arange(size), np.arange(1, size + 1)] = -np.inf
    return scores


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_best_tree_is_that_of_brute_force(size: int) -> None:
    candidates: Any = [heads for heads in product(range(size + 1), repeat=size) if is_tree(list(heads))]
    assert len(candidates) == size ** (size - 1)  # Cayley's formula
    for seed in range(40):
        scores = random_scores(size, seed)
        totals = scores[np.arange(size), np.array(candidates)].sum(axis=1)
        assert tuple(trees.best_tree(scores)) == candidates[totals.argmax()]


@pytest.mark.parametrize("heads", [[0], [2, 0], [3, 3, 0], [3, 4, 0, 3], [0, 1, 2, 3, 4]])
def test_a_tree_with_the_best_head_of_each_word_is_the_best(heads: list[int]) -> None:
    scores = random_scores(len(heads), seed=0)
    scores[np.arange(len(heads)), heads] = 20
    assert trees.best_tree(scores) == heads  # with crossing arcs or without


def test_words_of_equal_scores_depend_on_their_neighbors() -> None:
    assert trees.best_tree(np.zeros((4, 5))) == [0, 1, 2, 3]


def test_long_sentences_have_one_tree() -> None:
    backward = np.zeros((500, 501))
    backward[np.arange(500), [*range(2, 501), 1]] = 1  # one cycle through all words
    heads = trees.best_tree(backward)
    assert is_tree(heads) and sum(a == b for a, b in zip(heads, [*range(2, 501), 1], strict=True)) == 499
    assert is_tree(trees.best_tree(random_scores(500, seed=1)))
    vectors = np.random.default_rng(0).normal(size=(2 * trees.LONGEST + 1, 10))
    heads = trees.best_heads(vectors)
    assert is_tree(heads)
    assert heads[: trees.LONGEST] == trees.best_heads(vectors[: trees.LONGEST])
    probs = trees.head_probs(vectors, heads)
    assert len(probs) == len(heads) and all(0 < p <= 1 for p in probs)


# --- Scores and losses -------------------------------------------------------------------------------------


def test_a_head_scores_the_product_of_two_vectors_and_its_own_score() -> None:
    # two words: a vector as a dependent (2 numbers), one as a head, a score as a head, and as the root
    vectors = np.array([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]], np.float32)
    assert trees.head_scores(vectors).tolist() == [
        [6, -np.inf, 1 * 9 + 2 * 10 + 11], [12, 7 * 3 + 8 * 4 + 5, -np.inf]]


def test_scores_in_torch_equal_those_in_numpy_whatever_the_padding() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3, 10)).astype(np.float32)
    lengths = [6, 1, 4]
    real = np.arange(6)[:, None] < lengths
    scores = head_scores(torch.from_numpy(vectors), torch.from_numpy(real)).numpy()
    for i, length in enumerate(lengths):
        alone = trees.head_scores(vectors[:length, i])
        np.testing.assert_allclose(scores[i, :length, : length + 1], alone, rtol=1e-5)
        assert np.isneginf(scores[i, :, length + 1 :]).all()


@pytest.mark.parametrize("layer", [0, 7])
def test_the_loss_is_the_log_probability_of_heads_and_of_relations_to_them(layer: int) -> None:
    torch.manual_seed(0)
    # 3 tags, vectors of size 4, and 5 relations of words and of heads
    config = TaggerHeadConfig(outputs=23, columns=(3, 10, 5, 5), heads=1, relations=2, layer=layer)
    head = TaggerHead(config, 6).eval()
    states = torch.randn(4, 2, 6)
    heads = [[2, 0, 2, 3], [0, 1]]
    relations, tags = [[1, 0, 4, 2], [0, 3]], [[0, 1, 2, 1], [2, 0]]
    targets = np.full((4, 4, 2), IGNORE)
    for i in range(2):
        for row, ids in zip(targets, (tags[i], heads[i], relations[i]), strict=False):
            row[: len(ids), i] = ids
    emissions = head(states, {})["emissions"].detach().numpy()
    nats = np.zeros(3)
    for i, row in enumerate(heads):
        of_tags, vectors, of_word, of_head = np.split(emissions[: len(row), i], [3, 13, 18], axis=1)
        scores = trees.head_scores(vectors)
        for word, number in enumerate(row):
            of_relation = of_word[word] + (of_head[number - 1] if number else 0)
            for k, (values, gold) in enumerate((
                    (of_tags[word], tags[i][word]), (scores[word], number),
                    (of_relation, relations[i][word]))):
                nats[k] -= log_softmax(values)[gold] / 6  # words
    losses = {"targets": torch.from_numpy(targets)}
    assert head.loss(states, losses).item() == pytest.approx(nats.sum() / 4, rel=1e-5)
    padded = torch.cat([states, torch.randn(3, 2, 6)])
    losses["targets"] = torch.nn.functional.pad(losses["targets"], (0, 0, 0, 3), value=IGNORE)
    assert head.loss(padded, losses).item() == pytest.approx(nats.sum() / 4, rel=1e-5)


def test_only_a_root_has_the_relation_root() -> None:
    column = RelationColumn(Labels(["root", "obj"]), None)
    emissions = np.array([[[5, 0, 0, 0]], [[5, 0, 0, 0]], [[0, 9, 2, 3]]], np.float32)  # (3, 1, 4)
    scores = column.given_heads(emissions, np.array([[2], [0], [1]]))[:, 0]
    assert scores.tolist() == [[-np.inf, 0], [5, -np.inf], [-np.inf, 9]]
    assert column.decode([["a", "b", "c"]], scores[:, None], np.array([3]), None, "iob2") == [
        ["obj", "root", "obj"]]
    # a gold relation that the predicted head excludes does not count
    gold = np.array([[0], [0], [1]])
    assert 0 < column.temperature([(scores[:, None], np.array([3]), gold)], None) < 100


# --- Taggers -----------------------------------------------------------------------------------------------


def treebank(n: int, seed: int = 0) -> str:
    """Write CoNLL-U: articles and adjectives depend on the next noun, the rest on the verb."""
    blocks = []
    for sentence in tiny.pos_sentences(n, seed):
        tags = [tag for _, tag in sentence]
        verb = tags.index("VERB") + 1
        rows = []
        for i, (word, tag) in enumerate(sentence, 1):
            before = tag in ("DET", "ADJ")
            head = tags.index("NOUN", i - 1) + 1 if before else 0 if i == verb else verb
            relation = {"DET": "det", "ADJ": "amod", "VERB": "root", "PUNCT": "punct"}.get(
                tag, "nsubj" if i < verb else "obj")
            rows.append(f"{i}\t{word}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_\n")
        blocks.append("".join(rows) + "\n")
    return "".join(blocks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees")
    (folder / "train.conllu").write_text(treebank(80), "utf-8")
    (folder / "dev.conllu").write_text(treebank(20, seed=5), "utf-8")
    return folder


@pytest.fixture(scope="module")
def parser(folder: Path) -> Path:
    tiny.train("tag", folder / "model", [folder / "train.conllu"], dev=[folder / "dev.conllu"],
               column="upos,deprel,head", epochs=12)
    return folder / "model"


def test_a_tagger_learns_trees(parser: Path) -> None:
    dev = parser.parent / "dev.conllu"
    report = json.loads(ok(invoke("evaluate", dev, "-m", parser, "--json")))
    metrics = report["conll18"]
    assert metrics["UPOS"] == metrics["UAS"] == metrics["LAS"] == metrics["CLAS"] == 1
    assert "MLAS" not in metrics  # there are no features
    assert report["columns"]["head"]["accuracy"] == 1 and "confusion" not in report["columns"]["head"]
    untagged = "".join("\t".join([*line.split("\t")[:6], "_", "_", *line.split("\t")[8:]]) if line != "\n"
                       else line for line in dev.open(encoding="utf-8"))
    untagged = untagged.replace("\t_\n", "\tGloss=x\n")
    tagged = ok(invoke("tag", "-m", parser, "--to", "conllu", input=untagged))
    assert tagged == dev.read_text("utf-8").replace("\t_\n", "\tGloss=x\n")


def test_trees_are_learned_longer_with_less_dropout() -> None:
    assert resolve(TASKS["tag"], {"column": "upos,deprel"}).dropout == 0.5
    assert resolve(TASKS["tag"], {"column": "upos, Head"}).dropout == 0.33
    assert resolve(TASKS["tag"], {"column": "upos,head"}).epochs_for(40) == 40
    assert resolve(TASKS["tag"], {"column": "upos,head", "epochs": 3}).epochs_for(40) == 3
    settings = resolve(UD_SPEC, {"column": "upos,head,deprel", "dropout": 0.4})
    assert (settings.dropout, settings.to_json()["token_dropout"]) == (0.4, 0.2)


def test_heads_weigh_half_in_the_loss(parser: Path) -> None:
    task = models.load(str(parser), device="cpu", threads=1).require(TagTask)
    assert task.objective([]).distribution_weights == pytest.approx((1 / 3, 1 / 3, 0, 1 / 6))
    task.columns = (task.columns[0], task.columns[2])
    assert task.objective([]).distribution_weights == (1 / 2, 1 / 4)


def test_new_text_becomes_trees_in_all_formats(parser: Path) -> None:
    text = "The workful baker hunts the singer .\n"
    heads, relations = ["3", "3", "4", "0", "6", "4", "4"], "det amod nsubj root det obj punct".split()
    rows = [line.split("\t") for line in
            ok(invoke("tag", "-m", parser, "--to", "conllu", input=text)).splitlines() if line[:1].isdigit()]
    assert [row[6] for row in rows] == heads and [row[7] for row in rows] == relations
    (record,) = jsonl(ok(invoke("tag", "-m", parser, "--to", "jsonl", "--probs", "--nbest", "2", input=text)))
    assert record["head"] == heads and record["deprel"] == relations and len(record["nbest"]) == 2
    conll = ok(invoke("tag", "-m", parser, "--to", "conll", input=text)).splitlines()
    assert conll[0] == "The\tDET\tdet\t3"
    cut = ok(invoke("tag", "-m", parser, "--threshold", "1", "--to", "jsonl", input=text))
    assert jsonl(cut)[0]["head"] == heads  # abstaining never breaks a tree


def test_ranges_and_enhanced_graphs_stay(parser: Path) -> None:
    rows = ["1-2\tTheb\t" + "_\t" * 7 + "_", "1\tThe\t" + "_\t" * 6 + "2:det\t_",
            "2\tbaker\t" + "_\t" * 6 + "3:nsubj|4:x\t_", "2.1\tx\t" + "_\t" * 6 + "3:dep\t_",
            "3\thunts\t" + "_\t" * 6 + "0:root\t_"]
    out = ok(invoke("tag", "-m", parser, "--to", "conllu", input="\n".join(rows) + "\n\n")).splitlines()
    assert out[0] == rows[0] and out[3] == rows[3]
    assert [line.split("\t")[6:9] for line in out if line[1:2] == "\t"] == [
        ["2", "det", "2:det"], ["3", "nsubj", "3:nsubj|4:x"], ["0", "root", "0:root"]]


def test_every_sentence_gets_a_tree_that_does_not_depend_on_its_batch(parser: Path) -> None:
    rng = np.random.default_rng(0)
    vocabulary = ["the", "baker", "hunts", ".", "workful", "ß"]
    sentences = [list(rng.choice(vocabulary, size)) for size in (1, 2, 500, 7, 30)]
    model = models.load(str(parser), device="cpu", threads=1, parallel=False)
    task = model.require(TagTask)
    lines = [json.dumps({"tokens": list(map(str, words))}) for words in sentences]
    together = jsonl(ok(invoke("tag", "-m", parser, input="\n".join(lines) + "\n")))
    in_torch = TorchEngine(tiny.network_of(parser), torch.device("cpu"))
    for line, record in zip(lines, together, strict=True):
        heads = list(map(int, record["head"]))
        assert is_tree(heads)
        assert [head == 0 for head in heads] == [relation == "root" for relation in record["deprel"]]
        assert jsonl(ok(invoke("tag", "-m", parser, input=line + "\n"))) == [record]
        sentence = Sentence(record["tokens"])
        arrays = task.encode([sentence])
        assert task.decode([sentence], task.run(in_torch, arrays))[0].more_tags == [
            record["deprel"], record["head"]]


def test_heads_alone_can_be_learned(folder: Path) -> None:
    for column, more in (("head", {}), ("head,deprel", {"class_weights": "balanced", "folds": 2}),
                         ("deprel,head", {"head": "crf", "passage": 30, "int8": True})):
        report = tiny.train("tag", folder / "alone", [folder / "train.conllu"],
                            **({} if "folds" in more else {"dev": [folder / "dev.conllu"]}),
                            column=column, epochs=4, force=True, **more)
        assert report["accuracy"] > 0.5
        assert ("LAS" in report["conll18"]) == ("deprel" in column)
        assert 0 <= report["ece"] < 1
        if column[0] == "h":
            failed(invoke("tag", "-m", folder / "alone", "--nbest", "2", "--to", "jsonl", input="a b\n"), 2,
                   "--nbest: expected a model whose first column has tags, found one whose first column has "
                   "heads; leave it out")
            out = ok(invoke("tag", "-m", folder / "alone", "--probs", "--to", "conllu", input="The baker\n"))
            words = [line.split("\t") for line in out.splitlines() if line[:1].isdigit()]
            assert sorted(word[6] == "0" for word in words) == [False, True]
            assert all((word[6] == "0") == (word[7] == "root") and "Prob=" in word[9] for word in words)
        else:
            assert ok(invoke("evaluate", folder / "dev.conllu", "-m", folder / "alone"))


def test_a_crf_cannot_score_heads(folder: Path) -> None:
    failed(invoke("train", "tag", folder / "train.conllu", "-o", folder / "x", "--column", "head,upos",
                  "--head", "crf", "-q"), 2,
           "--column: --head crf can't score heads; name another column first")


ROWS = ["1\ta\t_\tX\t_\t_\t0\troot\t_\t_", "2\tb\t_\tY\t_\t_\t1\tdep\t_\t_", "3\tc\t_\tY\t_\t_\t1\tdep\t_\t_"]


@pytest.mark.parametrize(("number", "head", "problem"), [
    (2, "4", "{}:2: expected a head from 0 to 3, found '4'"),
    (2, "-1", "{}:2: expected a head from 0 to 3, found '-1'"),
    (1, "x", "{}:1: expected a head from 0 to 3, found 'x'"),
    (3, "9" * 5000, "{}:3: expected a head from 0 to 3, found '999"),
    (3, "3", "{}:3: expected a tree, found a cycle through word 3"),
    (1, "2", "{}:1: expected a tree, found a cycle through word 1"),
    (2, "_", "{}:2: expected a tag in column 7, found '_'; fill it")])
def test_gold_heads_that_are_no_tree(
    number: int, head: str, problem: str, parser: Path, tmp_path: Path
) -> None:
    cells = ROWS[number - 1].split("\t")
    cells[6] = head
    rows = [*ROWS[: number - 1], "\t".join(cells), *ROWS[number:]]
    file = tmp_path / "bad.conllu"
    file.write_text("\n".join(rows) + "\n\n", "utf-8")
    train = ("train", "tag", "--column", "upos,head,deprel", "-o", tmp_path / "m", "-q")
    failed(invoke(*train, file), 3, problem.format(file))
    failed(invoke(*train, parser.parent / "train.conllu", "--dev", file), 3, problem.format(file))
    failed(invoke("evaluate", file, "-m", parser), 3, problem.format(file))


def test_sentences_of_several_trees_can_be_learned(parser: Path, tmp_path: Path) -> None:
    file = tmp_path / "roots.conllu"
    file.write_text("\n".join([ROWS[0], ROWS[0].replace("1\ta", "2\tb").replace("X", "Y")]) + "\n\n", "utf-8")
    assert invoke("evaluate", file, "-m", parser).code == 0
    tiny.train("tag", tmp_path / "m", [file, parser.parent / "train.conllu"], column="upos,head,deprel",
               epochs=1, dev_fraction=0.0)


def test_a_column_of_each_kind(tmp_path: Path) -> None:
    record = {"tokens": ["a", "b"], "head": ["0", "1"], "Head": ["0", "1"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    failed(invoke("train", "tag", tmp_path / "t.jsonl", "-o", tmp_path / "m", "--column", "head,Head"), 2,
           "--column: expected at most one column of heads, found 'head,Head'; leave one out")
    assert HeadColumn.learn([["a"]], [["0"]]).trained_labels() == ()
