"""How is a config written down and read back? Exactly: unknown or ill-typed fields are errors that name a remedy."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` where a known name is near, else the list of known names."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"


def to_json(config: object) -> dict[str, Any]:
    """A frozen dataclass as plain JSON values (tuples become lists; nested configs carry their type's name)."""
    return json.loads(json.dumps(_plain(config), sort_keys=True))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def from_json(cls: type[T], data: dict[str, Any]) -> T:
    """The config that `to_json` wrote. Raises ValueError for a wrong type, an unknown field or a bad value."""
    if data.get("type", cls.__name__) != cls.__name__:
        raise ValueError(f"config of type {data['type']!r}: expected {cls.__name__!r}")
    hints = get_type_hints(cls)
    fields = {name: value for name, value in data.items() if name != "type"}
    for name in fields:
        if name not in hints:
            raise ValueError(f"{cls.__name__}: unknown field {name!r}; {nearest(name, list(hints))}")
    values = {name: _read(hints[name], value, f"{cls.__name__}.{name}") for name, value in fields.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def _read(hint: Any, value: Any, where: str) -> Any:
    choices: dict[str, type] = {
        c.__name__: c
        for c in (get_args(hint) or (hint,))
        if isinstance(c, type) and dataclasses.is_dataclass(c)
    }
    if isinstance(value, list) and choices and get_origin(hint) is tuple:
        return tuple(_read(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict) and choices:
        kind = value.get("type", next(iter(choices)) if len(choices) == 1 else None)
        if kind not in choices:
            raise ValueError(f"{where} of type {kind!r}: expected one of {', '.join(choices)}")
        return from_json(choices[kind], value)
    if isinstance(value, dict | list) and (choices or isinstance(value, dict)):
        raise ValueError(f"{where} = {value!r}: expected {hint}")
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ValueError(f"{where} = {value!r}: {error.errors()[0]['msg'].lower()}") from None


def check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} = {value}: expected a probability between 0 and 1")


def check_positive(**values: int | float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value}: expected a finite number above 0")


def check_not_negative(**values: int | float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} = {value}: expected a finite number of at least 0")
