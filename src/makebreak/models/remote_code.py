"""Refusal of model folders that ask for Python code of their own to be run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from makebreak.errors import InvalidInput
from makebreak.models.config_checks import nested_items

SETTINGS_FILES = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "generation_config.json",
)
"""Files of a Hugging Face folder in which `auto_map` names classes of the folder's own Python files."""


def check_no_remote_code(folder: Path) -> None:
    """Raises InvalidInput if a settings file of the folder has `auto_map`.

    Transformers would ask on a terminal whether to run that code, and run it after "y". Files that are
    missing or no JSON are left to the functions that load them.
    """
    for name in SETTINGS_FILES:
        path = folder / name
        try:
            settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(settings, dict):
            check_no_auto_map(settings, path)


def check_no_auto_map(settings: Mapping[str, Any], path: Path) -> None:
    """Raises InvalidInput if settings, or settings within them, have `auto_map`.

    Args:
        settings: Content of a settings file.
        path: The file, for the error.

    Raises:
        InvalidInput: If they have it.
    """
    if any(name == "auto_map" for name, _ in nested_items(settings)):
        raise InvalidInput(
            f"{path} has auto_map, which asks for Python code of the checkpoint: such code is never run; "
            "remove auto_map if transformers knows the model's type, or convert the model"
        )
