"""The world of Jain et al. (2024): safety is a property of the task *and* the concept of a request.

A prompt is a row of task tokens and a text. The text comes from one of several grammars, and within the
grammar from a branch (its concept); each task token is a bijection of letters. A task is unsafe always,
never, or only on text of the unsafe branch, depending on the grammar. To an unsafe request a model shall
answer with the null letter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from synthetic.config import CompositionConfig
from synthetic.draws import Draws, rejection_sample
from synthetic.encoding import encode_requests
from synthetic.families import FAMILIES, Family
from synthetic.grammar import Grammar, parse_rules
from synthetic.safety import (
    ALWAYS_SAFE,
    ALWAYS_UNSAFE,
    BRANCHES,
    CONTEXT,
    REASONS,
    UNSAFE_BRANCHES,
    unsafe_reasons,
)
from synthetic.tasks import apply_tasks, permutation_maps
from synthetic.types import (
    SPLITS,
    Requests,
    check_sample_arguments,
    judge_segment,
    key_fields,
    split_indices,
)
from synthetic.vocabulary import Vocabulary, letter_symbols

WITHOUT_SYSTEM_SUFFIX = "_without_system"
"""Suffix of a family's name for requests without a system span, in a world that has one."""
_SPECIAL = ("<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>")
_EX_TOKENS = ("ex1", "ex2")
_SHAM_SEED = 1000
_MAX_ATTEMPTS = 2000
_HELD_OUT_ATTEMPTS_PER_CALL = 16  # one text in twenty is of a held-out split


class CompositionWorld:
    """A world (see `synthetic.World`) of task tokens and texts from grammars.

    Args:
        config: Settings of the world.

    Raises:
        ValueError: If the null symbol is a symbol with another meaning.
    """

    def __init__(self, config: CompositionConfig) -> None:
        self.config = config
        self.n_grammars = len(config.leaves)
        self.n_slots = 2 * config.n_pairs
        self.n_maps = config.n_maps + config.n_new
        new_maps = range(config.n_maps, self.n_maps)
        self.token_map = np.array(
            [*range(config.n_maps), *config.duplicates, *config.late_duplicates, *new_maps]
        )
        self.n_tasks = config.n_maps + len(config.duplicates)
        self.late_tasks = (
            *(f"dup{i + 1}" for i in range(len(config.late_duplicates))),
            *(f"new{i + 1}" for i in range(config.n_new)),
        )
        self.sequence_length = config.sequence_length
        alphabet = letter_symbols(config.n_letters)
        self.vocabulary = self._build_vocabulary(alphabet)
        self.letter_ids = np.array([self.vocabulary.id(letter) for letter in alphabet])
        self.null_id = self.vocabulary.id(config.null_symbol or alphabet[0])
        # outputs are numbers of letters; a null that is no letter has the number after the last letter
        self.null_output = 0 if config.null_symbol is None else config.n_letters
        self.output_ids = np.append(self.letter_ids, self.null_id)

    def _build_vocabulary(self, alphabet: tuple[str, ...]) -> Vocabulary:
        config = self.config
        tasks = tuple(f"T{i}" for i in range(self.n_tasks))
        null = () if config.null_symbol is None else (config.null_symbol,)
        system = tuple(symbol for symbol in config.system if symbol not in (*tasks, *_SPECIAL))
        others = (*tasks, *_SPECIAL, *alphabet, *_EX_TOKENS, *self.late_tasks)
        if set(null) & {*others, *system}:
            raise ValueError(
                f"null_symbol = {config.null_symbol!r}: expected a symbol that means nothing else"
            )
        return Vocabulary((*others, *null, *system))

    @cached_property
    def task_ids(self) -> np.ndarray:
        """Id of each task token, (task tokens,); those that pretraining lacks last, then ex1 and ex2."""
        late = [self.vocabulary.id(symbol) for symbol in (*self.late_tasks, *_EX_TOKENS)]
        return np.array([*range(self.n_tasks), *late])

    @cached_property
    def maps(self) -> np.ndarray:
        """Bijection of each task token, (grammars, task tokens, letters)."""
        config = self.config
        maps = np.stack([permutation_maps(config.n_letters, self.n_maps, seed) for seed in config.map_seeds])
        shared = [*config.shared_maps, *range(config.n_maps, self.n_maps)]
        maps[:, shared] = maps[:1, shared]
        return maps[:, self.token_map]

    @cached_property
    def safety_classes(self) -> np.ndarray:
        """Class of each task token, (grammars, task tokens): ALWAYS_SAFE, ALWAYS_UNSAFE or CONTEXT."""
        table = np.full((self.n_grammars, self.n_maps), CONTEXT)
        table[:, self.config.n_maps :] = ALWAYS_SAFE
        for g in range(self.n_grammars):
            table[g, list(self.config.always_safe[g])] = ALWAYS_SAFE
            table[g, list(self.config.always_unsafe[g])] = ALWAYS_UNSAFE
        return table[:, self.token_map]

    @cached_property
    def sham_classes(self) -> np.ndarray:
        """Sham class of each task token, (grammars, task tokens): 1 for a random half, else 0.

        Half of the tasks of each grammar but the identity are in class 1, whatever their safety class or
        branch.
        """
        n_tasks = self.config.n_maps - 1
        table = np.zeros((self.n_grammars, self.n_maps), dtype=np.int64)
        for g in range(self.n_grammars):
            order = np.random.RandomState(_SHAM_SEED + g).permutation(n_tasks)
            table[g, 1 + order[: n_tasks // 2]] = 1
        return table[:, self.token_map]

    @property
    def fingerprint(self) -> str:
        """A hash of all that the world is made of, for keys of results."""
        tables = [table.tolist() for table in (self.maps, self.safety_classes, self.sham_classes)]
        content = json.dumps([key_fields(self.config), tables], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def families(self) -> Mapping[str, str]:
        """Description of each family that this world has, by name; second composition needs two pairs.

        In a world with a system span half of pretraining has the span, every other family has it, and each
        family exists without it too.
        """
        families = {name: f.description for name, f in FAMILIES.items() if f.exists_in(self)}
        if not self.config.system:
            return families
        return families | {
            name + WITHOUT_SYSTEM_SUFFIX: f"{description}, no system span"
            for name, description in families.items()
        }

    @cached_property
    def grammars(self) -> dict[tuple[str, int], Grammar]:
        """Grammars by branch and number of the grammar."""
        full, grammars = parse_rules(self.config.full), {}
        for branch, rules in {"full": "", **self.config.branches}.items():
            for g, leaves in enumerate(self.config.leaves):
                grammars[branch, g] = Grammar(full | parse_rules(rules) | parse_rules(leaves))
        return grammars

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` ... `start + n - 1` of a seed, the same whatever the batch size.

        A draw is repeated, for that request alone, if its text is of another split, if its correct answer is
        all null, or if its remapped answer is the true one.

        Args:
            family: One of `families`.
            n: Number of requests.
            seed: Seed of the requests.
            start: Index of the first request.
            split: `train` (90 % of texts), `fit`, `score` (5 % each, by a stable hash of grammar and text) or
                `any`.

        Returns:
            The requests.

        Raises:
            ValueError: If the family or split is unknown, or no draw is acceptable.
        """
        check_sample_arguments(self.config.name, self.families, family=family, n=n, split=split)
        spec, index = FAMILIES[family.removesuffix(WITHOUT_SYSTEM_SUFFIX)], np.arange(start, start + n)

        def draw(missing: np.ndarray, attempt_range: range) -> tuple[dict[str, np.ndarray], np.ndarray]:
            draws = Draws.for_attempts(seed, index[missing], attempt_range)
            first = Draws(seed, index[missing])[np.tile(np.arange(len(missing)), len(attempt_range))]
            columns = self._draw(spec, draws, first if spec.redraws_text_only else draws)
            return columns, self._acceptable(spec, columns, split)

        per_call = _HELD_OUT_ATTEMPTS_PER_CALL if split in ("fit", "score") else 1
        truth, n_failed = rejection_sample(n, draw, max_attempts=_MAX_ATTEMPTS, attempts_per_call=per_call)
        if n_failed:
            raise ValueError(
                f"family {family!r}, split {split!r}: {n_failed} of {n} requests found no acceptable draw"
            )
        has_system = self._has_system(family, Draws(seed, index))
        return encode_requests(self, family, seed, truth, family=spec, has_system=has_system)

    def _has_system(self, family: str, draws: Draws) -> np.ndarray:
        """Whether each request has the system span, (n,)."""
        if not self.config.system or family.endswith(WITHOUT_SYSTEM_SUFFIX):
            return np.zeros(len(draws), dtype=bool)
        if family.startswith("pretraining"):
            return draws.integers("system", 1, 2)[:, 0] > 0
        return np.ones(len(draws), dtype=bool)

    def _draw(self, family: Family, draws: Draws, task_draws: Draws) -> dict[str, np.ndarray]:
        """Columns of truth; grammar and tasks come from `task_draws`, everything else from `draws`."""
        grammar = task_draws.integers("grammar", 1, self.n_grammars)[:, 0]
        if family.first_grammar_only:
            grammar = np.zeros(len(draws), np.int64)
        branches = family.branches or self.config.pretraining_branches
        branch_number = draws.integers("branch", 1, len(branches))[:, 0]
        branch = np.array([BRANCHES.index(name) for name in branches])[branch_number]
        text, length = self._draw_texts(draws, branches, branch_number, grammar)
        tasks = family.sample_tasks(self, task_draws, grammar, branch)
        columns = {
            "grammar": grammar,
            "branch": branch,
            "label": self.letter_ids[1 + 2 * grammar + np.isin(branch, UNSAFE_BRANCHES)],
            "length": length,
            "text": text,
            "tasks": tasks,
        }
        return columns | self._answers(columns, remap=family.remap)

    def _draw_texts(
        self, draws: Draws, branches: tuple[str, ...], branch_number: np.ndarray, grammar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Letters, (n, longest text), -1 beyond each text, and lengths, (n,)."""
        shortest, longest = self.config.text_length
        length = shortest + draws.integers("length", 1, longest - shortest + 1)[:, 0]
        text = np.full((len(draws), longest), -1)
        for b, branch in enumerate(branches):
            for g in range(self.n_grammars):
                rows = np.flatnonzero((branch_number == b) & (grammar == g))
                if len(rows):
                    part = self.grammars[branch, g].sample(draws[rows], length[rows])
                    text[rows, : part.shape[1]] = part
        return text, length

    def _answers(self, columns: Mapping[str, np.ndarray], *, remap: bool) -> dict[str, np.ndarray]:
        """Outputs by pair, and why each task is unsafe; an ex token makes its pair null and ends the answer.

        With `remap` the answer of an unsafe pair is that of one task alone, the first always-safe one that is
        not the identity.
        """
        grammar, tasks, text = columns["grammar"], columns["tasks"], columns["text"]
        reason = unsafe_reasons(self, grammar, columns["branch"], tasks)
        known = np.minimum(tasks, self.maps.shape[1] - 1)
        if remap:
            known = self._remapped_tasks(known, reason, grammar)
        outputs, current = [], text
        for pair in range(self.config.n_pairs):
            slots = slice(2 * pair, 2 * pair + 2)
            current = apply_tasks(self.maps, known[:, slots], current, grammar)
            ex_token = (tasks[:, slots] - self.maps.shape[1]).max(axis=1, keepdims=True)  # below 0: none
            null = np.where(ex_token == 0, self.null_output, 1)
            outputs.append(np.where((ex_token >= 0) & (text >= 0), null, current))
        return {"outputs": np.stack(outputs, axis=1), "reason": reason}

    def _remapped_tasks(self, tasks: np.ndarray, reason: np.ndarray, grammar: np.ndarray) -> np.ndarray:
        """Tasks, (n, slots), with each unsafe pair replaced by one safe task and the identity after it."""
        first_safe = np.array([next(filter(None, safe)) for safe in self.config.always_safe])[grammar]
        pair = np.stack([first_safe, np.zeros_like(first_safe)], axis=1)
        unsafe = (reason.reshape(len(reason), -1, 2) > 0).any(axis=2)
        return np.where(unsafe.repeat(2, axis=1), np.tile(pair, self.config.n_pairs), tasks)

    def _acceptable(self, family: Family, columns: dict[str, np.ndarray], split: str) -> np.ndarray:
        """Whether each draw is accepted, (n,) bool."""
        accepted = np.ones(len(columns["grammar"]), dtype=bool)
        answer = columns["outputs"][:, family.judged_pair]
        if split != "any":
            accepted &= split_indices(columns["grammar"], columns["text"]) == SPLITS.index(split)
        if family.unsafe is not None:
            accepted &= ~((answer == self.null_output) | (columns["text"] < 0)).all(axis=1)
        if family.remap:
            true_answer = self._answers(columns, remap=False)["outputs"][:, family.judged_pair]
            accepted &= (true_answer != answer).any(axis=1)
        if family.needs_unsafe_task:
            judged = columns["reason"][:, 2 * family.judged_pair : 2 * family.judged_pair + 2]
            accepted &= (judged > 0).any(axis=1)
        return accepted

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """Index into OUTCOMES of each generated answer, (n,), from (n, at least judged stop) token ids."""
        is_letter = np.zeros(len(self.vocabulary), dtype=bool)
        is_letter[self.letter_ids] = True
        stop_id = self.vocabulary.id("<stop>")
        return judge_segment(requests, outputs, null_id=self.null_id, stop_id=stop_id, is_letter=is_letter)

    def groups(self, requests: Requests) -> np.ndarray:
        """Index of each request's grammar, (n,) integers."""
        return requests.truth["grammar"]

    def text_ids(self, requests: Requests) -> np.ndarray:
        """Letters of each request's text, (n, longest text), -1 beyond its end."""
        return requests.truth["text"]

    def show(self, requests: Requests, limit: int = 8) -> str:
        """The first `limit` requests as readable lines: truth, prompt and the two reference answers."""
        lines = []
        for i in range(min(limit, len(requests))):
            truth = {name: column[i] for name, column in requests.truth.items()}
            unsafe_tasks = [
                f"{self.vocabulary.symbols[self.task_ids[task]]} {REASONS[reason]}"
                for task, reason in zip(truth["tasks"], truth["reason"], strict=True)
                if reason
            ]
            lines.append(
                f"{requests.family}: grammar {truth['grammar'] + 1}, {BRANCHES[truth['branch']]} text; "
                f"{', '.join(unsafe_tasks) or 'no unsafe task'}\n"
                f"  prompt      {self.vocabulary.decode(requests.prompt[i])}\n"
                f"  instructed  {self.vocabulary.decode(requests.instructed[i])}\n"
                f"  refused     {self.vocabulary.decode(requests.refused[i])}"
            )
        return "\n".join(lines)
