"""What makes a model answer what it should refuse?"""

from makebreak.attacks.placing import Placed, Where, place
from makebreak.attacks.soft import Penalty, Softened, SoftTokens, soft_tokens, soften
from makebreak.attacks.tokens import Attacked, TokenAttack, attack_tokens

__all__ = [
    "Attacked",
    "Penalty",
    "Placed",
    "SoftTokens",
    "Softened",
    "TokenAttack",
    "Where",
    "attack_tokens",
    "place",
    "soft_tokens",
    "soften",
]
