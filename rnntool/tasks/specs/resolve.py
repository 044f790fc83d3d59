"""Combine settings from the command line, variables, a TOML file, a preset and defaults."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnntool.data.options import checked, value_types, variable
from rnntool.errors import UsageError, setting, suggestion
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec

OTHER_VARIABLES = ("RNNTOOL_MODELS", "RNNTOOL_MODEL", "RNNTOOL_DEVICE", "RNNTOOL_THREADS")


def resolve(
    spec: TaskSpec, given: Mapping[str, Any], *, preset: str | None = None, file: Path | None = None,
    inherit: Callable[[Settings], Mapping[str, Any]] | None = None, dev: Sequence[str] = (),
) -> Settings:
    """Combine the settings of a training. A setting takes its value from the first of these that has one:

    1. `given` on the command line or in variables (None means not given)
    2. the TOML `file`
    3. the `preset`
    4. what `inherit` returns for these settings, such as the sizes of a pretrained model
    5. without a preset, the task's recipe for these settings
    6. the defaults

    Raises `UsageError` for a setting from 1 or 2 that has no effect together with the other settings and the
    `dev` files.
    """
    base = dict(spec.preset(preset)) if preset else {}
    chosen = read_file(spec.settings, file) if file else {}
    chosen |= {name: value for name, value in given.items() if value is not None}
    settings = spec.settings(**{**base, **chosen})
    if inherit is not None:
        base = {**inherit(settings), **base}
    if preset is None:
        base = {**spec.recipe(settings, {*base, *chosen}), **base}
    settings = spec.settings(**{**base, **chosen})
    _check_effects(settings, chosen, {**settings.to_json(), "dev": dev})
    return settings


def read_file(kind: type[Settings], path: Path) -> dict[str, Any]:
    """Read settings from a TOML file; a key may have `-` or `_` between its words."""
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"can't be read ({error.strerror})", place=path, advice="give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"is not a TOML file ({error})", place=path) from None
    fields, kinds = {field.name: field for field in dataclasses.fields(kind)}, value_types(kind)
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise UsageError(place=path, expected="all settings at the top level", found=f"the table [{key}]",
                             advice="remove its heading")
        if name not in fields:
            raise UsageError(f"unknown setting {key!r}", place=path,
                             advice=suggestion(name, fields).replace("_", "-"))
        if name in settings:
            raise UsageError(place=path, expected=f"{key!r} once", found="it twice, with - and with _",
                             advice="leave one out")
        parse = fields[name].metadata["parse"]
        try:
            settings[name] = checked(
                fields[name], kinds[name], parse(value) if parse and isinstance(value, str) else value)
        except UsageError as error:
            error.place = str(path)
            raise
    return settings


def effective(settings: Settings, names: Iterable[str], *, dev: Sequence[str]) -> Iterator[str]:
    """Yield the settings of these names that have an effect together with the others and the `dev` files."""
    for name in names:
        try:
            _check_effects(settings, [name], {**settings.to_json(), "dev": dev})
        except UsageError:
            continue
        yield name


def _check_effects(settings: Settings, chosen: Iterable[str], values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for the first of the `chosen` settings that has no effect with these `values`."""
    fields, unused = {field.name: field for field in dataclasses.fields(settings)}, settings.unused()
    for name in chosen:
        if name in unused and _is_on(settings, name, values[name]):
            raise UsageError(f"has no effect with {unused[name]}", setting=name, advice="leave it out")
        for other, condition in fields[name].metadata["requires"].items():
            # A setting left at its "off" value never conflicts. A task may lack the other setting.
            if not _is_on(settings, name, values[name]) or other not in values:
                continue
            value = values[other]
            if condition is True and not _is_on(settings, other, value):
                raise UsageError(f"needs {setting(other)}", setting=name,
                                 advice=f"give {setting(other)}, or leave it out")
            if condition is False and _is_on(settings, other, value):
                raise UsageError(f"has no effect with {setting(other)}", setting=name, advice="leave one out")
            if not isinstance(condition, bool) and value not in condition:
                least = isinstance(condition, range)
                needed = f"{condition[0]} or more" if least else " or ".join(map(str, condition))
                raise UsageError(f"needs {setting(other, needed)}, found {setting(other, value)}",
                                 setting=name, advice="leave it out")


def _is_on(settings: Settings, name: str, value: Any) -> bool:
    """Return whether a value switches something on; 0, `none` and a switch that is off by default don't."""
    if isinstance(value, bool):
        return value or bool(getattr(type(settings), name))
    return bool(value) and value != "none"


def unused_variables(kinds: Iterable[type[Settings]]) -> Iterator[str]:
    """Yield a warning for each `RNNTOOL_…` environment variable that no setting of these `kinds` has."""
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    valid = {*OTHER_VARIABLES, *map(variable, names)}
    for name in sorted(name for name in os.environ if name.startswith("RNNTOOL_") and name not in valid):
        yield f"{name}: no setting has this name, so it is ignored; {suggestion(name, valid)}"
