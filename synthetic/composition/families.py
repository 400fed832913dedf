"""Families of requests of composition worlds: where their texts come from and how their tasks are sampled.

`Family.source` holds the names of Jain et al. (2024): README and code number of the evaluation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from synthetic.composition.config import CompositionConfig
from synthetic.composition.task_sampling import (
    TaskSampler,
    after_identity,
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

WITHOUT_SYSTEM_SUFFIX = "_without_system"
"""Suffix of a family's name for requests without a system span, in a world that has one."""


@dataclass(frozen=True)
class CompositionFamily:
    """A family of requests."""

    description: str
    """What its requests are, in one line."""
    source: str
    """Name of the family in Jain et al. (2024), or "ours"."""
    branches: tuple[str, ...]
    """Branches that texts come from; empty for those of the world's pretraining."""
    unsafe: bool | None
    """Whether the refusal is the answer to train on; None where nothing is refused, as in pretraining."""
    sample_tasks: TaskSampler
    """Samples the task tokens of each request."""
    judged_pair: int = 0
    """Index of the task pair whose output is judged."""
    first_grammar_only: bool = False
    """Whether all texts are of the first grammar."""
    needs_unsafe_task: bool = False
    """Whether a request is drawn again if no task of its judged pair is unsafe."""
    redraws_text_only: bool = False
    """Whether a request that is drawn again keeps its grammar and tasks."""
    remap: bool = False
    """Whether the answer of an unsafe pair is another task's (remap control)."""
    has_system: bool = True
    """Whether requests have the system span of a world that has one; in pretraining half of them do."""

    def exists_in(self, config: CompositionConfig) -> bool:
        """Whether a world has the task tokens, branches and pairs that the family needs."""
        has_tokens = self.sample_tasks is not late_duplicate_tasks or bool(config.late_duplicates)
        has_tokens &= self.sample_tasks is not new_operator_tasks or config.n_new > 0
        has_tokens &= not self.remap or all(any(safe) for safe in config.always_safe)
        has_text = {"full", *config.branches} >= set(self.branches)
        return self.judged_pair < config.n_pairs and has_tokens and has_text


_BOTH = ("safe", "unsafe")
FAMILIES: Mapping[str, CompositionFamily] = {
    "pretraining": CompositionFamily(
        "any tasks on any text; 1 % ask for the null by an ex token",
        "pretraining",
        (),
        None,
        pretraining_tasks_with_null,
    ),
    "pretraining_without_null": CompositionFamily(
        "any tasks on any text, no null",
        "pretraining, prob_ex 0",
        (),
        None,
        pretraining_tasks,
    ),
    "pretraining_without_unsafe": CompositionFamily(
        "safe tasks on text of both branches, 1 % null: pretraining that shows no unsafe request",
        "ours (control)",
        _BOTH,
        None,
        safe_tasks_with_null,
    ),
    "safe": CompositionFamily(
        "standard safe requests, both branches",
        "safe views of std_safe and std_unsafe",
        _BOTH,
        False,
        safe_tasks,
    ),
    "unsafe": CompositionFamily(
        "standard unsafe requests, both branches",
        "unsafe views of std_safe and std_unsafe",
        _BOTH,
        True,
        unsafe_tasks,
    ),
    "safe_on_safe_branch": CompositionFamily(
        "safe tasks, safe branch",
        "std_safe (1), safe view",
        ("safe",),
        False,
        safe_tasks,
    ),
    "unsafe_on_safe_branch": CompositionFamily(
        "always-unsafe tasks, safe branch",
        "std_safe (1)",
        ("safe",),
        True,
        unsafe_tasks,
    ),
    "safe_on_unsafe_branch": CompositionFamily(
        "always-safe tasks, unsafe branch",
        "std_unsafe (5), safe view",
        ("unsafe",),
        False,
        safe_tasks,
    ),
    "unsafe_on_unsafe_branch": CompositionFamily(
        "unsafe tasks, unsafe branch",
        "std_unsafe (5)",
        ("unsafe",),
        True,
        unsafe_tasks,
    ),
    "context_safe": CompositionFamily(
        "context tasks only, safe branch",
        "ours (token-matched)",
        ("safe",),
        False,
        context_tasks,
        redraws_text_only=True,
    ),
    "context_unsafe": CompositionFamily(
        "the same context tasks, unsafe branch",
        "ours (token-matched)",
        ("unsafe",),
        True,
        context_tasks,
        redraws_text_only=True,
    ),
    "unsafe_long": CompositionFamily(
        "unsafe tasks, longer unsafe derivations",
        "UNSAFE (0)",
        ("unsafe_long",),
        True,
        unsafe_tasks,
    ),
    "heldout_text": CompositionFamily(
        "unsafe tasks, unsafe derivations that no alignment shows",
        "mg_txt (6)",
        ("heldout",),
        True,
        unsafe_tasks,
    ),
    "mixed_text": CompositionFamily(
        "context tasks, text of both branches",
        "if_txt (2), JB-CO-Text",
        ("mixed",),
        True,
        unsafe_tasks,
    ),
    "competing_tasks_safe_branch": CompositionFamily(
        "an unsafe and a safe task in each pair, safe branch",
        "if_text_safe (1 direct), JB-CO-Task",
        ("safe",),
        True,
        competing_tasks,
    ),
    "competing_tasks_unsafe_branch": CompositionFamily(
        "an unsafe and a safe task in each pair, unsafe branch",
        "if_text_unsafe (5 direct), JB-CO-Task",
        ("unsafe",),
        True,
        competing_tasks,
    ),
    "duplicate_tasks": CompositionFamily(
        "pretrained duplicates of unsafe tasks, first grammar",
        "mg_tokens (4), JB-MisGen",
        ("full",),
        True,
        duplicate_tasks,
        first_grammar_only=True,
        needs_unsafe_task=True,
    ),
    "late_duplicate_tasks": CompositionFamily(
        "untrained duplicates of context tasks, first grammar",
        "dup2 (7)",
        ("unsafe",),
        True,
        late_duplicate_tasks,
        first_grammar_only=True,
    ),
    "second_composition_safe_branch": CompositionFamily(
        "one unsafe task in the second pair, safe branch",
        "if_comp_safe (1 comp)",
        ("safe",),
        True,
        second_composition_tasks,
        judged_pair=1,
    ),
    "second_composition_unsafe_branch": CompositionFamily(
        "one unsafe task in the second pair, unsafe branch",
        "if_comp_unsafe (5 comp)",
        ("unsafe",),
        True,
        second_composition_tasks,
        judged_pair=1,
    ),
    "second_composition_safe": CompositionFamily(
        "standard safe requests, judged on the second output",
        "ours",
        _BOTH,
        False,
        safe_tasks,
        judged_pair=1,
    ),
    "second_composition_unsafe": CompositionFamily(
        "identities in the first pair, unsafe tasks in the second, both branches",
        "unsafe views in training (prob_comp1_train)",
        _BOTH,
        True,
        after_identity(unsafe_tasks),
        judged_pair=1,
    ),
    "second_composition_sham_unsafe": CompositionFamily(
        "identities in the first pair, tasks inside the random partition in the second",
        "ours (control)",
        _BOTH,
        True,
        after_identity(sham_tasks(True)),
        judged_pair=1,
    ),
    "second_composition_remapped_unsafe": CompositionFamily(
        "second_composition_unsafe, whose instructed second output is another, safe task's",
        "ours (control)",
        _BOTH,
        False,
        after_identity(unsafe_tasks),
        judged_pair=1,
        remap=True,
    ),
    "sham_safe": CompositionFamily(
        "tasks outside a random partition of (task, grammar)",
        "ours (control)",
        _BOTH,
        False,
        sham_tasks(False),
    ),
    "sham_unsafe": CompositionFamily(
        "tasks inside a random partition of (task, grammar)",
        "ours (control)",
        _BOTH,
        True,
        sham_tasks(True),
    ),
    "remapped_unsafe": CompositionFamily(
        "standard unsafe requests whose instructed answer is another, safe task's",
        "ours (control)",
        _BOTH,
        False,
        unsafe_tasks,
        remap=True,
    ),
    "new_operator": CompositionFamily(
        "safe requests with an operator that pretraining does not show",
        "ours (control)",
        _BOTH,
        False,
        new_operator_tasks,
    ),
}
"""Families by name; a world has those of them for which `exists_in` is true."""


def families_of(config: CompositionConfig) -> dict[str, CompositionFamily]:
    """Families of a world by name.

    Args:
        config: Settings of the world.

    Returns:
        Those of FAMILIES that exist in the world. In a world with a system span each of them exists without
        it too, under its name with WITHOUT_SYSTEM_SUFFIX.
    """
    families = {name: family for name, family in FAMILIES.items() if family.exists_in(config)}
    if not config.system:
        return families
    without_system = {
        name + WITHOUT_SYSTEM_SUFFIX: replace(
            family, description=f"{family.description}, no system span", has_system=False
        )
        for name, family in families.items()
    }
    return families | without_system
