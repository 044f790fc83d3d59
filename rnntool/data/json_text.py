"""JSON as RFC 8259 defines it, without the NaN and Infinity that Python's `json` writes by default."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rnntool.errors import DataError

_LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return results as JSON. A number that is not finite, such as the perplexity e^1000, becomes null."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent) if indent else _LINE
    try:
        return encoder.encode(value)
    except ValueError:
        return encoder.encode(_with_nulls(value))


def json_line(fields: Mapping[str, Any], *, source: Any, place: str) -> str:
    """Return a line with one object. `source` has the fields of the record that was read at `place`.

    A computed number that is not finite becomes null. In a field that was read, such a number raises
    `DataError`, because JSON can't hold it and null would lose it.
    """
    try:
        return _LINE.encode(fields) + "\n"
    except ValueError:
        for key, value in source.items() if isinstance(source, dict) else ():
            if fields.get(key) is value and (found := _not_finite(value)) is not None:
                raise DataError(
                    place=place, expected=f"numbers that JSON can hold in {key!r}",
                    found="NaN" if math.isnan(found) else "infinity or a number beyond 1.8e308",
                    advice="write null or a string instead") from None
        return _LINE.encode(_with_nulls(fields)) + "\n"


def _not_finite(value: Any) -> float | None:
    """Return the first number in a value that is not finite; None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((found for found in map(_not_finite, items) if found is not None), None)


def _with_nulls(value: Any) -> Any:
    """Replace each number that is not finite by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    return list(map(_with_nulls, value)) if isinstance(value, list | tuple) else value
