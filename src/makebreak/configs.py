"""Configs as JSON: frozen dataclasses with stable names, written and read back exactly.

Names in store keys are those of `tag` and `key_name`, not those of the code, so that classes and fields may
be renamed.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
MAX_SEED = 2**32 - 1
"""Largest seed of the command line's options."""
_MAX_NAMES = 20  # names that an error lists
_NO_VALUE = object()


def nearest(name: str, options: list[str]) -> str:
    """End of an error message: the valid name most like the given one, or the list of all valid names."""
    matches = difflib.get_close_matches(name, options, n=1)
    if matches:
        return f"did you mean {matches[0]!r}?"
    rest = f" and {len(options) - _MAX_NAMES} more" if len(options) > _MAX_NAMES else ""
    return f"expected one of {', '.join(options[:_MAX_NAMES])}{rest}"


def tag(cls: type) -> str:
    """The stable name of a config class in store keys: its class variable `tag`, else the class's own name.

    A class that is renamed keeps its tag, so that what was stored under the old name is still found.
    """
    return str(getattr(cls, "tag", cls.__name__))


def key_name(field: dataclasses.Field) -> str:
    """The stable name of a config field in store keys: `metadata["key"]`, else the field's own name."""
    return str(field.metadata.get("key", field.name))


def to_json(config: object) -> dict[str, Any]:
    """Plain JSON values of a frozen dataclass, with the stable names of its classes and fields.

    Args:
        config: A dataclass instance; its fields are numbers, strings, None, tuples, mappings or other
            configs. A field with `metadata["omit"]`, added after results were stored, is left out where it
            has that value.

    Returns:
        A dictionary from `key_name` to value, with the class's `tag` under "type"; tuples become lists.
    """
    return json.loads(json.dumps(_plain(config), sort_keys=True))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        _check_decorated(type(value))
        values = {f: getattr(value, f.name) for f in dataclasses.fields(value)}
        fields = {key_name(f): _plain(v) for f, v in values.items() if v != f.metadata.get("omit", _NO_VALUE)}
        return {"type": tag(type(value))} | fields
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _check_decorated(cls: type) -> None:
    """Raises ValueError if a subclass of a config has settings that are no fields, and so in no key."""
    names = {field.name for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    for name, hint in inspect.get_annotations(cls).items():
        if name not in names and "ClassVar" not in str(hint):
            raise ValueError(
                f"{cls.__name__}.{name} is no field: decorate the class with @dataclass(frozen=True)"
            )


def from_json(cls: type[T], data: dict[str, Any]) -> T:
    """The config that `to_json` wrote.

    Args:
        cls: The config's class.
        data: The dictionary that `to_json` returned, or one like it.

    Returns:
        An instance that equals the one written.

    Raises:
        ValueError: If the type is another one, a field is unknown, missing or of a wrong type, or the class
            refuses a value.
    """
    if data.get("type", tag(cls)) != tag(cls):
        raise ValueError(f"config of type {data['type']!r}: expected {tag(cls)!r}")
    hints, names = _schema(cls)
    fields: Any = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    values: dict[str, Any] = {f.name: f.metadata["omit"] for f in fields if "omit" in f.metadata}
    for key, value in data.items():
        if key == "type":
            continue
        if key not in names:
            raise ValueError(f"{tag(cls)}: unknown field {key!r}; {nearest(key, list(names))}")
        values[names[key]] = _read(hints[names[key]], value, f"{tag(cls)}.{key}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{tag(cls)}: {error}") from None


@cache
def _schema(cls: type) -> tuple[dict[str, Any], dict[str, str]]:
    """Type hints by field name, and field names by stable name."""
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]  (every config is a dataclass)
    return get_type_hints(cls), {key_name(field): field.name for field in fields}


@cache
def _adapter(hint: Any) -> TypeAdapter:
    from pydantic import TypeAdapter  # slow to import; only reading a config needs it

    return TypeAdapter(hint)


def _read(hint: Any, value: Any, path: str) -> Any:
    """A field's value, checked against its type hint; `path` names it in errors."""
    from pydantic import ValidationError

    classes, of_tuple = _config_classes(hint)
    if isinstance(value, list) and classes and of_tuple:
        return tuple(_read(get_args(hint)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict) and classes:
        cls = _config_class(classes, value, path)
        return _read_leaf(cls, json.dumps(value)) if _is_leaf(cls) else from_json(cls, value)
    is_no_config = any(map(_is_open, classes)) and value is not None  # of which pydantic knows no schema
    if is_no_config or (isinstance(value, dict | list) and (classes or isinstance(value, dict))):
        raise ValueError(f"{path} = {value!r}: expected {hint}")
    try:
        return _read_plain(hint, json.dumps(value))
    except ValidationError as error:
        raise ValueError(f"{path} = {value!r}: {error.errors()[0]['msg'].lower()}") from None


@cache
def _config_classes(hint: Any) -> tuple[list[Any], bool]:
    """Classes of configs that a hint allows, and whether it is of a tuple."""
    members = get_args(hint) or (hint,)
    classes = [c for c in members if isinstance(c, type) and (dataclasses.is_dataclass(c) or _is_open(c))]
    return classes, get_origin(hint) is tuple


@cache
def _is_leaf(cls: type) -> bool:
    """Whether no field of a config is a config, so that equal JSON always is an equal object."""
    return not any(_config_classes(hint)[0] for hint in _schema(cls)[0].values())


@lru_cache(maxsize=4096)
def _read_leaf(cls: type, text: str) -> Any:
    """The config of JSON; many models of a store have the same optimiser or the same size."""
    return from_json(cls, json.loads(text))


@lru_cache(maxsize=4096)
def _read_plain(hint: Any, text: str) -> Any:
    """A value that is no config, from JSON; raises ValidationError. Hints admit immutable values only."""
    return _adapter(hint).validate_json(text, strict=True)


def _is_open(cls: type) -> bool:
    """Whether a class is an abstract config, whose subclasses its method `config_class` finds by name."""
    return inspect.isabstract(cls) and hasattr(cls, "config_class")


def _config_class(classes: list[Any], value: dict[str, Any], path: str) -> type:
    """The class of a config: one of those that a field may have, or a subclass of an open one."""
    choices = {tag(c): c for c in classes if not _is_open(c)}
    # a type may be left out where one class is meant: the only one, or that from which the others derive
    parents = [name for name, c in choices.items() if all(issubclass(other, c) for other in classes)]
    name = value.get("type", parents[0] if parents else None)
    if name in choices:
        return choices[name]
    open_class = next(filter(_is_open, classes), None)
    if open_class is None:
        raise ValueError(f"{path} of type {name!r}: expected one of {', '.join(choices)}")
    try:
        return open_class.config_class(str(name))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_probability(name: str, value: float) -> None:
    """Raises ValueError unless the value of the named setting lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} = {value}: expected a probability between 0 and 1")


def check_positive(**values: int | float) -> None:
    """Raises ValueError unless every named setting is finite and above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value}: expected a finite number above 0")


def check_not_negative(**values: int | float) -> None:
    """Raises ValueError unless every named setting is finite and at least 0."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} = {value}: expected a finite number of at least 0")


def check_at_most(limit: int | float, **values: int | float) -> None:
    """Raises ValueError if a named setting exceeds a limit beyond which nothing is computed in any time."""
    for name, value in values.items():
        if value > limit:
            raise ValueError(f"{name} = {value}: expected at most {limit:,}")


def check_seed(seed: int) -> None:
    """Raises ValueError unless a seed is one that NumPy, PyTorch and scikit-learn all accept."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed = {seed}: expected an integer from 0 to {MAX_SEED}")


def check_text(**values: str | None) -> None:
    """Raises ValueError if a named setting is a text that cannot be written in UTF-8."""
    for name, value in values.items():
        if value is not None and value.encode("utf-8", "replace").decode() != value:
            raise ValueError(f"{name} = {value!r}: expected text in UTF-8")
