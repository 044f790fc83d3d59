"""Reports on standard output."""

from __future__ import annotations

import json
from typing import Any

from rnntool.data.streams import open_output


def show(report: Any, as_json: bool, text: str, *, indent: int | None = 2) -> None:
    """A report on standard output, in UTF-8 as all output is: in JSON, or as `text` for people."""
    with open_output(None) as out:
        out.write(json.dumps(report, ensure_ascii=False, indent=indent) + "\n" if as_json else text)
