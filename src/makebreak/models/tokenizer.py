"""The tokenizer of a language model, checked against its file and its model."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from makebreak.errors import InvalidInput, name_errors, silence_native_code
from makebreak.models.config_checks import read_settings
from makebreak.models.remote_code import check_no_remote_code
from makebreak.models.weights import n_embeddings

_PROBE = "Is this 1 sentence, read by both?"
"""A text that a tokenizer and its `tokenizer.json` must encode alike."""
_N_PROBE_TOKENS = 16
"""Number of first tokens of a vocabulary that both must encode alike."""
_REMEDY = "expected tokenizer.json beside the weights; save it with save_pretrained, or download it again"


def open_tokenizer(source: str, *, offline: bool = True) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model, checked against its `tokenizer.json`.

    Args:
        source: A folder or a hub id.
        offline: Whether only local files are read.

    Returns:
        The tokenizer that transformers chooses.

    Raises:
        ValueError: If there is none, it has `auto_map`, it is not a fast one, or it encodes text differently
            from `tokenizer.json`.
    """
    settings = Path(source) / "tokenizer_config.json"
    if offline:
        check_no_remote_code(Path(source))
        if settings.is_file():
            read_settings(settings)
    file = Path(source) / "tokenizer.json"
    with name_errors(source, "no tokenizer", _REMEDY), silence_native_code():
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
        kind, is_fast = type(tokenizer).__name__, tokenizer.is_fast
        is_alike = not (is_fast and file.is_file()) or _encode_alike(
            tokenizer, Tokenizer.from_file(str(file))
        )
    if not is_fast:
        raise InvalidInput(f"{source}: {kind} has no offsets; expected a fast tokenizer, with tokenizer.json")
    if not is_alike:
        raise InvalidInput(
            f"{source}: its tokenizer is loaded as {kind}, which encodes text unlike tokenizer.json; "
            "name the right tokenizer_class in tokenizer_config.json, and another model_type"
        )
    if not isinstance(tokenizer.chat_template, str | dict | None):
        kind = type(tokenizer.chat_template).__name__
        raise InvalidInput(f"{settings}: chat_template is of type {kind}: expected a text, or one by name")
    return tokenizer


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    """Checks that a model has an embedding for every token of its tokenizer.

    Args:
        name: Name of the model in errors.
        tokenizer: Its tokenizer.
        model: The network.

    Raises:
        InvalidInput: If an id is beyond the embeddings.
    """
    n_rows = n_embeddings(model)
    ids = tokenizer.get_vocab()
    token = max(ids, key=lambda symbol: ids[symbol], default=None)
    if token is None:
        raise InvalidInput(f"{name}: its tokenizer has no token; {_REMEDY}")
    if ids[token] >= n_rows:
        raise InvalidInput(
            f"{name}: token {token[:40]!r} has the id {ids[token]}, the model {n_rows} embeddings: expected "
            "the tokenizer that belongs to the model, or call resize_token_embeddings and save both"
        )


def _encode_alike(tokenizer: PreTrainedTokenizerFast, reference: Tokenizer) -> bool:
    """Whether two tokenizers encode a sentence, and the first tokens of the vocabulary, alike."""
    first_ids = list(range(min(_N_PROBE_TOKENS, reference.get_vocab_size())))
    for text in (_PROBE, reference.decode(first_ids, skip_special_tokens=False)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if reference.encode(text, add_special_tokens=False).ids != ids:
            return False
    return True
