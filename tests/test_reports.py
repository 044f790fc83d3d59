"""What is computed and drawn for people to look at: groups that are there, plain geometry, whole pages."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny

import rnntool
from rnntool import model_folder
from rnntool.commands import console
from rnntool.data.formats import Judgement, Sentence, Text
from rnntool.errors import (
    DataError,
    ModelError,
    RnntoolError,
    UsageError,
)
from rnntool.inspection import charts, clusters, picture, states, training_report
from rnntool.inspection.gradient_texts import reach, texts
from rnntool.inspection.word_vectors import Vectors, agreement

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


# --- Pictures ----------------------------------------------------------------------------------------------


def sketch() -> picture.Picture:
    shapes = [picture.Line([(0, 0), (50, 40)]), picture.Box(1, 2, 30, 4, "#00ff00", "a <box>"),
              picture.Dot(9, 9, "#ff0000"),
              picture.Words(5, 20, "a < b & $c$ \x07\u202e می\u200cخ \xa0", columns=5)]
    return picture.Picture(60, 50, 'a "title"', shapes)


def test_an_svg_is_well_formed_and_loads_nothing() -> None:
    svg = sketch().svg()
    root = parsed(svg)
    assert [root.find(f".//{SVG}{tag}") is not None for tag in ("polyline", "rect", "circle")] == [True] * 3
    assert root.findtext(f"{SVG}text") == "a < b & $c$ \ufffd\ufffd می\u200cخ \xa0"
    assert root.findtext(f"{SVG}rect/{SVG}title") == "a <box>"
    assert svg.count("http") == 1, "the namespace, and nothing that would be fetched"


def test_pictures_are_written_as_the_name_says(tmp_path: Path) -> None:
    for name in ("a.svg", "a.html", "a.png"):
        if name.endswith("png"):
            pytest.importorskip("matplotlib")
        picture.write(sketch(), str(tmp_path / name))
    assert parsed((tmp_path / "a.svg").read_text()).tag == f"{SVG}svg"
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for name in ("a.svg", "a.png"):
        with pytest.raises(RnntoolError, match=rf"lost/{name}: can't be written"):
            picture.write(sketch(), str(tmp_path / "lost" / name))
    with pytest.raises(UsageError, match=r"\.svg, \.html, \.png, found 'a\.gif'"):
        picture.check("a.gif")


def test_png_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RnntoolError, match="pip install matplotlib, or end the name"):
        picture.check("a.png")


@pytest.mark.parametrize(("low", "high"), [
    (0, 1), (3.2, 3.3), (-5, 1200), (1e-6, 3e-6), (2, 2), (0, 9.99), (0, 1e-9), (2.302585090, 2.302585092),
    (100, 100.0000001)])
def test_ticks_enclose_the_data(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert 2 <= len(found) <= 9
    assert found == sorted(set(found))


def test_decades_enclose_the_data_and_leave_out_what_is_vanishing() -> None:
    assert charts.decades(0.02, 1.0) == [0.01, 0.1, 1.0]
    assert charts.decades(1.0, 1.0) == [0.1, 1.0]
    assert charts.decades(0.0, 1.0) == [10.0**i for i in range(-9, 1)]


def test_a_curve_goes_through_its_points() -> None:
    drawn = charts.curves("t", {"a": [(0, 0), (5, 1), (10, 0.5)]}, x_name="x", y_name="y")
    root = parsed(drawn.svg())
    curve = root.findall(f"{SVG}polyline")[-1].attrib["points"]
    assert curve == "70.0,355.0 345.0,40.0 620.0,197.5"
    assert len(root.findall(f"{SVG}circle")) == 3


def test_a_vanishing_curve_ends_where_it_leaves_the_picture() -> None:
    drawn = charts.curves("t", {"a": [(0, 1.0), (1, 1e-5), (2, 0.0)]}, x_name="x", y_name="y", log=True)
    assert len(parsed(drawn.svg()).findall(f"{SVG}circle")) == 2


def test_a_tree_has_room_for_long_names() -> None:
    merges = np.array([[0.0, 1.0, 1.0, 2.0]])
    short, long = (charts.dendrogram("t", ["a", name], merges) for name in ("b", "b" * 200))
    for drawn in (short, long):
        lines = [x for shape in drawn.shapes if isinstance(shape, picture.Line) for x, _ in shape.points]
        words = [shape for shape in drawn.shapes if isinstance(shape, picture.Words) and shape.text[0] == "b"]
        assert 0 <= min(lines) < max(lines) <= words[0].x < drawn.width


def test_colours_of_a_terminal_stay_at_their_places(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    console.coloured("one", "a\rb\x0cc", [(4, 5)], [(1, 2, 3)])
    assert "a\ufffdb\ufffd\x1b[" in capsys.readouterr().out


def test_coloured_text_breaks_lines_where_the_text_does() -> None:
    text = "ab cd\n" + "x" * 99 + " yz"
    spans = [(0, 2), (3, 5), (6, 105), (106, 108)]
    placed = list(charts.laid_out(text, spans))
    assert [(column, row, piece[:2]) for _, column, row, piece in placed] == [
        (0, 0, "ab"), (3, 0, "cd"), (0, 1, "xx"), (0, 2, "yz")]
    root = parsed(charts.coloured_texts("t", text, spans, {"one": [0, 1, -1, 0.5]}).svg())
    assert [box.attrib["fill"] for box in root.findall(f"{SVG}rect")] == [
        "#ffffff", "#f48760", "#60a5dc", "#fac3b0"]


# --- Clusters ----------------------------------------------------------------------------------------------


def test_two_groups_that_are_there_are_found() -> None:
    rng = np.random.default_rng(1)
    names = ["dog", "run", "cat", "eat", "cow", "see"]
    centres = {True: np.full(5, 3.0), False: np.full(5, -3.0)}
    vectors = np.stack([centres[name in ("dog", "cat", "cow")] + rng.normal(0, 0.3, 5) for name in names])
    linkage = clusters.merges(vectors)
    lines = clusters.tree(names, linkage)
    order = [line.split("─ ")[1] for line in lines]
    assert {frozenset(order[:3]), frozenset(order[3:])} == {
        frozenset(("dog", "cat", "cow")), frozenset(("run", "eat", "see"))}
    assert linkage[-1, 2] > 5 * linkage[-2, 2]
    drawn = parsed(charts.dendrogram("t", names, linkage).svg())
    texts = [text.text for text in drawn.findall(f"{SVG}text")]
    assert [text for text in texts if text in names] == order, "the picture and the text agree"


def test_a_tree_as_text() -> None:
    linkage = clusters.merges(np.array([[0.0], [1.0], [5.0], [9.0]]))
    assert clusters.tree(list("abcd"), linkage) == ["┬┬─ a", "│└─ b", "└┬─ c", " └─ d"]


# --- Vectors -----------------------------------------------------------------------------------------------


def planted() -> Vectors:
    """Royal and plain, male and female are axes of their own; `car` has nothing to do with them."""
    table = {"man": [1, 0, 0, 1], "woman": [-1, 0, 0, 1], "king": [1, 1, 0, 1], "queen": [-1, 1, 0, 1],
             "car": [0, 0, 1, 0]}
    names = list(table)
    return Vectors("planted", names, np.array(list(table.values()), float),
                   lambda word: names.index(word) if word in names else None)


def test_a_planted_analogy_is_found() -> None:
    assert planted().analogy("man", "king", "woman", 5)[0].name == "queen"
    assert {near.name for near in planted().analogy("man", "king", "woman", 5)} == {"queen", "car"}


def test_neighbours_by_cosine() -> None:
    (king,) = planted().neighbours("man", 1)
    assert (planted().names[king.row], king.name, king.cosine) == ("king", "king", pytest.approx(2 / 6**0.5))
    assert len(planted().neighbours("man", 99)) == 4
    with pytest.raises(DataError, match="found 'kings'; spelled like it: 'king'"):
        planted().neighbours("kings", 2)


def test_the_plane_keeps_distances_where_there_are_only_two_directions() -> None:
    points, share = planted().plane([0, 1, 2, 3])
    rows = planted().rows[[0, 1, 2, 3]]
    assert share == pytest.approx(1.0)
    assert np.linalg.norm(points[0] - points[3]) == pytest.approx(np.linalg.norm(rows[0] - rows[3]), abs=1e-5)


def _two_sided(ours: list[int], theirs: list[int]) -> float:
    """Twice the share of all orders that agree at least as well, or as badly."""
    def apart(order: Sequence[int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(ours, order, strict=True))
    found = [apart(order) for order in permutations(theirs)]
    seen = apart(theirs)
    tails = (sum(value <= seen for value in found), sum(value >= seen for value in found))
    return min(1.0, 2 * min(tails) / len(found))


def test_spearman_by_hand_and_missing_words_are_counted() -> None:
    angles = {"a": 0, "b": 20, "c": 60, "d": 130, "e": 170}  # degrees: the cosine with a falls from b to e
    names = list(angles)
    known = Vectors("planted", names, np.array([[math.cos(math.radians(angle)), math.sin(math.radians(angle))]
                                                for angle in angles.values()]),
                    lambda word: names.index(word) if word in names else None)
    pairs = [Judgement("a", other, score) for other, score in zip("bcdeX", (7, 9, 1, 5, 3), strict=True)]
    found = agreement(known, pairs)
    assert (found.missing, len(found.used)) == (["X"], 4)
    assert found.cosines == pytest.approx([math.cos(math.radians(angle)) for angle in (20, 60, 130, 170)])
    # ranks by people 3 4 1 2, by cosine 4 3 2 1: 1 - 6 * sum(d^2) / (n * (n^2 - 1)), Spearman (1904)
    assert found.spearman == pytest.approx(1 - 6 * (1 + 1 + 1 + 1) / (4 * 15))
    assert found.p_value == pytest.approx(_two_sided([3, 4, 1, 2], [4, 3, 2, 1]))
    in_order = agreement(known, [Judgement("a", other, -i) for i, other in enumerate("bcd")])
    assert (in_order.spearman, in_order.p_value) == (pytest.approx(1), pytest.approx(2 / 6))
    with pytest.raises(DataError, match="found 2 of 3"):
        agreement(known, [pairs[0], pairs[1], pairs[4]])
    with pytest.raises(DataError, match="judgements that differ, found 5 for each of the 3 pairs"):
        agreement(known, [Judgement("a", other, 5) for other in "bcd"])
    with pytest.raises(DataError, match="cosines that differ"):
        agreement(known, [Judgement("a", "b", score) for score in (1, 2, 3)])


# --- States ------------------------------------------------------------------------------------------------

LINES = ["the baker sings .", "the workful baker paints the teacher .", "", "the"]


@pytest.mark.parametrize("name", ["tagger", "ner", "classifier", "writer"])
def test_states_of_a_text_do_not_depend_on_the_texts_beside_it(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = rnntool.load(request.getfixturevalue(name), threads=1)
    reader = states.Reader(model, threads=1)
    encoder = model.config["network"]["encoder"]
    records = [Sentence(line.split()) if name in ("tagger", "ner") else Text(line) for line in LINES]
    together = list(reader(records))
    assert [read.text for read in together] == LINES
    for record, read in zip(records, together, strict=True):
        (alone,) = reader([record])
        np.testing.assert_allclose(alone.states, read.states, atol=1e-5)
        assert read.states.shape == (
            len(read.spans), encoder["hidden"] * (2 if encoder["bidirectional"] else 1))
        if name != "writer":
            assert [read.text[a:b] for a, b in read.spans] == read.text.split()


def test_a_stream_carries_its_state_on(models: Path, text_file: Path) -> None:
    out = models / "tiny-stream"
    tiny.train("lm", out, [text_file], dev=[text_file], epochs=1, context="stream")
    model = rnntool.load(out, threads=1)
    first, second = states.Reader(model, threads=1)([Text("the baker"), Text("the baker")])
    assert np.abs(first.states - second.states).max() > 1e-3
    again, _ = states.Reader(model, threads=1)([Text("the baker"), Text("sings")])
    np.testing.assert_allclose(again.states, first.states, atol=1e-6)


def test_the_state_of_a_word_is_that_of_its_last_token() -> None:
    numbers = np.arange(5.0, dtype=np.float32)[:, None]
    letters = states.Read("ab  c", [(i, i + 1) for i in range(5)], numbers)
    assert [(word, state.tolist()) for word, state in states.words(letters, whole=False)] == [
        ("ab", [1.0]), ("c", [4.0])]
    pieces = states.Read("ab cd", [(0, 2), (2, 4), (4, 5), (5, 5)], numbers[:4])  # the last: half a letter
    assert [state.tolist() for _, state in states.words(pieces, whole=False)] == [[0.0], [3.0]]
    assert [word for word, _ in states.words(pieces, whole=True)] == ["ab", " c", "d", ""]


def test_words_are_averaged_and_units_ranked(writer: Path) -> None:
    model = rnntool.load(writer, threads=1)
    reads = list(states.Reader(model, threads=1)([Text("the baker"), Text("the baker the")]))
    found = states.averages(reads, model.task)
    assert [(word, count) for word, (count, _) in found.items()] == [("the", 3), ("baker", 2)]
    rows = [reads[0].states[2], reads[1].states[2], reads[1].states[-1]]
    np.testing.assert_allclose(found["the"][1], np.mean(rows, axis=0), atol=1e-6)
    whole = states.joined(reads)
    assert whole.text == "the baker\nthe baker the"
    assert [whole.text[a:b] for a, b in whole.spans] == list("the bakerthe baker the")
    deviations = whole.states.std(axis=0)
    best = states.most_varying(whole.states, 3)
    assert deviations[best].tolist() == sorted(deviations.tolist(), reverse=True)[:3]


def test_texts_for_gradients_are_cut(writer: Path, tagger: Path) -> None:
    model = rnntool.load(writer, threads=1)
    batches = texts(model.task, [Text("the baker sings"), Text(""), Text("the")], steps=5, count=9)
    assert [batch["lengths"].tolist() for batch in batches] == [[6], [4]], "BOS and 5 more; one is too short"


def test_reach() -> None:
    assert reach([1.0, 0.5, 0.009, 0.5]) == 2
    assert reach([1.0, 0.5]) is None


# --- The page of a training --------------------------------------------------------------------------------


class Tags(HTMLParser):
    """What a page has, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.mark.parametrize("name", ["tagger", "joint", "ner", "classifier", "writer"])
def test_the_page_stands_alone_and_has_it_all(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    config = model_folder.read_config(folder)
    history = training_report.read_history(folder)
    page = training_report.page(folder.name, config, history)
    found = Tags()
    found.feed(page)
    assert not found.loads
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert page.count("http") == page.count("http://www.w3.org/2000/svg") == found.tags.count("svg") >= 3
    assert f"<td>{config['settings']['cell']}</td>" in page
    figure = config["report"][{"lm": "perplexity"}.get(config["task"], "accuracy")]
    assert f"{figure:.5g}" in page
    assert page.count('<tr class="best">') == 1
    assert page.count("<circle") >= len(history)


def test_a_page_without_curves_and_a_damaged_history(tagger: Path, tmp_path: Path) -> None:
    config = model_folder.read_config(tagger)
    assert training_report.read_history(tmp_path) == []
    assert "no metrics.jsonl" in training_report.page("x<y", config, [])
    assert "<h1>x&lt;y</h1>" in training_report.page("x<y", config, [])
    for damaged in ("{", '{"epoch": 1.0}\n', "[]\n"):
        (tmp_path / "metrics.jsonl").write_text(damaged)
        with pytest.raises(ModelError, match="is damaged"):
            training_report.read_history(tmp_path)


def test_a_figure_that_became_infinite_leaves_a_gap(writer: Path) -> None:
    config = model_folder.read_config(writer)
    history = [{"epoch": float(i), "step": i, "loss": 1.0, "lr": 0.1, "perplexity": value, "seconds": i,
                "tokens": i} for i, value in enumerate([float("inf"), 3.0, 2.0, 4.0], 1)]
    page = training_report.page("x", config, history)
    assert "best: 3, 2" in page
