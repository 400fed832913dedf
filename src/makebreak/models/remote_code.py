"""Refusal of model folders that ask for Python code of their own to be run."""

from __future__ import annotations

import json
from pathlib import Path

SETTINGS_FILES = ("config.json", "tokenizer_config.json")
"""Files of a Hugging Face folder in which `auto_map` names classes of the folder's own Python files."""


def check_no_remote_code(folder: Path) -> None:
    """Raises ValueError if a settings file of the folder has `auto_map`.

    Transformers would ask on a terminal whether to run that code, and run it after "y". Files that are
    missing or no JSON are left to the functions that load them.
    """
    for name in SETTINGS_FILES:
        path = folder / name
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(settings, dict) and "auto_map" in settings:
            raise ValueError(
                f"{path} has auto_map, which asks for Python code of the checkpoint: such code is never run; "
                "remove auto_map if transformers knows the model's type, or convert the model"
            )
