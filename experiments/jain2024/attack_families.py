"""Attacks of the study: families of jailbreaks by kind, and sizes of soft prompts and token attacks."""

from __future__ import annotations

JAILBREAKS = {
    "CO-Text": ("mixed_text",),
    "CO-Task": ("competing_tasks_safe_branch", "competing_tasks_unsafe_branch"),
    "MisGen": ("duplicate_tasks",),
    "MisGen-Text": ("heldout_text",),
}
"""Families of requests by kind of jailbreak (Jain et al. 2024): competing objectives in text and in tasks,
mismatched generalisation in tasks and in text."""
SECOND_COMPOSITIONS = ("second_composition_safe_branch", "second_composition_unsafe_branch")
"""Families whose judged output comes after a first answer."""
SOFT_PROMPT_SIZES = (1, 2, 5, 10)
"""Numbers of soft tokens."""
N_SLOTS = 4
"""Number of adversarial slots of token attacks: tokens that the judged output does not depend on."""
