#!/usr/bin/env python3
"""Other tools, for comparison: `peers.py TOOL TRAIN TEST` trains a model and prints its predictions.

Records are lines of JSON with `text` and `label`, or with `tokens` and `tags`. The prediction for each record
of TEST is a line of JSON. It needs scikit-learn, fasttext or python-crfsuite, and not rnntool.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import crfsuite

Records = list[dict[str, Any]]


def tf_idf(train: Records, test: Records) -> Iterable[str]:
    """Predict labels by logistic regression on TF-IDF of words, word pairs and runs of 2 to 5 characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=500))
    model.fit([record["text"] for record in train], [record["label"] for record in train])
    return map(str, model.predict([record["text"] for record in test]))


def fast_text(train: Records, test: Records) -> Iterable[str]:
    """Predict labels by fastText with word pairs and runs of 2 to 5 characters."""
    import fasttext

    fasttext.FastText.eprint = lambda *_: None  # a warning whenever a model is made
    labels = sorted({record["label"] for record in train})
    texts = [" ".join(record["text"].split()) for record in test]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        for record in train:
            print(f"__label__{labels.index(record['label'])}", *record["text"].split(), file=file)
        file.flush()
        # one thread, because the results of several vary
        model = fasttext.train_supervised(
            file.name, lr=0.5, epoch=25, wordNgrams=2, minn=2, maxn=5, thread=1, verbose=0)
    predicted = (names[0] if names else "__label__0" for names in model.predict(texts)[0])  # none if empty
    return (labels[int(name.removeprefix("__label__"))] for name in predicted)


def crf(train: Records, test: Records) -> Iterable[list[str]]:
    """Predict tags by CRFsuite."""
    import pycrfsuite

    with tempfile.TemporaryDirectory() as name:
        model = str(Path(name) / "model")
        crfsuite.train(pycrfsuite, ((record["tokens"], record["tags"]) for record in train), model)
        tagger = pycrfsuite.Tagger()
        tagger.open(model)
        return [tagger.tag(crfsuite.features(record["tokens"])) for record in test]


TOOLS = {"TF-IDF": tf_idf, "fastText": fast_text, "CRFsuite": crf}


def main() -> None:
    """Print a prediction for each record of the test file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    options = parser.parse_args()
    train, test = ([json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
                   for path in (options.train, options.test))
    for prediction in TOOLS[options.tool](train, test):
        print(json.dumps(prediction))


if __name__ == "__main__":
    main()
