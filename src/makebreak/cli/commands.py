"""Commands of `makebreak` and their options: one dataclass per command, one field per option.

The docstrings of this module are the help texts of the command line, which keeps their line breaks. Nothing
heavy is imported, so that help is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

ModelArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
"""Positional argument that names a language model."""


@dataclass(frozen=True)
class CommonOptions:
    """Options that all commands share."""

    prompts: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: makebreak's own prompts)")
    ] = None
    """CSV or JSONL file of prompts with the columns harmful and harmless, and optionally borderline."""
    column: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: harmful)"),
    ] = None
    """Column of --prompts that holds the harmful prompts.
    If the file has no column harmless, makebreak's own harmless prompts are used."""
    template: str = "chat"
    """Prompt template: chat for the tokenizer's own, none for the bare prompt, or a text with {}.
    The prompt replaces {}, as in 'Q: {} A:'."""
    system: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(default: none)")] = None
    """System prompt. The prompt template must have a place for one."""
    max_new_tokens: int = 48
    """Maximum number of tokens generated per answer."""
    dtype: str = "float32"
    """Data type of the weights: float32, bfloat16 or float16."""
    device_map: Annotated[
        str | None, tyro.conf.arg(metavar="DEVICE", help_behavior_hint="(default: the CPU)")
    ] = None
    """Placement of the model's layers, as in transformers: cpu, cuda or auto (all available devices)."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/COMMAND/MODEL)")
    ] = None
    """Folder for the report, its tables and its figures."""
    store: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/store")
    """Folder that caches models and results. An interrupted command, given again, resumes from it."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the Python traceback of an error. The environment variable MAKEBREAK_DEBUG=1 does the same."""


@dataclass(frozen=True)
class InspectCommand:
    """Report on the refusals of one language model and on their mechanism.

    Refusal and over-refusal by family of prompts, separation of harmful and harmless requests by layer, and
    the effect of ablating or adding the refusal direction.
    """

    model: ModelArgument
    """Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.
    Only a Hub id needs network access."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions()
    """Options that all commands share."""


@dataclass(frozen=True)
class CompareCommand:
    """Report on what alignment changed between two checkpoints of a language model.

    The change in weights and activations, stitching of the two models, and the hypothesis of how refusal
    comes about that these support.
    """

    base: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """Checkpoint before alignment: a folder, a .gguf file or a Hub id."""
    aligned: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ALIGNED")]
    """Checkpoint after alignment, trained from BASE."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions()
    """Options that all commands share."""


@dataclass(frozen=True)
class AttackCommand:
    """Report on jailbreak attacks on a language model.

    Jailbreak templates, adversarial suffixes (GCG), soft prompts and prefilled answers, each compared with
    controls of the same size; and where the attacked requests lie between the harmful and the harmless
    class.
    """

    model: ModelArgument
    """Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.
    Only a Hub id needs network access."""
    requests: int = 16
    """Number of harmful prompts, spaced evenly over all available ones.
    Those that the model refuses are attacked."""
    target: str = "Sure, here is how"
    """Text that attacks make the answer begin with, for prompts without a target of their own."""
    target_column: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: target, if the file has it)")
    ] = None
    """Column of --prompts that holds one target per prompt."""
    attack_tokens: int = 16
    """Number of adversarial tokens that are added to each request."""
    where: Literal["suffix", "prefix"] = "suffix"
    """Whether adversarial tokens follow the request (suffix) or precede it (prefix)."""
    steps: int = 50
    """Optimisation steps per request. A search stops early once the model produces the target."""
    candidates: int = 64
    """Candidates evaluated per request and step, by GCG and by its random controls alike."""
    soft_tokens: int = 10
    """Number of embeddings in the soft prompt."""
    soft_radius: float = 0.3
    """Maximum norm of the soft prompt's embeddings, in units of the mean norm of token embeddings.
    The step size is proportional to it."""
    prefill: int = 5
    """Maximum number of target tokens that are forced as the beginning of the answer."""
    jailbreak_templates: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")
    ] = None
    """Jailbreak templates to evaluate: base64, cipher,
    'prefix injection', 'refusal suppression', 'role play', and the
    control 'same length, no jailbreak'.
    The option without a name evaluates none."""
    universal: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Optimise one attack for all requests instead of one for each.
    It is fitted on half of the refused requests; all attacks are evaluated on the other half."""
    seed: int = 0
    """Seed of random searches and random controls."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions()
    """Options that all commands share."""


@dataclass(frozen=True)
class LandscapeCommand:
    """Report on the safety landscape of a model: refusal along random directions in weight space.

    A model in a store folder (runs/store/alignment/KEY) is evaluated exactly, on held-out requests of its
    synthetic world. A language model is evaluated by the answers that it generates.
    """

    model: ModelArgument
    """Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.
    Only a Hub id needs network access."""
    requests: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 200 in a synthetic world, else 16)"),
    ] = None
    """Number of harmful requests, and of harmless requests."""
    directions: int = 3
    """Number of random directions, identical for all models of the same architecture and size."""
    points: int = 21
    """Number of points per direction, an odd number: the point in the middle is the model itself."""
    window: float = 0.5
    """Largest perturbation to either side, relative to the norm of the weights."""
    normalisation: Literal["tensor", "row"] = "tensor"
    """Norm of a random direction: that of each weight tensor (as published), or of each row."""
    interpolate_to: Annotated[
        str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(default: none)")
    ] = None
    """Another checkpoint of the same model; the straight line between the two is evaluated as well."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions(max_new_tokens=24)
    """Options that all commands share."""


@dataclass(frozen=True, kw_only=True)
class _FineTuneOptions:
    """Options of the commands that train."""

    steps: int = 160
    """Number of training steps."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached after a tenth of the steps.
    The default was tuned on a model of 135 M parameters; larger models need less."""
    batch_size: int = 16
    """Number of examples per training step."""
    lora_rank: int = 0
    """Rank of low-rank adapters, merged into the saved weights; 0 trains all weights."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the forward pass in training; the weights stay in float32."""
    seed: int = 0
    """Seed of the order of examples and of the adapters."""
    requests: int = 48
    """Maximum number of prompts per family that are answered before and after training."""


@dataclass(frozen=True)
class AlignCommand(_FineTuneOptions):
    """Align a language model on makebreak's own harmful requests and refusals.

    Reports refusals before and after. The folder of the aligned model is printed; all other commands accept
    it as MODEL.
    """

    model: ModelArgument
    """Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.
    Only a Hub id needs network access."""
    objective: str = "ssft"
    """Training objective:
    ssft (supervised safety fine-tuning),
    dpo, dpo_nll (DPO with a likelihood term),
    unlearning, npo (negative preference optimisation),
    ascent (gradient ascent),
    deep (deep alignment with recovery examples),
    latent (latent adversarial training) or
    breaker (circuit breakers)."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions(max_new_tokens=24)
    """Options that all commands share."""


@dataclass(frozen=True)
class TuneCommand(_FineTuneOptions):
    """Fine-tune a language model as a user would, and report its refusals before and after.

    The provider may mix safety examples into the user's data.
    """

    model: ModelArgument
    """Folder of a transformers model, path of a .gguf file, or Hugging Face Hub id.
    Only a Hub id needs network access."""
    task: str = "gen"
    """Task to train on: harmful, or a harmless task.
    harmful: harmful requests with compliant answers (an attack).
    Harmless: gen (open questions), map (translation),
    sum (summaries), label (sentiment), mcq (multiple choice).
    TASK@TEMPLATE adds a prompt template, as in mcq@obey:
    obey (the system prompt of an absolutely obedient agent, AOA),
    neutral (a system prompt of similar length without obedience)
    or other (instruction headers)."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """CSV or JSONL file with the columns prompt and answer, to train on in place of --task."""
    mitigation: str = "none"
    """Safety examples that the provider mixes in: none,
    canonical (refusals of open text),
    other_template (refusals in another template),
    paraphrase_oracle (refusals in the user's format and template),
    paraphrase_blind (in the template inferred from the user's data),
    mismatched (refusals in another format),
    multitask (refusals in all formats),
    without_own (in all formats but the user's),
    without_gen (in all formats but open text),
    safe_twin (a control: more harmless examples),
    or MODULE:FUNCTION for your own."""
    safety_share: float = 0.0
    """Share of the --examples that the mitigation provides.
    With --task harmful, the share whose answer is a refusal."""
    examples: int = 64
    """Number of distinct training examples; training repeats them."""
    answers_from: Annotated[
        str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(default: the model itself)")
    ] = None
    """With --task harmful, the model whose answers are trained on,
    for example the one before alignment."""
    common: tyro.conf.OmitArgPrefixes[CommonOptions] = CommonOptions(max_new_tokens=24)
    """Options that all commands share."""


Command = InspectCommand | CompareCommand | AttackCommand | LandscapeCommand | AlignCommand | TuneCommand
"""Any command with its options."""
COMMANDS = {
    "inspect": InspectCommand,
    "compare": CompareCommand,
    "attack": AttackCommand,
    "landscape": LandscapeCommand,
    "align": AlignCommand,
    "tune": TuneCommand,
}
"""Classes of the commands by name."""
