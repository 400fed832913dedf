"""What the name of a model means: a folder, a .gguf file, or a model of the Hugging Face Hub.

Nothing heavy is imported, so that a name that means nothing is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from makebreak.errors import InvalidInput, describe_error, name_errors, silence_loggers

_HUB_ID = re.compile(r"[A-Za-z0-9]([\w-]|\.(?!\.))*/[A-Za-z0-9_]([\w-]|\.(?!\.|$))*", re.ASCII)
_LOGGERS = ("huggingface_hub", "transformers.utils.hub", "httpx", "urllib3")
_EXPECTED = "expected a folder, a GGUF file or a Hub id (owner/name)"
_CONFIG = "config.json"


def check_model_name(name: str) -> None:
    """Raises InvalidInput for a name of no model: no path, and no model of the Hub if that can be read."""
    _, is_local = locate_model(name)
    if not is_local:
        with name_both_readings(name):
            reach_hub(name)


def locate_model(name: str | Path) -> tuple[Path, bool]:
    """The path of a model, and whether it is a local one rather than a hub id.

    Args:
        name: A folder, a .gguf file or a hub id `owner/name`.

    Returns:
        The name as a path, and True if there is such a folder or file.

    Raises:
        InvalidInput: If there is none, and the name has not the form of a hub id.
    """
    path = Path(name)
    if not str(name).strip():
        raise InvalidInput(f"the name of the model is empty: {_EXPECTED}")
    with name_errors(name, "no path", _EXPECTED):  # one with a null byte, say
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder or (is_file and path.suffix == ".gguf"):
        return path, True
    if is_file:
        raise InvalidInput(f"{name} is a file, but no .gguf: {_EXPECTED}")
    if path.exists():
        raise InvalidInput(f"{name} is neither a folder nor a file: {_EXPECTED}")
    if path.suffix != ".gguf" and _HUB_ID.fullmatch(str(name)):
        return path, False
    raise InvalidInput(f"{name} does not exist: {_EXPECTED}")


def is_asked_for(name: str) -> bool:
    """Whether the Hub is asked for a model that is not in the cache: not if OWNER is a folder here."""
    return not Path(name).parent.exists()


@cache
def reach_hub(name: str) -> None:
    """Asks the Hub once for a model that is not in the cache.

    The library's own download asks six times, with pauses, where the Hub cannot be reached.

    Args:
        name: A hub id.

    Raises:
        FileNotFoundError: If the model is not in the cache, and the Hub is not asked for it.
        Exception: As the client of the Hub raises it if the Hub cannot be reached. Every answer of the Hub
            will do: what it says is reported where the model is opened.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(try_to_load_from_cache(name, _CONFIG), str):
        return
    if not is_asked_for(name):
        raise FileNotFoundError(f"{name} is not in the cache")
    try:
        get_hf_file_metadata(hf_hub_url(name, _CONFIG))
    except HfHubHTTPError:
        return


@contextmanager
def name_both_readings(name: str) -> Iterator[None]:
    """Turns an exception of the first request to the Hub into one that says what the name may mean.

    Args:
        name: The name OWNER/NAME, of which no folder exists.

    Yields:
        Nothing.

    Raises:
        InvalidInput: For any exception; attempts and their failures are not logged.
    """
    try:
        with silence_loggers(*_LOGGERS):
            yield
    except Exception as error:
        missing = f"no folder {name}, and no Hub model {name}"
        if not is_asked_for(name):
            owner = Path(name).parent
            raise InvalidInput(
                f"{missing} in the cache; the Hub is not asked, since {owner} exists here: {_EXPECTED}"
            ) from None
        raise InvalidInput(
            f"{missing} (it is not in the cache, and the Hub cannot be read: {describe_error(error)}): "
            f"{_EXPECTED}"
        ) from error
