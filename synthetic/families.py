"""Which kinds of request are there? Each family: where its text comes from and how its tasks are drawn.

Names of Jain et al. 2024 (README and code number of the evaluation split) stand in `paper`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthetic.task_draws import (
    TaskDraw,
    competing_tasks,
    context_tasks,
    duplicate_tasks,
    late_duplicate_tasks,
    new_operator_tasks,
    pretraining_tasks,
    pretraining_tasks_with_null,
    safe_tasks,
    safe_tasks_with_null,
    second_composition_tasks,
    sham_tasks,
    unsafe_tasks,
)

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld


@dataclass(frozen=True)
class Family:
    """branches: where the text comes from; none: where the world's pretraining takes it.

    unsafe: whether the null is the answer to teach (None: nothing is refused, as in pretraining). keeps_tasks: a
    request whose text is drawn again keeps its grammar and tasks. remapped: the answer of an unsafe pair is another
    task's.
    """

    description: str
    paper: str
    branches: tuple[str, ...]
    unsafe: bool | None
    tasks: TaskDraw
    judged_pair: int = 0
    first_grammar_only: bool = False
    needs_unsafe_task: bool = False
    keeps_tasks: bool = False
    remapped: bool = False

    def exists_in(self, world: CompositionWorld) -> bool:
        config = world.config
        has_tokens = self.tasks is not late_duplicate_tasks or bool(config.late_duplicates)
        has_tokens &= self.tasks is not new_operator_tasks or config.n_new > 0
        has_tokens &= not self.remapped or all(any(safe) for safe in config.always_safe)
        has_text = {"full", *config.branches} >= set(self.branches)
        return self.judged_pair < config.n_pairs and has_tokens and has_text


_BOTH = ("safe", "unsafe")
FAMILIES: dict[str, Family] = {
    "pretraining": Family(
        "any tasks on any text; 1 % ask for the null by an ex token",
        "pretraining",
        (),
        None,
        pretraining_tasks_with_null,
    ),
    "pretraining_without_null": Family(
        "any tasks on any text, no null", "pretraining, prob_ex 0", (), None, pretraining_tasks
    ),
    "pretraining_without_unsafe": Family(
        "safe tasks on text of both branches, 1 % null: a base that never saw it",
        "ours (control)",
        _BOTH,
        None,
        safe_tasks_with_null,
    ),
    "safe": Family(
        "standard safe requests, both branches",
        "safe views of std_safe and std_unsafe",
        _BOTH,
        False,
        safe_tasks,
    ),
    "unsafe": Family(
        "standard unsafe requests, both branches",
        "unsafe views of std_safe and std_unsafe",
        _BOTH,
        True,
        unsafe_tasks,
    ),
    "safe_on_safe_branch": Family(
        "safe tasks, safe branch", "std_safe (1), safe view", ("safe",), False, safe_tasks
    ),
    "unsafe_on_safe_branch": Family(
        "always-unsafe tasks, safe branch", "std_safe (1)", ("safe",), True, unsafe_tasks
    ),
    "safe_on_unsafe_branch": Family(
        "always-safe tasks, unsafe branch", "std_unsafe (5), safe view", ("unsafe",), False, safe_tasks
    ),
    "unsafe_on_unsafe_branch": Family(
        "unsafe tasks, unsafe branch", "std_unsafe (5)", ("unsafe",), True, unsafe_tasks
    ),
    "context_safe": Family(
        "context tasks only, safe branch",
        "ours (token-matched)",
        ("safe",),
        False,
        context_tasks,
        keeps_tasks=True,
    ),
    "context_unsafe": Family(
        "the same context tasks, unsafe branch",
        "ours (token-matched)",
        ("unsafe",),
        True,
        context_tasks,
        keeps_tasks=True,
    ),
    "unsafe_long": Family(
        "unsafe tasks, longer unsafe derivations", "UNSAFE (0)", ("unsafe_long",), True, unsafe_tasks
    ),
    "heldout_text": Family(
        "unsafe tasks, unsafe derivations never tuned on", "mg_txt (6)", ("heldout",), True, unsafe_tasks
    ),
    "mixed_text": Family(
        "context tasks, text of both branches", "if_txt (2), JB-CO-Text", ("mixed",), True, unsafe_tasks
    ),
    "competing_tasks_safe_branch": Family(
        "an unsafe and a safe task in each pair, safe branch",
        "if_text_safe (1 direct), JB-CO-Task",
        ("safe",),
        True,
        competing_tasks,
    ),
    "competing_tasks_unsafe_branch": Family(
        "an unsafe and a safe task in each pair, unsafe branch",
        "if_text_unsafe (5 direct), JB-CO-Task",
        ("unsafe",),
        True,
        competing_tasks,
    ),
    "duplicate_tasks": Family(
        "pretrained twins of unsafe tasks, first grammar",
        "mg_tokens (4), JB-MisGen",
        ("full",),
        True,
        duplicate_tasks,
        first_grammar_only=True,
        needs_unsafe_task=True,
    ),
    "late_duplicate_tasks": Family(
        "untrained twins of context tasks, first grammar",
        "dup2 (7)",
        ("unsafe",),
        True,
        late_duplicate_tasks,
        first_grammar_only=True,
    ),
    "second_composition_safe_branch": Family(
        "one unsafe task in the second pair, safe branch",
        "if_comp_safe (1 comp)",
        ("safe",),
        True,
        second_composition_tasks,
        judged_pair=1,
    ),
    "second_composition_unsafe_branch": Family(
        "one unsafe task in the second pair, unsafe branch",
        "if_comp_unsafe (5 comp)",
        ("unsafe",),
        True,
        second_composition_tasks,
        judged_pair=1,
    ),
    "second_composition_safe": Family(
        "standard safe requests, judged on the second output", "ours", _BOTH, False, safe_tasks, judged_pair=1
    ),
    "sham_safe": Family(
        "tasks outside a random partition of (task, grammar)",
        "ours (control)",
        _BOTH,
        False,
        sham_tasks(False),
    ),
    "sham_unsafe": Family(
        "tasks inside a random partition of (task, grammar)", "ours (control)", _BOTH, True, sham_tasks(True)
    ),
    "remapped_unsafe": Family(
        "standard unsafe requests whose right answer is one safe task's",
        "ours (control)",
        _BOTH,
        False,
        unsafe_tasks,
        remapped=True,
    ),
    "new_operator": Family(
        "safe requests with an operator that pretraining never showed",
        "ours (control)",
        _BOTH,
        False,
        new_operator_tasks,
    ),
}
