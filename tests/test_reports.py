"""Clusters, vectors, states, and the charts and pages that show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import combinations, permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny
from scipy.cluster.hierarchy import linkage as cluster

import rnntool
from rnntool import model_folder
from rnntool.commands import console
from rnntool.commands.cli_errors import option_name
from rnntool.data.records import Judgment, Sentence, Text
from rnntool.errors import DataError, ModelError, RnntoolError, UsageError, with_names
from rnntool.inspection import charts, states, svg, training_report
from rnntool.inspection.word_vectors import Vectors, agreement

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


# --- Pictures ----------------------------------------------------------------------------------------------


def sketch() -> svg.Picture:
    elements = [svg.line([(0, 0), (50, 40)]), svg.box(1, 2, 30, 4, "#00ff00", tooltip="a <box>"),
                svg.dot(9, 9, "#ff0000"),
                svg.label(5, 20, "a < b & $c$ \x07\u202e می\u200cخ \xa0", columns=5)]
    return svg.Picture(60, 50, 'a "title"', elements)


def test_an_svg_is_well_formed_and_loads_nothing() -> None:
    source = sketch().svg()
    root = parsed(source)
    assert [root.find(f".//{SVG}{tag}") is not None for tag in ("polyline", "rect", "circle")] == [True] * 3
    assert root.findtext(f"{SVG}text") == "a < b & $c$ \ufffd\ufffd می\u200cخ \xa0"
    assert root.findtext(f"{SVG}rect/{SVG}title") == "a <box>"
    assert source.count("http") == 1, "the namespace, and nothing that would be fetched"


def test_pictures_are_written_in_the_format_of_the_suffix(tmp_path: Path) -> None:
    for name in ("a.svg", "a.HTML"):
        svg.write(sketch(), str(tmp_path / name))
    assert parsed((tmp_path / "a.svg").read_text()).tag == f"{SVG}svg"
    assert (tmp_path / "a.HTML").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(RnntoolError, match=r"lost/a\.svg: can't be written"):
        svg.write(sketch(), str(tmp_path / "lost" / "a.svg"))


@pytest.mark.parametrize("name", ["a.png", "a.gif", "svg"])
def test_other_formats_are_refused_with_advice(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^output: .* \.svg or \.html, found '{name}'; .* rsvg-convert"):
        svg.check_path(name)


@pytest.mark.parametrize(("low", "high"), [
    (0, 1), (3.2, 3.3), (-5, 1200), (1e-6, 3e-6), (2, 2), (0, 9.99), (0, 1e-9), (2.302585090, 2.302585092),
    (100, 100.0000001)])
def test_ticks_enclose_the_data(low: float, high: float) -> None:
    ticks = charts.ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))


def test_decades_enclose_the_data_and_leave_out_the_smallest() -> None:
    assert charts.decades(0.02, 1.0) == [0.01, 0.1, 1.0]
    assert charts.decades(1.0, 1.0) == [0.1, 1.0]
    assert charts.decades(0.0, 1.0) == [10.0**i for i in range(-9, 1)]


def test_a_curve_goes_through_its_points() -> None:
    picture = charts.curves("t", {"a": [(0, 0), (5, 1), (10, 0.5)]}, x_name="x", y_name="y",
                            caption="why " * 60)
    root = parsed(picture.svg())
    curve = root.findall(f"{SVG}polyline")[-1].attrib["points"]
    assert curve == "70.0,355.0 345.0,40.0 620.0,197.5"
    assert len(root.findall(f"{SVG}circle")) == 3
    below = [float(text.attrib["y"]) for text in root.findall(f"{SVG}text") if "why" in str(text.text)]
    assert len(below) == 3
    assert 400 < min(below) < max(below) < picture.height, "the caption is below the axes"


def test_curves_differ_in_color_and_dashes_and_are_named() -> None:
    data = {name: [(0.0, 0.0), (1.0, float(i))] for i, name in enumerate("abc")}
    picture = charts.curves("t", data, x_name="x", y_name="y")
    root = parsed(picture.svg())
    lines = root.findall(f"{SVG}polyline")[-6:]  # each in the chart and in the legend
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == 3
    assert len({line.get("stroke-dasharray") for line in lines}) == 3
    assert {"a", "b", "c"} <= {text.text for text in root.findall(f"{SVG}text")}


def test_labels_do_not_overlap_where_there_is_room() -> None:
    points = [(100.0, 100.0), (104.0, 101.0), (100.0, 104.0), (595.0, 100.0)]
    frame = (0.0, 0.0, 600.0, 400.0)
    corners = charts.label_places(points, [60.0] * 4, frame)
    assert corners[3] == (528, 104), "to the left, because the frame ends on the right"
    boxes = [(x, y - 9, x + 60, y + 2) for x, y in corners]
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_width_of_a_label_depends_on_its_letters() -> None:
    assert charts.text_width("ill") < charts.text_width("one") < charts.text_width("WWW")
    assert charts.text_width("日本") == 24.0


def test_labels_keep_off_the_lines_between_points() -> None:
    points = [(100.0, 200.0), (500.0, 190.0)]
    (x, y), _ = charts.label_places(points, [60.0, 60.0], (0.0, 0.0, 600.0, 400.0), lines=[tuple(points)])
    assert x + 60 <= 98 or y <= 196 or y - 10 >= 202, "the line would cross the label on the right"


def test_a_vanishing_curve_ends_where_it_leaves_the_picture() -> None:
    picture = charts.curves("t", {"a": [(0, 1.0), (1, 1e-5), (2, 0.0)]}, x_name="x", y_name="y", log=True)
    assert len(parsed(picture.svg()).findall(f"{SVG}circle")) == 2


def test_a_tree_has_room_for_long_names() -> None:
    merges = np.array([[0.0, 1.0, 1.0, 2.0]])
    short, long = (charts.dendrogram("t", ["a", name], merges) for name in ("b", "b" * 200))
    for picture in (short, long):
        root = parsed(picture.svg())
        lines = [float(point.split(",")[0]) for line in root.findall(f"{SVG}polyline")
                 for point in line.attrib["points"].split()]
        (name,) = (text for text in root.findall(f"{SVG}text") if str(text.text)[0] == "b")
        assert 0 <= min(lines) < max(lines) <= float(name.attrib["x"]) < picture.width


def test_colors_of_a_terminal_stay_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    console.colored_text("one", "a\rb\x0cc", [(4, 5)], [(1, 2, 3)])
    assert "a\ufffdb\ufffd\x1b[" in capsys.readouterr().out


def test_colored_text_breaks_lines_where_the_text_does() -> None:
    text = "ab cd\n" + "x" * 99 + " yz"
    spans = [(0, 2), (3, 5), (6, 105), (106, 108)]
    pieces = list(charts.text_layout(text, spans))
    assert [(column, row, piece[:2]) for _, column, row, piece in pieces] == [
        (0, 0, "ab"), (3, 0, "cd"), (0, 1, "xx"), (0, 2, "yz")]
    root = parsed(charts.colored_texts("t", text, spans, {"one": [0, 1, -1, 0.5]}).svg())
    colors = [box.attrib["fill"] for box in root.findall(f"{SVG}rect")]
    assert colors[-4:] == ["#ffffff", "#f48760", "#60a5dc", "#fac3b0"]
    scale = colors[:-4]
    assert (scale[0], scale[len(scale) // 2], scale[-1]) == ("#60a5dc", "#ffffff", "#f48760")
    assert {"-1", "0", "+1"} <= {label.text for label in root.findall(f"{SVG}text")}
    (underline,) = root.findall(f"{SVG}polyline")
    assert underline.attrib["points"].split()[0].startswith("20.0,"), "of the negative token alone"


# --- Clusters ----------------------------------------------------------------------------------------------


def test_two_planted_groups_are_found() -> None:
    rng = np.random.default_rng(1)
    names = ["dog", "run", "cat", "eat", "cow", "see"]
    centers = {True: np.full(5, 3.0), False: np.full(5, -3.0)}
    vectors = np.stack([centers[name in ("dog", "cat", "cow")] + rng.normal(0, 0.3, 5) for name in names])
    linkage = cluster(vectors, "average")
    lines = charts.text_tree(names, linkage)
    order = [line.split("─ ")[1] for line in lines]
    assert {frozenset(order[:3]), frozenset(order[3:])} == {
        frozenset(("dog", "cat", "cow")), frozenset(("run", "eat", "see"))}
    assert linkage[-1, 2] > 5 * linkage[-2, 2]
    root = parsed(charts.dendrogram("t", names, linkage).svg())
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert [text for text in texts if text in names] == order, "the picture and the text agree"


def test_a_tree_as_text() -> None:
    linkage = cluster(np.array([[0.0], [1.0], [5.0], [9.0]]), "average")
    assert charts.text_tree(list("abcd"), linkage) == ["┬┬─ a", "│└─ b", "└┬─ c", " └─ d"]


# --- Vectors -----------------------------------------------------------------------------------------------


def planted() -> Vectors:
    """Return vectors in which royalty and gender are axes; `car` is unrelated to both."""
    table = {"man": [1, 0, 0, 1], "woman": [-1, 0, 0, 1], "king": [1, 1, 0, 1], "queen": [-1, 1, 0, 1],
             "car": [0, 0, 1, 0]}
    names = list(table)
    return Vectors("planted", names, np.array(list(table.values()), float),
                   lambda word: names.index(word) if word in names else None)


def test_a_planted_analogy_is_found() -> None:
    assert planted().analogy("man", "king", "woman", 5)[0].name == "queen"
    assert {near.name for near in planted().analogy("man", "king", "woman", 5)} == {"queen", "car"}


def test_neighbors_by_cosine() -> None:
    (king,) = planted().neighbors("man", 1)
    assert (planted().names[king.row], king.name, king.cosine) == ("king", "king", pytest.approx(2 / 6**0.5))
    assert len(planted().neighbors("man", 99)) == 4
    with pytest.raises(DataError, match="found 'kings'; similar words: 'king'"):
        planted().neighbors("kings", 2)


def test_the_plane_keeps_distances_where_there_are_only_two_directions() -> None:
    points, share = planted().principal_plane([0, 1, 2, 3])
    rows = planted().rows[[0, 1, 2, 3]]
    assert share == pytest.approx(1.0)
    assert np.linalg.norm(points[0] - points[3]) == pytest.approx(np.linalg.norm(rows[0] - rows[3]), abs=1e-5)


def _two_sided(ranks: list[int], others: list[int]) -> float:
    """Return twice the share of all permutations that agree at least as well, or at least as badly."""
    def distance(order: Sequence[int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(ranks, order, strict=True))
    distances = [distance(order) for order in permutations(others)]
    observed = distance(others)
    tails = (sum(value <= observed for value in distances), sum(value >= observed for value in distances))
    return min(1.0, 2 * min(tails) / len(distances))


def test_spearman_by_hand_and_missing_words_are_counted() -> None:
    angles = {"a": 0, "b": 20, "c": 60, "d": 130, "e": 170}  # degrees: the cosine with a falls from b to e
    names = list(angles)
    radians = np.radians(list(angles.values()))
    vectors = Vectors("planted", names, np.stack([np.cos(radians), np.sin(radians)], axis=1),
                      lambda word: names.index(word) if word in names else None)
    pairs = [Judgment("a", other, score) for other, score in zip("bcdeX", (7, 9, 1, 5, 3), strict=True)]
    result = agreement(vectors, pairs)
    assert (result.missing, len(result.used)) == (["X"], 4)
    assert result.cosines == pytest.approx([math.cos(math.radians(angle)) for angle in (20, 60, 130, 170)])
    # ranks by people 3 4 1 2, by cosine 4 3 2 1: 1 - 6 * sum(d^2) / (n * (n^2 - 1)), Spearman (1904)
    assert result.spearman == pytest.approx(1 - 6 * (1 + 1 + 1 + 1) / (4 * 15))
    assert result.p_value == pytest.approx(_two_sided([3, 4, 1, 2], [4, 3, 2, 1]))
    in_order = agreement(vectors, [Judgment("a", other, -i) for i, other in enumerate("bcd")])
    assert (in_order.spearman, in_order.p_value) == (pytest.approx(1), pytest.approx(2 / 6))
    with pytest.raises(DataError, match="found 2 of 3"):
        agreement(vectors, [pairs[0], pairs[1], pairs[4]])
    with pytest.raises(DataError, match="judgments that differ, found 5 for each of the 3 pairs"):
        agreement(vectors, [Judgment("a", other, 5) for other in "bcd"])
    with pytest.raises(DataError, match="cosines that differ"):
        agreement(vectors, [Judgment("a", "b", score) for score in (1, 2, 3)])


# --- States ------------------------------------------------------------------------------------------------

LINES = ["the baker sings .", "the workful baker paints the teacher .", "", "the"]


@pytest.mark.parametrize("name", ["tagger", "ner", "classifier", "writer"])
def test_states_of_a_text_do_not_depend_on_its_batch(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = rnntool.load(request.getfixturevalue(name), threads=1)
    reader = states.StateReader(model, threads=1)
    encoder = model.config.network.encoder
    records = [Sentence(line.split()) if name in ("tagger", "ner") else Text(line) for line in LINES]
    together = list(reader.read(records))
    assert [read.text for read in together] == LINES
    for record, read in zip(records, together, strict=True):
        (alone,) = reader.read([record])
        np.testing.assert_allclose(alone.states, read.states, atol=1e-5)
        assert read.states.shape == (
            len(read.spans), encoder.hidden * (2 if encoder.bidirectional else 1))
        if name != "writer":
            assert [read.text[a:b] for a, b in read.spans] == read.text.split()


def test_a_stream_carries_its_state_on(models: Path, text_file: Path) -> None:
    out = models / "tiny-stream"
    tiny.train("lm", out, [text_file], dev=[text_file], epochs=1, context="stream")
    model = rnntool.load(out, threads=1)
    first, second = states.StateReader(model, threads=1).read([Text("the baker"), Text("the baker")])
    assert np.abs(first.states - second.states).max() > 1e-3
    again, _ = states.StateReader(model, threads=1).read([Text("the baker"), Text("sings")])
    np.testing.assert_allclose(again.states, first.states, atol=1e-6)


def test_the_state_of_a_word_is_that_of_its_last_token() -> None:
    numbers = np.arange(5.0, dtype=np.float32)[:, None]
    letters = states.TextStates("ab  c", [(i, i + 1) for i in range(5)], numbers)
    by_word = states.word_states(letters, tokens_are_words=False)
    assert [(word, state.tolist()) for word, state in by_word] == [("ab", [1.0]), ("c", [4.0])]
    # the last piece is one byte of a letter
    pieces = states.TextStates("ab cd", [(0, 2), (2, 4), (4, 5), (5, 5)], numbers[:4])
    by_word = states.word_states(pieces, tokens_are_words=False)
    assert [state.tolist() for _, state in by_word] == [[0.0], [3.0]]
    assert [word for word, _ in states.word_states(pieces, tokens_are_words=True)] == ["ab", " c", "d", ""]


def test_words_are_averaged_and_units_ranked(writer: Path) -> None:
    model = rnntool.load(writer, threads=1)
    reads = list(states.StateReader(model, threads=1).read([Text("the baker"), Text("the baker the")]))
    means = states.mean_states(reads, model.task)
    assert [(word, count) for word, (count, _) in means.items()] == [("the", 3), ("baker", 2)]
    rows = [reads[0].states[2], reads[1].states[2], reads[1].states[-1]]
    np.testing.assert_allclose(means["the"][1], np.mean(rows, axis=0), atol=1e-6)
    whole = states.concatenated(reads)
    assert whole.text == "the baker\nthe baker the"
    assert [whole.text[a:b] for a, b in whole.spans] == list("the bakerthe baker the")
    deviations = whole.states.std(axis=0)
    best = states.most_varying(whole.states, 3)
    assert deviations[best].tolist() == sorted(deviations.tolist(), reverse=True)[:3]


# --- The page of a training --------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page, and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.mark.parametrize("name", ["tagger", "joint", "ner", "classifier", "writer"])
def test_the_page_is_complete_and_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    config = model_folder.read_config(folder)
    history = training_report.read_history(folder)
    page = training_report.page(folder.name, config, history)
    tags = Tags()
    tags.feed(page)
    assert not tags.loads
    assert not {"script", "link", "img", "iframe"} & set(tags.tags)
    assert page.count("http") == page.count("http://www.w3.org/2000/svg") == tags.tags.count("svg") >= 3
    assert f"<td>{config.settings.cell}</td>" in page
    figure = config.report[{"lm": "perplexity"}.get(config.task, "accuracy")]
    assert f"{figure:.5g}" in page
    assert page.count('<tr class="best">') == 1
    assert page.count("<circle") >= len(history)


def test_the_page_names_the_data_the_command_and_what_differs_from_the_defaults(
    tmp_path: Path, question_file: Path
) -> None:
    file, out = tmp_path / "two words.tsv", tmp_path / "out"
    file.write_text(tiny.tsv(tiny.questions(40)), "utf-8")
    tiny.train("classify", out, [file], dev=[question_file], epochs=3, tokenizer="word", lower=False,
               freeze=False)
    config, history = model_folder.read_config(out), training_report.read_history(out)
    assert config.training_data == {"train": ["two words.tsv"], "dev": ["dev.tsv"], "reading": {}}
    page = with_names(training_report.page("out", config, history), option_name)
    command = page.split("<pre>")[1].split("</pre>")[0]
    assert command.startswith("rnntool train classify 'two words.tsv' --dev dev.tsv --output out ")
    assert "--no-lower" in command and "--epochs 3" in command and "freeze" not in command
    chosen, defaults = page.split("<h3>Chosen</h3>")[1].split("<details>")
    assert "<td>epochs</td><td>3</td>" in chosen and "<td>lr</td><td>0.02</td>" in chosen
    assert "<td>cell</td>" in defaults and "<td>epochs</td>" not in defaults
    report = config.report
    low, high = report["interval"]
    assert f"{report['accuracy']:.4f} (95% interval: {low:.4f} to {high:.4f})" in page
    assert f"<td>baseline accuracy</td><td>{report['baseline']['accuracy']:.4f} (" in page
    assert f"<code>ece</code> is the mean distance from that: {report['ece']:.4f}, after" in page
    assert 'colspan="3">predicted<' in page and 'rowspan="3"><span>gold<' in page


@pytest.mark.parametrize("name", ["tagger", "writer"])
def test_both_losses_are_in_one_chart(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    history = training_report.read_history(folder)
    page = training_report.page(name, model_folder.read_config(folder), history)
    first = page[page.index("<svg"):page.index("</svg>")]
    assert "<title>Loss</title>" in first and ">training</text>" in first and ">development</text>" in first
    dev = [entry.get("dev_loss") or math.log(entry["perplexity"]) for entry in history]
    for entry, loss in zip(history, dev, strict=True):
        assert f"training: {entry['epoch']:g}, {entry['loss']:.5g}<" in first
        assert f"development: {entry['epoch']:g}, {loss:.5g}<" in first


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


def test_a_heat_map_has_a_scale_of_weights() -> None:
    grid = charts.HeatMap("ab → xy", ["x", "y"], ["a", "b"], np.array([[1.0, 0.0], [0.5, 0.5]]))
    root = parsed(charts.heat_maps("t", [grid]).svg())
    colors = [box.attrib["fill"] for box in root.findall(f"{SVG}rect")]
    assert colors[0] == "#ffffff" and colors[-5] == colors[-4] == "#60a5dc", "from 0 to 1, and then the grid"
    labels = [label.text for label in root.findall(f"{SVG}text")]
    assert {"0", "1"} <= set(labels) and "-1" not in labels
