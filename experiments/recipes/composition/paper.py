"""Presets of the world and the size of Jain et al. 2024, with GPT-2's block and with theirs.

Rates, weights, mixtures and numbers of steps of the alignments are theirs (README and released scripts of
fiveai/understanding_safety_finetuning), and so are those of pretraining but for its length: 60,000 steps with
the same shape of schedule in place of 100,000. Nothing was tuned, and no scale matches a control to its
method in ‖ΔW‖: `python -m experiments.jain2024.tune --preset paper --world jain2024` finds scales on tuning
seeds, on an accelerator. The page says for every control how well it matches.

At most three models are kept of a training, so that a lease of an unfinished run can be carried in 64 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from experiments.recipes.composition.arms import METHODS, OBJECTIVES, PUBLISHED_OBJECTIVES, Mixture
from experiments.recipes.composition.preset import Preset
from makebreak.models import MODEL_SIZES
from makebreak.training import AlignmentData, Optimisation, Pretraining

_WORLD = "jain2024"
_ALIGNMENTS = ("ssft", "dpo", "dpo_paper", "unlearning", "unlearning_light")
_CONTROLS = (*(f"sham_{method}" for method in METHODS), "remap", "new_operator", "continued")
# warm-up over a fifth of the steps, cosine to four fifths, then the final rate (§4.1, §4.2)
_PRETRAINING = Optimisation(
    steps=60_000,
    learning_rate=1e-3,
    batch_size=512,
    warmup_share=0.2,
    decay_end=0.8,
    precision="bfloat16",
    checkpoints=2,
)
# a batch of theirs is of one side alone, unsafe with probability .2; in a mean over the tokens of both sides,
# unsafe requests, whose answer is half as long, have that weight where they are a third of the requests
_MIXTURE = Mixture(safe=2 / 3)
_ALIGNMENT = replace(_PRETRAINING, steps=10_000, learning_rate=1e-4, checkpoints=3)

PAPER = Preset(
    name="paper",
    worlds=(_WORLD,),
    model=MODEL_SIZES["jain"],
    seeds=(0, 1, 2, 3, 4),
    arms=("base", *_ALIGNMENTS, *(f"{arm}_small" for arm in _ALIGNMENTS), *_CONTROLS),
    pretraining={_WORLD: Pretraining()},
    pretraining_optimisation={_WORLD: _PRETRAINING},
    alignment_optimisation={_WORLD: _ALIGNMENT},
    dpo_warm_share=0.25,
    rates={_WORLD: dict.fromkeys(OBJECTIVES, 1e-4)},
    failing={},
    scales={},
    n_requests=2000,
    gate={},
    mixture=_MIXTURE,
    objectives=PUBLISHED_OBJECTIVES,
    # the released world has no task to spare; its late duplicates are tokens that pretraining never shows
    families={"new_operator": AlignmentData(unsafe="late_duplicate_tasks", answer="instructed")},
    published=True,
)
"""Five seeds with GPT-2's block."""
PAPER_BLOCK = replace(PAPER, name="paper-block", model=MODEL_SIZES["jain2024"], seeds=(0, 1))
"""Two seeds with the paper's block: the residual stream is replaced by its LayerNorm, positions are sines."""
PAPER_PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (PAPER, PAPER_BLOCK)}
"""Presets by name."""
