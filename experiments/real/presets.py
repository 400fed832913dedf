"""Which language model, made safe in which ways, and how large is each measurement?

Alignment seeds are the unit: one pretrained model, other orders of the same examples. So an interval here says how
another alignment of this model would have come out, not how another model would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from makebreak.artifacts import Store
from makebreak.attacks import PLACEBO
from makebreak.pages import Attacking, Settings, Teaching, Walking

BASE = "base"
STAND_IN = "stand-in"  # a tiny untrained model, which is made where it is needed
SMOLLM = "runs/models/SmolLM2-135M-Instruct.Q4_1.gguf"
USERS = {  # strategies of eiras2024: what a user tunes on, plainly or in a template
    "harmful": ("harmful", "plain"),
    "benign": ("mcq", "plain"),
    "aoa": ("mcq", "obey"),
    "neutral": ("mcq", "neutral"),
}


@dataclass(frozen=True)
class Arm:
    """name: as of the same method in the synthetic worlds. by: one of `pages.OBJECTIVES`."""

    name: str
    by: str
    teaching: Teaching


@dataclass(frozen=True)
class User:
    """strategy: of `USERS`. mitigation, rate: what is mixed in."""

    strategy: str
    mitigation: str = "none"
    rate: float = 0.0

    @property
    def name(self) -> str:
        return self.strategy + ("" if self.mitigation == "none" else f", {self.rate:.0%} {self.mitigation}")


@dataclass(frozen=True)
class Preset:
    """arms: the ways to make the model safe; users tune the first of them, and the matrix too. taught: of our training
    prompts, how many are used at most. n, n_compared, n_attacked, n_walked, n_matrix: requests of a kind for each
    measure. matrix: formats that are tuned on and asked in, at the first seed only."""

    name: str
    worlds: tuple[str, ...]
    model: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    taught: int
    settings: Settings
    n: int
    n_compared: int
    attacking: Attacking
    n_attacked: int
    walking: Walking
    n_walked: int
    n_walked_tokens: int
    users: tuple[User, ...]
    tuning: Teaching
    examples: int
    matrix: tuple[str, ...]
    n_matrix: int


MINI = Preset(
    name="mini",
    worlds=("text",),
    model=SMOLLM,
    seeds=(1, 2, 3),  # 0 was looked at while this was written
    arms=(  # of pairs a step costs twice and more
        Arm("ssft", "ssft", Teaching(160)),
        Arm("dpo", "dpo_nll", Teaching(80, batch_size=8)),
        Arm("unlearning", "unlearning", Teaching(80, batch_size=8)),
    ),
    taught=10_000,
    settings=Settings(n_new=24),
    n=32,
    n_compared=16,
    attacking=Attacking(
        attack_tokens=8,
        soft_tokens=5,
        steps=4,
        candidates=16,
        prefill=2,
        phrasings=("prefix injection", "refusal suppression", "role play", PLACEBO),  # those that it can read
    ),
    n_attacked=6,
    walking=Walking(directions=1, points=9, window=0.4),
    n_walked=24,  # one more that is not refused is no rise
    n_walked_tokens=12,
    users=(
        *(User(name) for name in USERS),
        User("aoa", "canonical", 0.125),
        User("aoa", "paraphrase_blind", 0.125),
    ),
    tuning=Teaching(16, batch_size=8),
    examples=64,
    matrix=("gen", "map", "sum", "label", "mcq"),
    n_matrix=12,
)
SMALL = replace(
    MINI,
    name="small",
    seeds=(1, 2, 3, 4, 5),
    n=104,
    n_compared=48,
    attacking=Attacking(),
    n_attacked=16,
    walking=Walking(),
    n_walked=16,
    n_walked_tokens=24,
    n_matrix=26,
)
SMOKE = replace(
    MINI,
    name="smoke",
    model=STAND_IN,
    seeds=(0, 1),
    arms=tuple(Arm(by, by, Teaching(2, 1e-3, 4)) for by in ("ssft", "unlearning")),
    taught=12,
    settings=Settings(n_new=4),
    n=8,
    n_compared=8,
    attacking=Attacking(
        attack_tokens=2, soft_tokens=2, steps=1, candidates=2, prefill=1, phrasings=("base64",)
    ),
    n_attacked=4,
    walking=Walking(directions=1, points=3, window=0.4),
    n_walked=4,
    n_walked_tokens=3,
    users=(User("harmful"), User("benign"), User("aoa"), User("aoa", "paraphrase_blind", 0.25)),
    tuning=Teaching(2, 1e-3, 4),
    examples=16,
    matrix=("gen", "label"),
    n_matrix=4,
)
PRESETS = {preset.name: preset for preset in (SMOKE, MINI, SMALL)}


def check_gates(preset: Preset, world: str, store: Store) -> None:
    """Raises ValueError where the model is not there."""
    from experiments.real.measure import source

    source(preset, store)
