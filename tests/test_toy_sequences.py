"""Toy tasks whose answers follow from a rule are learned to 100 %, on records that training never saw."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tiny

Rows = list[tuple[str, str]]


def copies(n: int, seed: int) -> Rows:
    """Generate words that are to be copied."""
    rng = random.Random(seed)
    words = ("".join(rng.choices("abcdefgh", k=rng.randint(1, 6))) for _ in range(n))
    return [(word, word) for word in words]


def long_additions(n: int, seed: int) -> Rows:
    """Generate sums of two numbers, as they are added on paper: column by column, from the right.

    A symbol of the source is a column with a digit of each number: `27 15` are 52 and 71 with the sum 123,
    whose digits are the target in the same order, `321`.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        size = rng.randint(1, 4)
        one, other = rng.randrange(10**size), rng.randrange(10**size)
        digits = (f"{number:0{size}}"[::-1] for number in (one, other))
        rows.append((" ".join(map("".join, zip(*digits, strict=True))), str(one + other)[::-1]))
    return rows


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("rule", "count", "settings"), [
    (copies, 2000, {"epochs": 8, "hidden": 48, "embed": 16, "attention": "dot"}),
    (long_additions, 2500, {"epochs": 9, "hidden": 64, "embed": 24, "tokenizer": "space",
                            "target_tokenizer": "char"}),
], ids=["copy", "long addition"])  # fmt: skip
def test_a_rule_is_learned(rule: Any, count: int, settings: dict[str, Any], tmp_path: Path) -> None:
    rows = rule(count, seed=1)
    unseen = [row for row in dict.fromkeys(rule(400, seed=2)) if row not in set(rows)]
    assert len(unseen) > 100
    (tmp_path / "train.tsv").write_text(tiny.pairs(rows))
    (tmp_path / "dev.tsv").write_text(tiny.pairs(unseen))
    report = tiny.train("transduce", tmp_path / "m", [tmp_path / "train.tsv"], dev=[tmp_path / "dev.tsv"],
                        dropout=0.0, **settings)
    assert report["exact_match"] == 1 and report["symbol_error_rate"] == 0
