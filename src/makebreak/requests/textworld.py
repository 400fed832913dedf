"""How does a language model's training see texts? As a world, so that every objective and every mitigation of the
synthetic worlds is one for language models as well."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.requests.examples import Example
from makebreak.requests.text import TextRequests, text_requests
from synthetic import Requests
from synthetic.vocabulary import Vocabulary
from synthetic.world import check_sample

_MARK = "makebreak"


class Words(Vocabulary):
    """The tokens of a tokenizer; `<stop>` and `<eos>` name what ends an answer, `<pad>` a token that none has."""

    def id(self, symbol: str) -> int:
        return super().id({"<stop>": self.stop, "<eos>": self.eos, "<pad>": self.pad}.get(symbol, symbol))


@dataclass(frozen=True, eq=False)
class TextWorld:
    """Families of examples, drawn in a new order every time all were seen; request i of a seed is example i of that
    order, the same one in all families of as many examples.

    template, system: as in `text_requests`. Raises ValueError for a family without examples.
    """

    tokenizer: PreTrainedTokenizerFast
    examples: Mapping[str, Sequence[Example]]
    template: str | None = "chat"
    system: str | None = None

    def __post_init__(self) -> None:
        for family, own in self.examples.items():
            if not own:
                raise ValueError(f"family {family!r}: expected at least one example")

    @property
    def vocabulary(self) -> Vocabulary:
        return self._words

    @property
    def sequence_length(self) -> int:
        return self._length

    @cached_property
    def _words(self) -> Words:
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        symbols = tuple(token if token is not None else f"<{i}>" for i, token in enumerate(tokens))
        stop = symbols[end_of_turn(self.tokenizer, self.template)]
        pad = next(s for s in (*self.tokenizer.all_special_tokens[::-1], *symbols) if s != stop)
        return Words(symbols, eot=stop, bos=stop, eos=stop, sot=stop, pad=pad, stop=stop)

    @cached_property
    def _length(self) -> int:
        return max(int((r.prompt_length + r.judged[:, 1]).max()) for r in self._encoded.values()) + 1

    @cached_property
    def _encoded(self) -> dict[str, TextRequests]:
        return {family: self._encode(family) for family in self.examples}

    @property
    def families(self) -> Mapping[str, str]:
        return {family: f"{len(own)} examples" for family, own in self.examples.items()}

    @property
    def fingerprint(self) -> str:
        whole = hashlib.sha256(f"{self.template}\n{self.system}\n{self.tokenizer.chat_template}".encode())
        for family, own in sorted(self.examples.items()):
            whole.update("\n".join([family, *map(repr, own)]).encode())
        return whole.hexdigest()

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` … `start + n - 1` of a seed. Raises ValueError for a family that there is not."""
        check_sample("text", self.families, family=family, n=n, split=split)
        size = len(self.examples[family])
        index = np.arange(start, start + n)
        orders = {
            int(e): np.random.default_rng((seed, int(e))).permutation(size) for e in np.unique(index // size)
        }
        rows = np.array([orders[i // size][i % size] for i in index.tolist()])
        return replace(self._encoded[family][rows], seed=seed)

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """Exact: refused or complied where the output begins with that very answer of the example, else wrongly.
        (Judges of what a model says in its own words are in `behaviour`.)"""
        found = np.full(len(requests), 2)
        for outcome, answers in ((1, requests.instructed), (0, requests.refused)):
            width = min(answers.shape[1], outputs.shape[1])
            same = (outputs[:, :width] == answers[:, :width]) | (
                answers[:, :width] == self.vocabulary.id("<pad>")
            )
            found[same.all(axis=1) & (width == answers.shape[1])] = outcome
        return found

    def show(self, requests: Requests, limit: int = 8) -> str:
        rows = [ids[:n].tolist() for ids, n in zip(requests.prompt, requests.prompt_length, strict=True)]
        return "\n".join(self.tokenizer.batch_decode(rows[:limit]))

    def _encode(self, family: str) -> TextRequests:
        own = self.examples[family]
        asked = text_requests(
            self.tokenizer,
            [example.prompt for example in own],
            family=family,
            unsafe="unsafe" in family,
            template=self.template,
            system=self.system,
            contents=[example.content or example.prompt.strip() for example in own],
        )
        instructed = self._answers([(e.instructed, e.ended) for e in own])
        refused = self._answers([(e.refused, True) for e in own])
        judged = np.tile([0, max(instructed.shape[1], refused.shape[1])], (len(own), 1))
        return replace(asked, instructed=instructed, refused=refused, judged=judged)

    def _answers(self, texts: Sequence[tuple[str, bool]]) -> np.ndarray:
        """(n, A) ids, each with the end of the turn behind it where it comes to its end."""
        ids = self.tokenizer([text for text, _ in texts], add_special_tokens=False)["input_ids"]
        stop = [self.vocabulary.id("<stop>")]
        rows = [row + stop * ended for row, (_, ended) in zip(ids, texts, strict=True)]
        found = np.full((len(rows), max(map(len, rows))), self.vocabulary.id("<pad>"), dtype=np.int64)
        for i, row in enumerate(rows):
            found[i, : len(row)] = row
        return found


def end_of_turn(tokenizer: PreTrainedTokenizerFast, template: str | None) -> int:
    """The token that a chat template puts behind an answer, else the end of the text. Raises ValueError where there is
    neither."""
    if template == "chat" and tokenizer.chat_template:
        turns = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
        behind = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_MARK)[2].strip()
        ids: Any = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
        if ids:
            return ids[0]
    if not isinstance(tokenizer.eos_token_id, int):
        raise ValueError(
            "this tokenizer has no token for the end of a text, and its template none for an answer's"
        )
    return tokenizer.eos_token_id
