"""Search spaces: the values that a study may try for each setting. Knows no optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rnntool.data.options import checked, value_types
from rnntool.errors import UsageError, setting, suggestion
from rnntool.tasks.specs.settings import Settings

PANELS = ("Network", "Training")  # of the settings that can be searched; all trials read the same data
# settings that name files, change what is compared, or have no best value
FIXED = ("vectors", "vectors_limit", "init", "freeze", "unfreeze_every", "features", "passage", "max_time",
         "seed", "sample_every", "evaluations")
FORM = "NAME=A,B,… or NAME=LOW:HIGH or NAME=LOW:HIGH:log"


@dataclass(frozen=True)
class Choices:
    """A setting that has one of several values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A setting that has a number of a range, both ends included; with `log`, on a logarithmic scale."""

    low: float
    high: float
    whole: bool
    log: bool = False


Space = Mapping[str, Choices | Range]


def read_space(texts: Mapping[str, str], settings: Settings) -> dict[str, Choices | Range]:
    """Read the values of each setting: `100,200,400`, `0.1:0.5` or `0.001:0.01:log`.

    A number that ends with `x` is a multiple of the value in `settings`. `UsageError` for a setting that
    can't be searched, and for values that it can't have.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    names = [name for name, field in fields.items()
             if field.metadata["panel"] in PANELS and name not in FIXED]
    space: dict[str, Choices | Range] = {}
    for name, text in texts.items():
        if name in fields and name not in names:
            raise UsageError(f"{name} can't be searched, because all trials share it", setting="search",
                             advice="name a setting of the network or of the training")
        if name not in fields:
            raise UsageError(f"unknown setting {name!r}", setting="search", advice=suggestion(name, names))
        kind, base = value_types(type(settings))[name], getattr(settings, name)
        low, colon, rest = text.partition(":")
        if not colon:
            values = tuple(dict.fromkeys(
                checked(fields[name], kind, _value(name, kind, part, base)) for part in text.split(",")))
            if len(values) < 2:
                raise UsageError(setting="search", expected=f"several values of {name}", found=repr(text),
                                 advice=f"give one value with {setting(name, text)}")
            space[name] = Choices(values)
            continue
        high, colon, scale = rest.partition(":")
        if kind not in (int, float) or (colon and scale != "log"):
            raise UsageError(setting="search", expected=FORM, found=repr(f"{name}={text}"))
        least, most = (checked(fields[name], kind, _value(name, kind, part, base)) for part in (low, high))
        if not least < most or (scale and least <= 0):
            raise UsageError(setting="search", found=repr(f"{name}={text}"),
                             expected="a lower and a higher number" + (" above 0" if scale else ""))
        space[name] = Range(least, most, whole=kind is int, log=bool(scale))
    return space


def split_texts(texts: Iterable[str]) -> dict[str, str]:
    """Split each `NAME=VALUES`; `UsageError` for another form or for a name that comes twice."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not (name and equals and value.strip()):
            raise UsageError(setting="search", expected=FORM, found=repr(text))
        if name in values:
            raise UsageError(setting="search", expected=f"{name} once", found="it twice")
        values[name] = value.strip()
    return values


def _value(name: str, kind: type, text: str, base: Any) -> Any:
    """Read one value of a setting of this type."""
    text = text.strip()
    try:
        if kind in (int, float) and text.endswith("x"):
            multiple = float(text[:-1]) * base
            return max(1, round(multiple)) if kind is int else multiple
        if kind is bool:
            return {"true": True, "false": False}[text]
        return kind(text)
    except (ValueError, TypeError, KeyError):
        expected = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, FORM)
        raise UsageError(setting="search", expected=f"{expected} for {name}", found=repr(text)) from None
