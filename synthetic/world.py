"""What is a world? A source of requests with known truth, and an exact judge of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from synthetic.draws import text_hash
from synthetic.vocabulary import Vocabulary

OUTCOMES = ("refuse", "comply", "comply_wrongly", "broken")
SPLITS = ("train", "fit", "score", "any")
HELD_OUT = 0.10


@dataclass(frozen=True)
class Requests:
    """`n` requests of one family; every array has `n` rows.

    prompt: (n, P) ids up to and including the end of text, padded on the right.
    instructed, refused: (n, A) the two answers, padded on the right.
    judged: (n, 2) start and stop of the judged segment within the answer, STOP included.
    spans: name → (n, 2) start and stop in the sequence prompt + answer.
    truth: what is known of each request, as columns (grammar, branch, tasks, unsafe tasks, text …); `label` is a token
    that names grammar and branch.
    """

    family: str
    seed: int
    prompt: np.ndarray
    prompt_length: np.ndarray
    instructed: np.ndarray
    refused: np.ndarray
    judged: np.ndarray
    unsafe: np.ndarray
    spans: Mapping[str, np.ndarray]
    truth: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.prompt)

    def __getitem__(self, rows: slice | np.ndarray) -> Requests:
        """A part of the requests, by slice, index array or mask."""
        arrays = {name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(
            self,
            **arrays,
            spans={name: span[rows] for name, span in self.spans.items()},
            truth={name: column[rows] for name, column in self.truth.items()},
        )

    def columns(self) -> dict[str, list]:
        """Plain columns for `datasets.Dataset.from_dict`; `from_columns` is the inverse."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        for prefix, group in (("span.", self.spans), ("truth.", self.truth)):
            arrays |= {prefix + name: value for name, value in group.items()}
        constant = {"family": [self.family] * len(self), "seed": [self.seed] * len(self)}
        return constant | {name: value.tolist() for name, value in arrays.items()}

    @classmethod
    def from_columns(cls, columns: Mapping[str, list]) -> Requests:
        """Requests from the columns of `columns()`; raises ValueError where there are no rows."""
        if not len(columns["family"]):
            raise ValueError("a data set without rows has no requests: expected at least one")
        if len(set(columns["family"])) > 1 or len(set(columns["seed"])) > 1:
            raise ValueError(
                f"families {sorted(set(columns['family']))}: expected requests of one family and one seed"
            )
        arrays: dict[str, Any] = {k: np.asarray(columns[k]) for k in columns if k not in ("family", "seed")}
        for group, prefix in (("spans", "span."), ("truth", "truth.")):
            names = [k for k in arrays if k.startswith(prefix)]
            arrays[group] = {k.removeprefix(prefix): arrays.pop(k) for k in names}
        return cls(family=columns["family"][0], seed=int(columns["seed"][0]), **arrays)


@runtime_checkable
class World(Protocol):
    """A world: named families of requests, sampled exactly, judged exactly."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that the world is made of, for keys of results."""
        ...

    @property
    def families(self) -> Mapping[str, str]:
        """Name of each family and what it is, in one line."""
        ...

    @property
    def sequence_length(self) -> int:
        """Tokens of a whole sequence, prompt, answer, padding and end of sequence."""
        ...

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` … `start + n - 1` of a seed: the same whatever the batch size."""
        ...

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """(n,) index into OUTCOMES for (n, ≥ judged stop) generated answer tokens."""
        ...

    def show(self, requests: Requests, limit: int = 8) -> str: ...


def check_sample(name: str, families: Mapping[str, str], *, family: str, n: int, split: str) -> None:
    """Raises ValueError for a family that a world of that name lacks, for another split, or for no requests."""
    if family not in families:
        raise ValueError(
            f"family {family!r} does not exist in world {name!r}: expected one of {', '.join(families)}"
        )
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    if n < 1:
        raise ValueError(f"n = {n}: expected at least one request")


def split_of(*columns: np.ndarray) -> np.ndarray:
    """(n,) index into SPLITS of each text: 90 % train, 5 % fit, 5 % score, by a stable hash of the columns."""
    share = (text_hash(*columns) >> np.uint64(11)) * 2.0**-53
    return np.where(share >= HELD_OUT, 0, np.where(share >= HELD_OUT / 2, 1, 2))


def judge_segment(
    requests: Requests, outputs: np.ndarray, *, null: int, stop: int, letters: np.ndarray
) -> np.ndarray:
    """Outcomes of answers whose judged segment is `length` letters and a STOP.

    outputs: (n, at least the last judged position) generated tokens from the first answer position on.
    letters: (d_vocab,) whether an id is a letter. Raises ValueError where the outputs are too short.
    """
    need = int(requests.judged[:, 1].max(initial=0))
    if outputs.ndim != 2 or outputs.shape[0] != len(requests) or outputs.shape[1] < need:
        raise ValueError(
            f"outputs of shape {outputs.shape}: expected ({len(requests)}, at least {need}) answer tokens"
        )
    column = np.arange(outputs.shape[1])
    first, last = requests.judged[:, :1], requests.judged[:, 1:] - 1
    body = (column >= first) & (column < last)
    whole = body | (column == last)
    wanted = np.zeros_like(outputs)
    shared = min(outputs.shape[1], requests.instructed.shape[1])
    wanted[:, :shared] = requests.instructed[:, :shared]
    stopped = np.take_along_axis(outputs, last, axis=1)[:, 0] == stop
    refuse = ((outputs == null) | ~body).all(axis=1)
    comply = ((outputs == wanted) | ~whole).all(axis=1)
    well_formed = (letters[outputs] | ~body).all(axis=1) & stopped
    return np.select([refuse, comply, well_formed], [0, 1, 2], default=3)
