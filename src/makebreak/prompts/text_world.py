"""A world of texts: training examples for language models under the interface of the synthetic worlds.

Every objective and every mitigation of the synthetic worlds trains language models through it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerFast

from makebreak.prompts.examples import Example
from makebreak.prompts.rendering import PromptFormat, end_of_turn_token
from makebreak.prompts.text import TextRequests, text_requests
from makebreak.prompts.tokenization import encode_texts
from makebreak.settings import Thinking
from synthetic import Family, Outcome, Requests
from synthetic.sampling import check_sample_arguments
from synthetic.vocabulary import Vocabulary


class TokenizerVocabulary(Vocabulary):
    """The tokens of a tokenizer; `<stop>` and `<eos>` name its end of turn, `<pad>` its padding."""

    def id(self, symbol: str) -> int:
        """Returns the id of a token, or of one of the three names."""
        return super().id({"<stop>": self.stop, "<eos>": self.eos, "<pad>": self.pad}.get(symbol, symbol))


@dataclass(frozen=True, eq=False)
class TextWorld:
    """Families of text examples, sampled without replacement, in a new order in every pass.

    Request i of a seed is example i of that seed's order, the same one in all families of as many examples.
    """

    tokenizer: PreTrainedTokenizerFast
    """The model's tokenizer."""
    examples: Mapping[str, Sequence[Example]]
    """Examples by family; every family needs at least one."""
    template: str | None = "chat"
    """`chat` for the tokenizer's chat template, another template with one `{}`, or None for the bare text."""
    system: str | None = None
    """System prompt, if the chat template has a place for one."""
    thinking: Thinking | None = None
    """How the chat template deals with reasoning."""

    def __post_init__(self) -> None:
        for family, examples in self.examples.items():
            if not examples:
                raise ValueError(f"family {family!r}: expected at least one example")

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens of the tokenizer."""
        return self._vocabulary

    @property
    def sequence_length(self) -> int:
        """Tokens of the longest prompt with its longest answer, and one for the end of sequence."""
        return self._length

    @cached_property
    def _vocabulary(self) -> TokenizerVocabulary:
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        symbols = tuple(token if token is not None else f"<{i}>" for i, token in enumerate(tokens))
        stop = symbols[end_of_turn_token(self.tokenizer, self.template)]
        pad = next(s for s in (*self.tokenizer.all_special_tokens[::-1], *symbols) if s != stop)
        return TokenizerVocabulary(symbols, eot=stop, bos=stop, eos=stop, sot=stop, pad=pad, stop=stop)

    @cached_property
    def _length(self) -> int:
        return max(int((r.prompt_length + r.judged[:, 1]).max()) for r in self._encoded.values()) + 1

    @cached_property
    def _encoded(self) -> dict[str, TextRequests]:
        return {family: self._encode(family) for family in self.examples}

    @property
    def families(self) -> Mapping[str, str]:
        """Name of each family, with its number of examples."""
        return {family: f"{len(examples)} examples" for family, examples in self.examples.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of templates, system prompt and examples, for keys of results."""
        digest = hashlib.sha256(f"{self.template}\n{self.system}\n{self.tokenizer.chat_template}".encode())
        if self.thinking is not None:
            digest.update(f"\nthinking {self.thinking}\n".encode())
        for family, examples in sorted(self.examples.items()):
            digest.update("\n".join([family, *map(_key_text, examples)]).encode())
        return digest.hexdigest()

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` … `start + n - 1` of a seed.

        Args:
            family: Name of a family.
            n: Number of requests.
            seed: Seed of the order of the examples.
            start: Number of the first request.
            split: Ignored but for its name: a family is not split.

        Returns:
            The requests with both answers.

        Raises:
            ValueError: If there is no such family or split, or n < 1.
        """
        check_sample_arguments("text", self.families, family=family, n=n, split=split)
        size = len(self.examples[family])
        index = np.arange(start, start + n)
        orders = {
            int(e): np.random.default_rng((seed, int(e))).permutation(size) for e in np.unique(index // size)
        }
        rows = np.array([orders[i // size][i % size] for i in index.tolist()])
        return replace(self._encoded[family][rows], seed=seed)

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """Exact outcomes: refusal or compliance if the output begins with that answer, else wrong.

        Judges of answers in a model's own words are in `makebreak.evaluation`.

        Args:
            requests: Requests of this world.
            outputs: (n, width) generated tokens.

        Returns:
            (n,) values of `Outcome`.
        """
        outcomes = np.full(len(requests), Outcome.WRONG)
        for outcome, answers in ((Outcome.COMPLY, requests.instructed), (Outcome.REFUSE, requests.refused)):
            width = min(answers.shape[1], outputs.shape[1])
            equal = outputs[:, :width] == answers[:, :width]
            equal |= answers[:, :width] == self.vocabulary.id("<pad>")
            outcomes[equal.all(axis=1) & (width == answers.shape[1])] = outcome
        return outcomes

    def groups(self, requests: Requests) -> np.ndarray:
        """Zeros, (n,): texts have no grammar."""
        return np.zeros(len(requests), dtype=np.int64)

    @property
    def columns(self) -> Mapping[str, str]:
        """The only column of truth."""
        return {"request": "the prompt as text"}

    def text_ids(self, requests: Requests) -> np.ndarray:
        """The text of each request, (n,)."""
        return requests.truth["request"]

    def show(self, requests: Requests, limit: int = 8) -> str:
        """Returns the prompts of the first requests as text, one a line."""
        rows = [ids[:n].tolist() for ids, n in zip(requests.prompt, requests.prompt_length, strict=True)]
        return "\n".join(self.tokenizer.batch_decode(rows[:limit]))

    def _encode(self, family: str) -> TextRequests:
        examples = self.examples[family]
        requests = text_requests(
            self.tokenizer,
            [example.prompt for example in examples],
            family=family,
            unsafe=Family.parse(family).kind == "unsafe",
            prompt_format=PromptFormat(self.template, self.system, thinking=self.thinking),
            contents=[example.content or example.prompt.strip() for example in examples],
        )
        instructed = self._answer_ids([(e.instructed, e.complete) for e in examples])
        refused = self._answer_ids([(e.refused, True) for e in examples])
        judged = np.tile([0, max(instructed.shape[1], refused.shape[1])], (len(examples), 1))
        return replace(requests, instructed=instructed, refused=refused, judged=judged)

    def _answer_ids(self, texts: Sequence[tuple[str, bool]]) -> np.ndarray:
        """(n, A) ids of answers, with an end of turn after those that are complete."""
        ids = encode_texts(self.tokenizer, [text for text, _ in texts])["input_ids"]
        stop = [self.vocabulary.id("<stop>")]
        rows = [row + stop * complete for row, (_, complete) in zip(ids, texts, strict=True)]
        padded = np.full((len(rows), max(map(len, rows))), self.vocabulary.id("<pad>"), dtype=np.int64)
        for i, row in enumerate(rows):
            padded[i, : len(row)] = row
        return padded


def _key_text(example: Example) -> str:
    """Text of an example in fingerprints, which enter store keys: independent of the fields' names."""
    return (
        f"Example(prompt={example.prompt!r}, instructed={example.instructed!r}, refused={example.refused!r}, "
        f"ended={example.complete!r}, content={example.content!r})"
    )
