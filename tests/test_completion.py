"""What a shell completes, and what the help says about presets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Run, invoke, ok

from rnntool.tasks import TASKS


@pytest.mark.parametrize(("line", "names"), [
    ("tag -m tiny-", {"tiny-pos"}),
    ("tag -m other", set()),
    ("info tiny-", {"tiny-pos"}),
    ("evaluate dev.conllu --compare tiny-", {"tiny-pos"}),
    ("train tag in.conllu --init tiny-", {"tiny-pos"}),
    ("train tag in.conllu --preset ", {"fast", "ner", "best"}),
    ("train lm in.txt --preset c", {"char"}),
])
def test_a_shell_completes_models_and_presets(line: str, names: set[str], tagger: Path, run: Run) -> None:
    words = f"rnntool {line}"
    ran = run(RNNTOOL_MODELS=str(tagger.parent), _RNNTOOL_COMPLETE="complete_bash", COMP_WORDS=words,
              COMP_CWORD=str(words.count(" ")), python=("-c", "import sys; sys.argv = ['rnntool']; "
                                                        "from rnntool.cli import main; main()"))
    assert names <= set(ok(ran).split()) if names else not ok(ran).strip()
    others = set(ok(ran).split()) - names
    assert all(other.startswith("tiny-") for other in others), "models of other tests may be there as well"


@pytest.mark.parametrize("task", TASKS)
def test_the_help_lists_presets(task: str) -> None:
    text = re.sub(r"\s+", " ", invoke("train", task, "--help").out)
    for name, use in TASKS[task].preset_uses.items():
        assert f"--preset {name}: {use}" in text
