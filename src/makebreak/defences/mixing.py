"""Fine-tuning on a user's examples with a provider's safety examples mixed in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from makebreak.configs import check_probability
from makebreak.defences.mitigations import load_mitigation, mitigation_digest
from makebreak.defences.safety_data import N_USER_EXAMPLES, AnsweredRequests, SafetyData
from makebreak.prompts import Requests, Sequences, World, sequences
from makebreak.seeds import safety_data_seed
from makebreak.training import Objective, concatenate, draw_batch


@dataclass(frozen=True)
class MixedFineTuning(Objective):
    """Cross-entropy on the answers to a user's requests and to the safety examples of a mitigation.

    All examples are sampled alike. Refusals are trained up to their first STOP, so that they have as many
    tokens in every format.
    """

    tag: ClassVar[str] = "Mixed"
    user_family: str = field(metadata={"key": "user"})
    """Family of the user's requests, which get the instructed answer."""
    n_examples: int = field(metadata={"key": "examples"})
    """Number of examples, safety examples included."""
    mitigation: str = "none"
    """Mitigation that writes the safety examples: a name in `MITIGATIONS`, or MODULE:FUNCTION."""
    safety_share: float = field(default=0.0, metadata={"key": "rate"})
    """Share of safety examples among all, from 0 to 1."""
    answers: Literal["instructed", "shuffled"] = "instructed"
    """Answers to the user's requests; `shuffled` gives each the answer of another one, as a control."""

    def __post_init__(self) -> None:
        check_probability("safety_share", self.safety_share)
        if (self.mitigation == "none") != (self.n_safety == 0):
            raise ValueError(
                f"mitigation {self.mitigation!r}, {self.safety_share:g} of {self.n_examples} examples: "
                "expected 'none' where that is no example, and another where it is one or more"
            )

    @property
    def n_safety(self) -> int:
        """Number of safety examples."""
        return round(self.safety_share * self.n_examples)

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Sequences:
        """Sequences of one step, sampled from all examples."""
        return draw_batch(mixed_sequences(world, self, seed), size=size, step=step, seed=seed)

    def describe(self) -> str:
        """`tuned`, with the user's family, `shuffled` answers and the number of safety examples."""
        shuffled = ":shuffled" if self.answers == "shuffled" else ""
        safety = f"+{self.n_safety}:{self.mitigation}" if self.n_safety else ""
        return f"tuned:{self.user_family}{shuffled}{safety}"

    def source_digests(self) -> dict[str, str]:
        """Those of the objective, and of a mitigation of the user's own."""
        digest = mitigation_digest(self.mitigation) if self.n_safety else None
        return super().source_digests() | ({f"{self.mitigation} is": digest} if digest else {})


@lru_cache(maxsize=8)
def mixed_sequences(world: World, objective: MixedFineTuning, seed: int) -> Sequences:
    """All examples of mixed fine-tuning.

    Args:
        world: World of the requests.
        objective: What is mixed.
        seed: Seed of the user's requests; the seed of the safety examples is derived from it.

    Returns:
        Sequences of the user's examples, then of the safety examples.

    Raises:
        ValueError: If the mitigation writes another number of examples than `objective.n_safety`.
    """
    user = world.sample(objective.user_family, objective.n_examples - objective.n_safety, seed=seed)
    parts: list[AnsweredRequests] = []
    if objective.n_safety:
        safety = SafetyData(world, objective.n_safety, safety_data_seed(seed))
        parts = load_mitigation(objective.mitigation)(safety, user[:N_USER_EXAMPLES])
        n = sum(len(requests) for requests, _ in parts)
        if n != objective.n_safety:
            raise ValueError(
                f"mitigation {objective.mitigation!r} wrote {n} examples: expected {objective.n_safety}"
            )
    if objective.answers == "shuffled":
        user = replace(user, instructed=np.roll(user.instructed, 1, axis=0))
    examples = [(user, "instructed")]
    examples += [(_truncate_refusal(world, requests), answer) for requests, answer in parts]
    return concatenate([sequences(world, requests, answer, whole=True) for requests, answer in examples])


def _truncate_refusal(world: World, requests: Requests) -> Requests:
    """Requests whose refusals end at their first STOP."""
    stop, pad = world.vocabulary.id("<stop>"), world.vocabulary.id("<pad>")
    n_stops_before = np.cumsum(requests.refused == stop, axis=1) - (requests.refused == stop)
    return replace(requests, refused=np.where(n_stops_before > 0, pad, requests.refused))
