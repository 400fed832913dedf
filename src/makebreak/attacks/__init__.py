"""What makes a model answer what it should refuse?"""

from makebreak.attacks.causes import SCALES, cause_rows, undone_at
from makebreak.attacks.landing import Landed, land, landing_rows, prediction_rows
from makebreak.attacks.phrasings import PHRASINGS, PLACEBO
from makebreak.attacks.placing import Placed, Where, place, written
from makebreak.attacks.prefill import prefilled
from makebreak.attacks.soft import (
    Penalty,
    Softened,
    SoftTokens,
    random_vectors,
    soft_tokens,
    soften,
    softened,
)
from makebreak.attacks.tokens import Attacked, How, TokenAttack, attack_tokens
from makebreak.attacks.tried import Attack, BySoftTokens, ByTokens, Tried, refusal_depth, tried
from makebreak.attacks.typed import survives, typeable

__all__ = [
    "PHRASINGS",
    "PLACEBO",
    "SCALES",
    "Attack",
    "Attacked",
    "BySoftTokens",
    "ByTokens",
    "How",
    "Landed",
    "Penalty",
    "Placed",
    "SoftTokens",
    "Softened",
    "TokenAttack",
    "Tried",
    "Where",
    "attack_tokens",
    "cause_rows",
    "land",
    "landing_rows",
    "place",
    "prediction_rows",
    "prefilled",
    "random_vectors",
    "refusal_depth",
    "soft_tokens",
    "soften",
    "softened",
    "survives",
    "tried",
    "typeable",
    "undone_at",
    "written",
]
