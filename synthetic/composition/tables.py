"""Tables of a composition world: its vocabulary, bijections, safety classes and grammars."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from synthetic.composition.config import CompositionConfig
from synthetic.composition.grammar import Grammar, parse_rules
from synthetic.composition.tasks import permutation_maps
from synthetic.vocabulary import Vocabulary, letter_symbols

ALWAYS_SAFE, ALWAYS_UNSAFE, CONTEXT = range(3)
"""Safety classes of a task in a grammar; a *context* task is unsafe on unsafe branches only."""
_SPECIAL = ("<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>")
_EX_TOKENS = ("ex1", "ex2")
_SHAM_SEED = 1000


class CompositionTables:
    """Everything that a composition world's requests are drawn and encoded from.

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
        self.n_tokens = len(self.token_map)
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

    @cached_property
    def grammars(self) -> dict[tuple[str, int], Grammar]:
        """Grammars by branch and number of the grammar."""
        full, grammars = parse_rules(self.config.full), {}
        for branch, rules in {"full": "", **self.config.branches}.items():
            for g, leaves in enumerate(self.config.leaves):
                grammars[branch, g] = Grammar(full | parse_rules(rules) | parse_rules(leaves))
        return grammars
