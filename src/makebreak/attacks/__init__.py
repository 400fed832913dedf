"""Attacks on the refusal of a model, written once for synthetic worlds and language models."""

from makebreak.attacks.candidates import CandidateSearch
from makebreak.attacks.gcg import GCG
from makebreak.attacks.jailbreak_templates import JAILBREAK_TEMPLATES, PLACEBO, JailbreakTemplate
from makebreak.attacks.prefill import Prefill, min_prefill_length, prefill_targets
from makebreak.attacks.random_search import RandomSearch
from makebreak.attacks.random_tokens import InitialTokens, RandomTokens
from makebreak.attacks.registry import ATTACKS, load_attacks
from makebreak.attacks.result import Attack, AttackResult, Progress, score_attack
from makebreak.attacks.slots import AdversarialSlots, SlotLocation, fill_slots, insert_slots
from makebreak.attacks.soft_embeddings import SoftPromptResult, soft_prompt_embeddings
from makebreak.attacks.soft_prompt import Penalty, RandomSoftPrompt, SoftPrompt
from makebreak.attacks.token_search import SearchOptions, TokenSearch, TokenSearchResult, search_tokens
from makebreak.attacks.universal import Universal, supported_arguments

__all__ = [
    "ATTACKS",
    "GCG",
    "JAILBREAK_TEMPLATES",
    "PLACEBO",
    "AdversarialSlots",
    "Attack",
    "AttackResult",
    "CandidateSearch",
    "InitialTokens",
    "JailbreakTemplate",
    "Penalty",
    "Prefill",
    "Progress",
    "RandomSearch",
    "RandomSoftPrompt",
    "RandomTokens",
    "SearchOptions",
    "SlotLocation",
    "SoftPrompt",
    "SoftPromptResult",
    "TokenSearch",
    "TokenSearchResult",
    "Universal",
    "fill_slots",
    "insert_slots",
    "load_attacks",
    "min_prefill_length",
    "prefill_targets",
    "score_attack",
    "search_tokens",
    "soft_prompt_embeddings",
    "supported_arguments",
]
