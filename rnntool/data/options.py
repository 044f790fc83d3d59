"""Options as dataclass fields: the name, type, default, range and help of each are in one place.

The options of the command line, the keys of a TOML file and the parameters of the Python interface are these
fields, and the same code checks them all. Does not know what an option does.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from rnntool.errors import UsageError, suggestion

# What an option requires of another one: one of some values, any value (True), or no value (False).
Condition = tuple[str, ...] | range | bool

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def option(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    parse: Callable[[str], Any] | None = None,
    check: Callable[[Any], Any] | None = None,
    metavar: str | None = None,
    flags: tuple[str, ...] = (),
    switches: Mapping[str, str] | None = None,
    variable: str | None = None,
    shown_default: str | None = None,
    requires: Mapping[str, Condition] | None = None,
) -> Any:
    """Declare a field of an options dataclass.

    `low` and `high` are inclusive bounds of a number. `parse` converts the text that a user typed to the
    value. `check` raises `UsageError` for a value that the bounds can't exclude. `requires` gives the values
    of other options without which this one has no effect.

    The other parameters are for the command line: `panel` groups options in the help, `flags` replaces the
    flag that is made from the name, `switches` maps flags without a value to the choice that each stands for,
    `variable` is an environment variable for the value, and `shown_default` describes a default that is
    computed later.
    """
    metadata = {
        "help": help, "panel": panel, "choices": choices, "low": low, "high": high, "parse": parse,
        "check": check, "metavar": metavar, "flags": flags, "switches": switches or {}, "variable": variable,
        "shown_default": shown_default, "requires": requires or {},
    }
    return dataclasses.field(default=default, metadata=metadata)


# each declares a setting of a training and puts it into a panel of the help
data, network, training, output = (
    partial(option, panel=panel) for panel in ("Data", "Network", "Training", "Output"))


@dataclass(frozen=True, kw_only=True)
class Options:
    """Frozen options that check their values; `UsageError` names the wrong field."""

    def __post_init__(self) -> None:
        kinds = value_types(type(self))
        for field in dataclasses.fields(self):
            value = checked(field, kinds[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    def replace(self, **changes: Any) -> Self:
        """Copy with some fields changed, and check again; `UsageError` for a field that doesn't exist."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise UsageError(f"unknown option {name!r}", advice=suggestion(name, names))
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return dataclasses.asdict(self)

    def chosen(self) -> list[str]:
        """Return the names of all fields that differ from their defaults."""
        return [name for name, value in self.to_json().items() if value != getattr(type(self)(), name)]


def with_default(kind: type[Options], name: str, default: Any, **changes: Any) -> Any:
    """Redeclare the field `name` of `kind` with another default and changed metadata."""
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=default, metadata={**field.metadata, **changes})


def value_types(kind: type[Options]) -> dict[str, type]:
    """Return the plain type of each field: `int` for `int | None`."""
    hints = typing.get_type_hints(kind)
    return {field.name: _without_none(hints[field.name]) for field in dataclasses.fields(kind)}


def checked(field: dataclasses.Field[Any], kind: type, value: Any) -> Any:
    """Return a value, converted to the type of its field; `UsageError` says what was expected."""
    if value is None and field.default is None:
        return None
    if kind is float and type(value) is int:
        value = float(value)
    if kind in _TYPE_NAMES and type(value) is not kind:
        raise UsageError(setting=field.name, expected=_TYPE_NAMES[kind], found=repr(value))
    choices, low, high, check = (field.metadata.get(key) for key in ("choices", "low", "high", "check"))
    if choices and value not in choices:
        raise UsageError(setting=field.name, expected=f"one of {', '.join(choices)}", found=repr(value))
    infinite = isinstance(value, float) and not math.isfinite(value)
    if (low is not None and value < low) or (high is not None and value > high) or infinite:
        raise UsageError(setting=field.name, expected=number_range(kind, low, high), found=value)
    return value if check is None else check(value)


def variable(name: str) -> str:
    """Return the environment variable for a setting."""
    return f"RNNTOOL_{name.upper()}"


def number_range(kind: type, low: float | None, high: float | None) -> str:
    """Describe the numbers that an option allows, such as `a whole number of at least 1`."""
    name = _TYPE_NAMES.get(kind, "a value")
    if low is not None and high is not None:
        return f"{name} from {low:g} to {high:g}" if abs(high) < 1e6 else f"{name} from {low} to {high}"
    if low is not None:
        return f"{name} of at least {low:g}"
    return name if high is None else f"{name} of at most {high:g}"


def _without_none(hint: Any) -> type:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return typing.cast(type, next(part for part in parts if part is not type(None)))
