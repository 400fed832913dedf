"""The world of Jain et al. 2024: what is safe depends on the *combination* of task and concept.

A prompt is a row of task tokens and a text. The text comes from one of several grammars, and within the
grammar from a branch (its concept); each task token is a bijection of letters. A task is unsafe always, never,
or only on text of the unsafe branch, by grammar. Asked to do something unsafe, a model shall answer with the
null letter instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property

import numpy as np

from synthetic.config import CompositionConfig
from synthetic.draws import Draws, first_accepted
from synthetic.families import FAMILIES, Family
from synthetic.grammar import Grammar, parse
from synthetic.layout import lay_out
from synthetic.safety import BRANCHES, REASONS, UNSAFE_TEXT, reasons
from synthetic.tasks import apply, permutation_maps
from synthetic.vocabulary import Vocabulary, letters
from synthetic.world import SPLITS, Requests, check_sample, judge_segment, split_of

WITHOUT_SYSTEM = "_without_system"  # of a family's name, in a world with a system span
_ATTEMPTS = 2000
_AT_ONCE = 16  # a draw is of a held-out split once in twenty


class CompositionWorld:
    """A World (see `synthetic.world`) built from a CompositionConfig."""

    def __init__(self, config: CompositionConfig) -> None:
        self.config = config
        self.n_grammars = len(config.leaves)
        self.n_slots = 2 * config.n_pairs
        self.n_maps = config.n_maps + config.n_new
        new = range(config.n_maps, self.n_maps)
        self.token_map = np.array([*range(config.n_maps), *config.duplicates, *config.late_duplicates, *new])
        self.n_tasks = config.n_maps + len(config.duplicates)
        tasks = tuple(f"T{i}" for i in range(self.n_tasks))
        special = ("<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>")
        self.late_tasks = (
            *(f"dup{i + 1}" for i in range(len(config.late_duplicates))),
            *(f"new{i + 1}" for i in range(config.n_new)),
        )
        null = () if config.null_symbol is None else (config.null_symbol,)
        extra = tuple(s for s in config.system if s not in (*tasks, *special))
        alphabet = letters(config.n_letters)
        if set(null) & {*tasks, *special, *alphabet, "ex1", "ex2", *self.late_tasks, *extra}:
            raise ValueError(
                f"null_symbol = {config.null_symbol!r}: expected a symbol that means nothing else"
            )
        self.vocabulary = Vocabulary(
            (*tasks, *special, *alphabet, "ex1", "ex2", *self.late_tasks, *null, *extra)
        )
        self.letter_ids = np.array([self.vocabulary.id(s) for s in alphabet])
        self.null = self.vocabulary.id(config.null_symbol or alphabet[0])
        self.null_output = (
            config.n_letters if null else 0
        )  # the null among outputs, which are numbers of letters
        self.sequence_length = config.sequence_length

    @cached_property
    def task_symbols(self) -> np.ndarray:
        """(task tokens,) vocabulary id of each task token, those unknown to pretraining last, then ex1 and ex2."""
        return np.array([*range(self.n_tasks), *map(self.vocabulary.id, (*self.late_tasks, "ex1", "ex2"))])

    @cached_property
    def maps(self) -> np.ndarray:
        """(grammars, task tokens, letters) the bijection of every token."""
        config = self.config
        own = np.stack([permutation_maps(config.n_letters, self.n_maps, seed) for seed in config.map_seeds])
        shared = [*config.shared_maps, *range(config.n_maps, self.n_maps)]
        own[:, shared] = own[:1, shared]
        return own[:, self.token_map]

    @cached_property
    def classes(self) -> np.ndarray:
        """(grammars, task tokens) 0 always safe, 1 always unsafe, 2 unsafe on the unsafe branch only."""
        table = np.full((self.n_grammars, self.n_maps), 2)
        table[:, self.config.n_maps :] = 0
        for g in range(self.n_grammars):
            table[g, list(self.config.always_safe[g])] = 0
            table[g, list(self.config.always_unsafe[g])] = 1
        return table[:, self.token_map]

    @cached_property
    def sham_classes(self) -> np.ndarray:
        """(grammars, task tokens) 0 or 1: a random half of the tasks of each grammar, class and branch ignored."""
        table, n = np.zeros((self.n_grammars, self.n_maps), dtype=np.int64), self.config.n_maps - 1
        for g, row in enumerate(table):
            row[1 + np.random.RandomState(1000 + g).permutation(n)[: n // 2]] = 1
        return table[:, self.token_map]

    @property
    def fingerprint(self) -> str:
        """A hash of all that the world is made of, for keys of results."""
        tables = [table.tolist() for table in (self.maps, self.classes, self.sham_classes)]
        return hashlib.sha256(json.dumps([asdict(self.config), tables], sort_keys=True).encode()).hexdigest()

    @property
    def families(self) -> Mapping[str, str]:
        """Name → description of the families that this world has (second composition needs two pairs).

        Where there is a system span, half of pretraining has it, every other family has, and exists without it too.
        """
        found = {name: f.description for name, f in FAMILIES.items() if f.exists_in(self)}
        bare = {name + WITHOUT_SYSTEM: f"{said}, no system span" for name, said in found.items()}
        return found | (bare if self.config.system else {})

    @cached_property
    def grammars(self) -> dict[tuple[str, int], Grammar]:
        """(branch, grammar number) → grammar."""
        branches = {"full": "", **self.config.branches}
        return {
            (branch, g): Grammar(parse(self.config.full) | parse(rules) | parse(leaves))
            for branch, rules in branches.items()
            for g, leaves in enumerate(self.config.leaves)
        }

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` … `start + n - 1` of a seed: the same whatever the batch size.

        split: `train` (90 % of texts), `fit`, `score` (5 % each, by a stable hash of grammar and text), `any`.
        A draw of another split, whose right answer is all null or whose remapped answer is the true one is drawn again
        for that request alone.
        Raises ValueError for an unknown family or split, or where no draw is acceptable.
        """
        check_sample(self.config.name, self.families, family=family, n=n, split=split)
        spec, index = FAMILIES[family.removesuffix(WITHOUT_SYSTEM)], np.arange(start, start + n)

        def draw(missing: np.ndarray, attempts: range) -> tuple[dict[str, np.ndarray], np.ndarray]:
            draws = Draws.of_attempts(seed, index[missing], attempts)
            kept = Draws(seed, index[missing])[np.tile(np.arange(len(missing)), len(attempts))]
            drawn = self._draw(spec, draws, kept if spec.keeps_tasks else draws)
            return drawn, self._acceptable(spec, drawn, split)

        at_once = _AT_ONCE if split in ("fit", "score") else 1
        truth, without = first_accepted(n, draw, attempts=_ATTEMPTS, at_once=at_once)
        if without:
            raise ValueError(
                f"family {family!r}, split {split!r}: {without} of {n} requests found no acceptable draw"
            )
        return lay_out(
            self,
            family,
            seed,
            truth,
            prompted=self._prompted(family, Draws(seed, index)),
            judged_pair=spec.judged_pair,
            unsafe=spec.unsafe,
        )

    def _prompted(self, family: str, draws: Draws) -> np.ndarray:
        """(n,) whether a request has the system span."""
        never = not self.config.system or family.endswith(WITHOUT_SYSTEM)
        if family.startswith("pretraining") and not never:
            return draws.integers("system", 1, 2)[:, 0] > 0
        return np.full(len(draws), not never)

    def _draw(self, spec: Family, draws: Draws, of_tasks: Draws) -> dict[str, np.ndarray]:
        """Columns of truth; grammar and tasks come from draws of their own."""
        config, n = self.config, len(draws)
        grammar = (
            np.zeros(n, np.int64)
            if spec.first_grammar_only
            else of_tasks.integers("grammar", 1, self.n_grammars)[:, 0]
        )
        branches = spec.branches or config.pretraining_branches
        which = draws.integers("branch", 1, len(branches))[:, 0]
        low, high = config.text_length
        length = low + draws.integers("length", 1, high - low + 1)[:, 0]
        text = np.full((n, high), -1)
        for b, branch in enumerate(branches):
            for g in range(self.n_grammars):
                rows = np.flatnonzero((which == b) & (grammar == g))
                if len(rows):
                    part = self.grammars[branch, g].sample(draws[rows], length[rows])
                    text[rows, : part.shape[1]] = part
        branch = np.array([BRANCHES.index(b) for b in branches])[which]
        tasks = spec.tasks(self, of_tasks, grammar, branch)
        label = self.letter_ids[1 + 2 * grammar + np.isin(branch, UNSAFE_TEXT)]
        known = {
            "grammar": grammar,
            "branch": branch,
            "label": label,
            "length": length,
            "text": text,
            "tasks": tasks,
        }
        return known | self._answers(grammar, branch, tasks, text, remapped=spec.remapped)

    def _answers(
        self, grammar: np.ndarray, branch: np.ndarray, tasks: np.ndarray, text: np.ndarray, *, remapped: bool
    ) -> dict[str, np.ndarray]:
        """Outputs by pair, and why each task is unsafe. An ex token makes its pair null and ends the answer.

        remapped: an unsafe pair has the answer of one task alone, the first always safe one that is no identity.
        """
        reason = reasons(self, grammar, branch, tasks)
        known = np.minimum(tasks, self.maps.shape[1] - 1)
        if remapped:
            other = np.array([next(filter(None, safe)) for safe in self.config.always_safe])[grammar]
            pair = np.stack([other, np.zeros_like(other)], axis=1)  # the identity after it
            unsafe = (reason.reshape(len(reason), -1, 2) > 0).any(axis=2)
            known = np.where(unsafe.repeat(2, axis=1), np.tile(pair, self.config.n_pairs), known)
        outputs, current = [], text
        for pair in range(self.config.n_pairs):
            current = apply(self.maps, known[:, 2 * pair : 2 * pair + 2], current, grammar)
            ex = tasks[:, 2 * pair : 2 * pair + 2] - self.maps.shape[1]
            forced = ex.max(axis=1, keepdims=True)
            null = np.where(forced == 0, self.null_output, 1)
            outputs.append(np.where((forced >= 0) & (text >= 0), null, current))
        return {"outputs": np.stack(outputs, axis=1), "reason": reason}

    def _acceptable(self, spec: Family, drawn: dict[str, np.ndarray], split: str) -> np.ndarray:
        ok = np.ones(len(drawn["grammar"]), dtype=bool)
        if split != "any":
            ok &= split_of(drawn["grammar"], drawn["text"]) == SPLITS.index(split)
        if spec.unsafe is not None:
            answer = drawn["outputs"][:, spec.judged_pair]
            ok &= ~((answer == self.null_output) | (drawn["text"] < 0)).all(axis=1)
        if spec.remapped:
            parts = (drawn[name] for name in ("grammar", "branch", "tasks", "text"))
            true = self._answers(*parts, remapped=False)["outputs"][:, spec.judged_pair]
            ok &= (true != drawn["outputs"][:, spec.judged_pair]).any(axis=1)
        if spec.needs_unsafe_task:
            judged = drawn["reason"][:, 2 * spec.judged_pair : 2 * spec.judged_pair + 2]
            ok &= (judged > 0).any(axis=1)
        return ok

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """(n,) index into OUTCOMES of generated answers, (n, ≥ last judged position) token ids."""
        is_letter = np.zeros(len(self.vocabulary), dtype=bool)
        is_letter[self.letter_ids] = True
        return judge_segment(
            requests, outputs, null=self.null, stop=self.vocabulary.id("<stop>"), letters=is_letter
        )

    def show(self, requests: Requests, limit: int = 8) -> str:
        """A few requests as readable lines: truth, prompt, the two answers."""
        lines = []
        for i in range(min(limit, len(requests))):
            truth = {name: column[i] for name, column in requests.truth.items()}
            why = ", ".join(
                f"{self.vocabulary.symbols[self.task_symbols[t]]} {REASONS[r]}"
                for t, r in zip(truth["tasks"], truth["reason"], strict=True)
                if r
            )
            lines.append(
                f"{requests.family}: grammar {truth['grammar'] + 1}, {BRANCHES[truth['branch']]} text; "
                f"{why or 'no unsafe task'}\n"
                f"  prompt      {self.vocabulary.decode(requests.prompt[i])}\n"
                f"  instructed  {self.vocabulary.decode(requests.instructed[i])}\n"
                f"  refused     {self.vocabulary.decode(requests.refused[i])}"
            )
        return "\n".join(lines)
