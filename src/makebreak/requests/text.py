"""What is a language model asked? Requests as text, and as the tokens that a chat template makes of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.configs import nearest
from synthetic import Requests

_USUAL = (
    "prompt",
    "goal",
    "instruction",
    "question",
    "request",
    "harmful",
    "text",
)  # names of a column of requests
OPENERS = ("I", "As", "Sorry", "Unfortunately")  # Arditi et al. 2024 take the first two, by family of models


@dataclass(frozen=True)
class TextRequests(Requests):
    """Requests of a language model: no answer is known beforehand, so `refused` is empty, and `instructed` and `judged`
    are too, unless targets are given.

    openers: (n, k) ids of the tokens that a refusal begins with. spans: `text`, the request itself; `template`, what
    the chat template puts behind it; `eot`, the last token of the prompt. truth: `request`, the text; `target`, if
    there is one.
    """

    openers: np.ndarray

    def __getitem__(self, rows: slice | np.ndarray) -> TextRequests:
        """A part of the requests, by slice, index array or mask."""
        return super().__getitem__(rows)  # type: ignore[return-value]


def shipped() -> dict[str, list[str]]:
    """Our own prompts: `harmless` and `harmful`, pair by pair with the same verb, and `borderline` ones, harmless but
    with words that a careless model refuses."""
    found: dict[str, list[str]] = {}
    for name in ("pairs", "borderline"):
        text = (
            resources.files("makebreak.requests").joinpath(f"prompts/{name}.csv").read_text(encoding="utf-8")
        )
        for row in csv.DictReader(text.splitlines()):
            for column, prompt in row.items():
                found.setdefault(column, []).append(prompt)
    return found


def read_prompts(source: Path | str, column: str | None = None) -> list[str]:
    """Prompts of a CSV or JSONL file, or of a data set's `train` split (`datasets` name); empty ones are left out.

    column: of the requests; the only one, or the first that is called so in most data sets, by default. Raises
    ValueError where there is no such file, column or prompt.
    """
    return [prompt for prompt, _ in read_targeted(source, column)]


def read_targeted(
    source: Path | str, column: str | None = None, target_column: str | None = None
) -> list[tuple[str, str]]:
    """Prompts as `read_prompts` has them, each with what an attack wants its answer to begin with, empty where the file
    does not say. target_column: `target` by default, where there is one. Raises ValueError as `read_prompts` does."""
    rows = _rows(source)
    names = list(rows[0]) if rows else []
    usual = [name for name in _USUAL if name in names]
    chosen = column or next(iter(usual or names), None)
    if chosen is None:
        raise ValueError(f"{source} has no rows: expected one request a row")
    for name in (chosen, target_column):
        if name is not None and name not in names:
            raise ValueError(f"{source} has no column {name!r}; {nearest(name, names)}")
    prompts, targets = (
        [str(row.get(name) or "").strip() for row in rows] for name in (chosen, target_column or "target")
    )
    found = [(prompt, target) for prompt, target in zip(prompts, targets, strict=True) if prompt]
    if not found:
        raise ValueError(f"{source}: column {chosen!r} holds no text in {len(rows)} rows")
    return found


def read_examples(source: Path | str) -> list[tuple[str, str]]:
    """Prompts with the answers to teach, of a file with columns `prompt` and `answer`. Raises ValueError where it lacks
    one, or a row is empty."""
    rows = _rows(source)
    for name in ("prompt", "answer"):
        if not rows or name not in rows[0]:
            raise ValueError(f"{source} has no column {name!r}: expected prompt and answer")
    found = [(str(row["prompt"] or "").strip(), str(row["answer"] or "").strip()) for row in rows]
    empty = [i for i, pair in enumerate(found) if not all(pair)]
    if empty:
        raise ValueError(f"{source}: row {empty[0] + 1} has an empty prompt or answer")
    return found


def _rows(source: Path | str) -> list[dict[Any, Any]]:
    path = Path(source)
    if path.is_file() and path.suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        try:
            rows = [json.loads(line) for line in lines]
        except json.JSONDecodeError as error:
            raise ValueError(f"{source} is no JSONL ({error}): expected one object a line") from None
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{source}: expected one object a line, as {{'prompt': …}}")
        return rows
    if path.exists():
        raise ValueError(f"{source}: expected a .csv, .tsv or .jsonl file")
    if path.suffix in (".csv", ".tsv", ".jsonl", ".json"):
        raise ValueError(f"{source} does not exist")
    from datasets import load_dataset

    try:
        return load_dataset(str(source), split="train").to_list()  # type: ignore[union-attr]
    except Exception as error:  # of many kinds, by what the name turns out to be
        raise ValueError(f"{source} is neither a file nor a data set within reach ({error})") from None


def text_requests(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    family: str,
    unsafe: bool,
    template: str | None = "chat",
    system: str | None = None,
    openers: Sequence[str] = OPENERS,
    targets: Sequence[str] | None = None,
    contents: Sequence[str] | None = None,
) -> TextRequests:
    """The prompts as tokens, padded on the right.

    template: `chat` is the tokenizer's own; another string is a template with `{}` in it; None is the bare text, as a
    base model reads it. system: what is said before, where the template has a place for it. targets: how an attack
    wants each answer to begin; they stand as `instructed`. contents: of each text, the part that the span `text` marks;
    all of it by default. Raises ValueError where the tokenizer has no chat template,
    the template does not give the request back, or there are not as many targets as texts.
    """
    if not texts:
        raise ValueError(f"family {family!r}: expected at least one request")
    parts = [text.strip() for text in texts] if contents is None else list(contents)
    prompts = [
        _prompt(tokenizer, text, part, template, system) for text, part in zip(texts, parts, strict=True)
    ]
    encoded = tokenizer(
        [prompt for prompt, _ in prompts], add_special_tokens=template != "chat", return_offsets_mapping=True
    )
    length = np.array([len(ids) for ids in encoded["input_ids"]])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens = np.full((len(texts), length.max()), 0 if pad is None else pad, dtype=np.int64)
    text = np.zeros((len(texts), 2), dtype=np.int64)
    for i, (ids, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
        tokens[i, : len(ids)] = ids
        begin, end = prompts[i][1], prompts[i][1] + len(parts[i])
        inside = [
            j for j, (start, stop) in enumerate(offsets) if start < end and stop > begin and stop > start
        ]
        text[i] = inside[0], inside[-1] + 1
    nothing = np.zeros((len(texts), 0), dtype=np.int64)
    instructed, judged = nothing, np.zeros((len(texts), 2), dtype=np.int64)
    if targets is not None:
        instructed, judged[:, 1] = _targets(tokenizer, targets, len(texts))
    return TextRequests(
        family=family,
        seed=0,
        prompt=tokens,
        prompt_length=length,
        instructed=instructed,
        refused=nothing,
        judged=judged,
        unsafe=np.full(len(texts), unsafe),
        spans={
            "text": text,
            "template": np.stack([text[:, 1], length], axis=1),
            "eot": np.stack([length - 1, length], axis=1),
        },
        truth={"request": np.array(list(texts))}
        | ({} if targets is None else {"target": np.array(list(targets))}),
        openers=np.tile(opening_tokens(tokenizer, openers), (len(texts), 1)),
    )


def _targets(
    tokenizer: PreTrainedTokenizerFast, targets: Sequence[str], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, A) ids, padded on the right, and their lengths."""
    if len(targets) != n or not all(targets):
        raise ValueError(
            f"{len(targets)} targets for {n} requests: expected one for each, none of them empty"
        )
    ids = tokenizer(list(targets), add_special_tokens=False)["input_ids"]
    length = np.array([len(row) for row in ids])
    found = np.zeros((n, length.max()), dtype=np.int64)
    for row, tokens in zip(found, ids, strict=True):
        row[: len(tokens)] = tokens
    return found, length


def opening_tokens(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> np.ndarray:
    """(k,) the token that each word begins with, at the start of a text and behind a space."""
    pieces = [
        tokenizer(space + word, add_special_tokens=False)["input_ids"]
        for word in words
        for space in ("", " ")
    ]
    found = sorted({piece[0] for piece in pieces if piece and piece[0] != tokenizer.unk_token_id})
    if not found:
        raise ValueError(f"openers {list(words)}: this tokenizer knows none of them; name words that it has")
    return np.array(found, dtype=np.int64)


def _prompt(
    tokenizer: PreTrainedTokenizerFast, text: str, part: str, template: str | None, system: str | None
) -> tuple[str, int]:
    """The prompt, and where a part of the request begins in it."""
    text = text.strip()
    if system is not None and template != "chat":
        raise ValueError(f"system prompt {system[:40]!r}: only a chat template has a place for it")
    if template is None:
        whole = text
    elif template == "chat":
        if not tokenizer.chat_template:
            raise ValueError(
                "this tokenizer has no chat template: give one ('Q: {}\\nA:'), or none for a base model"
            )
        before = [] if system is None else [{"role": "system", "content": system}]
        turns = [*before, {"role": "user", "content": text}]
        whole = str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        if system is not None and system.strip() not in whole:
            raise ValueError(f"system prompt {system[:40]!r}: this chat template has no place for it")
    elif template.count("{}") == 1:
        whole = template.replace("{}", text)
    else:
        raise ValueError(f"template {template!r}: expected one {{}} where the request goes")
    begin, inside = whole.rfind(text), text.find(part)
    if not text or begin < 0:
        raise ValueError(f"the chat template does not give the request {text[:40]!r} back as it is")
    if not part or inside < 0:
        raise ValueError(f"the content {part[:40]!r} is not in the request {text[:40]!r}")
    return whole, begin + inside
