"""Seeds of independent random streams, derived from the one seed that a run is given.

Each function is one stream. The values are part of every published number: they never change.
"""

from __future__ import annotations

_STAGE_STRIDE = 1_000_000
_SAFETY_DATA_OFFSET = 500_000
_PRIME = 1_000_003
_LAYER_STRIDE = 1000


def stage_seed(seed: int, stage: int) -> int:
    """Seed of the training data of the `stage`-th alignment of a model (0 is pretraining)."""
    return seed + _STAGE_STRIDE * stage


def safety_data_seed(seed: int) -> int:
    """Seed of the safety examples that a provider mixes into a user's fine-tuning data."""
    return seed + _SAFETY_DATA_OFFSET


def step_seed(seed: int, step: int) -> int:
    """Seed of one optimisation step of a search, so that an interrupted search resumes exactly."""
    return seed * _PRIME + step


def control_seed(seed: int) -> int:
    """Seed of a random control whose noise must differ from that of the attack it is compared with."""
    return seed + _PRIME


def layer_seed(seed: int, layer: int) -> int:
    """Seed of a random subspace drawn for one layer."""
    return _LAYER_STRIDE * seed + layer
