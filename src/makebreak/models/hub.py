"""Names of the form OWNER/NAME, which mean a model of the Hugging Face Hub or a folder that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from makebreak.errors import InvalidInput, describe_error, silence_loggers

_LOGGERS = ("huggingface_hub", "transformers.utils.hub", "httpx", "urllib3")


def is_asked_for(name: str) -> bool:
    """Whether the Hub is asked for a model that is not in the cache: not if OWNER is a folder here."""
    return not Path(name).parent.exists()


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
        expected = "expected a folder, a GGUF file or a Hub id (owner/name)"
        if not is_asked_for(name):
            owner = Path(name).parent
            raise InvalidInput(
                f"{missing} in the cache; the Hub is not asked, since {owner} exists here: {expected}"
            ) from None
        raise InvalidInput(
            f"{missing} (it is not in the cache, and the Hub cannot be read: {describe_error(error)}): "
            f"{expected}"
        ) from error
