"""Settings of the jobs on language models, which are also the options of the command line.

The docstring of a field is the help text of its option, which keeps its line breaks. Nothing heavy is
imported, so that help is fast; a name in a registry is checked where it is looked up.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import tyro

from makebreak.configs import (
    check_at_most,
    check_not_negative,
    check_positive,
    check_probability,
    check_seed,
    check_text,
)

Flag = tyro.conf.FlagCreatePairsOff
"""Marks an option that is set by its name alone."""
Hidden = tyro.conf.Fixed, tyro.conf.Suppress
"""Marks a setting that is no option."""
DEFAULT_JUDGE = "arditi2024"
"""Name of the judge that decides wherever one verdict is needed, unless another is chosen."""
_DEFAULT_STORE = os.environ.get("MAKEBREAK_STORE") or "runs/store"
store: str | Path = _DEFAULT_STORE
"""Folder of models and results for the functions of `makebreak`; every call reads it."""
MAX_COUNT = 1_000_000
"""Largest number of requests, examples, candidates or tokens."""
_MAX_POINTS, _MAX_STEPS, _MAX_SCALE, _MAX_SAMPLES = 10_001, 100_000_000, 1000.0, 10_000
_LARGEST_SIZES = {
    **dict.fromkeys(("attack_tokens", "soft_tokens", "candidates", "prefill"), MAX_COUNT),
    "steps": _MAX_STEPS,
    "soft_radius": _MAX_SCALE,
}  # of attacks


_PROMPT_CHOICES = {"turns": ("only", "last"), "encoding": ("utf-8", "cp1252", "latin-1")}


@dataclass(frozen=True)
class PromptSettings:
    """Source of the prompts."""

    file: Annotated[
        Path | None,
        tyro.conf.arg(
            name="prompts", metavar="FILE", help_behavior_hint="(default: makebreak's own prompts)"
        ),
    ] = None
    """File of prompts: .csv, .tsv, .jsonl or .json with the columns harmful and harmless,
    and optionally borderline, or that of a published data set; or .txt, one harmful prompt a line."""
    column: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: the only one with a usual name)"),
    ] = None
    """Column of --prompts that holds the harmful prompts, such as harmful, prompt or goal.
    If the file has no column harmless, makebreak's own harmless prompts are used."""
    turns: Literal["only", "last"] = "only"
    """Request that is taken of a chat in --prompts: its only one,
    or the last one, without the turns before it."""
    encoding: Literal["utf-8", "cp1252", "latin-1"] = "utf-8"
    """Encoding of --prompts; a byte order mark overrules utf-8.
    cp1252 is that of older programs on Windows."""

    def __post_init__(self) -> None:
        if self.file is None and self.column is not None:
            raise ValueError(
                f"--column {self.column}: makebreak's own prompts have no columns; give --prompts"
            )
        for name, values in _PROMPT_CHOICES.items():
            value = getattr(self, name)
            if value not in values:
                raise ValueError(f"{name} = {value!r}: expected {', '.join(values)}")
            if self.file is None and value != values[0]:
                raise ValueError(f"--{name} {value}: makebreak's own prompts are in no file; give --prompts")


Thinking = Literal["template", "on", "off", "skip"]
"""How a prompt deals with reasoning: as the chat template does by default, on or off by its switch, or behind
a block without reasoning."""
_LATER_FIELDS: tuple[str, ...] = ("thinking",)
"""Fields of `GenerationSettings` that keys of older results do not have."""


@dataclass(frozen=True)
class GenerationSettings:
    """Prompt template and answers."""

    tag: ClassVar[str] = "Settings"
    n_new: Annotated[int, tyro.conf.arg(name="max-new-tokens")] = 48
    """Maximum number of tokens generated per answer."""
    template: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = "chat"
    """Prompt template: chat for the tokenizer's own, none for the bare prompt, or a text with {}.
    The prompt replaces {}, as in 'Q: {} A:'."""
    system: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="(default: none)")] = None
    """System prompt. The prompt template must have a place for one."""
    thinking: Annotated[
        Thinking | None,
        tyro.conf.arg(
            metavar="{on,off,skip,template}",
            help_behavior_hint="(default: off or skip for a model that reasons)",
        ),
    ] = None
    """Reasoning before the answer, by models that are trained to.
    on, off: the switch of the chat template (enable_thinking and others);
    skip: a block without reasoning (<think></think>) is put before the answer;
    template: what the chat template does by default.
    Judges read what follows the reasoning. on, and template where it reasons, are for inspect alone
    and need answers of a thousand tokens or more: --max-new-tokens."""
    seed: Annotated[int, *Hidden] = 0
    """Seed of random controls; answers are greedy."""

    def __post_init__(self) -> None:
        check_positive(max_new_tokens=self.n_new)
        check_at_most(MAX_COUNT, max_new_tokens=self.n_new)
        check_seed(self.seed)
        check_text(template=self.template, system=self.system)
        if self.template == "none":
            object.__setattr__(self, "template", None)  # one value for the bare prompt
        if self.template not in ("chat", None) and self.template.count("{}") != 1:
            raise ValueError(
                f"template = {self.template!r}: expected chat, none, or a text with one {{}} for the prompt"
            )
        if self.system is not None and self.template != "chat":
            raise ValueError(
                f"system = {self.system!r}: only --template chat has a place for it; leave one out"
            )
        if self.thinking not in (None, *get_args(Thinking)):
            raise ValueError(f"thinking = {self.thinking!r}: expected {', '.join(get_args(Thinking))}")
        is_own = self.template not in ("chat", None)
        if (
            self.thinking is not None
            and self.template != "chat"
            and not (is_own and self.thinking == "template")
        ):
            raise ValueError(
                f"thinking = {self.thinking!r}: only --template chat knows of reasoning; leave one out"
            )

    @property
    def key(self) -> dict[str, Any]:
        """The fields for the key of a result, without those of later versions that have their defaults."""
        is_default = {field.name for field in fields(self) if getattr(self, field.name) == field.default}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in is_default.intersection(_LATER_FIELDS)
        }


@dataclass(frozen=True)
class SamplingSettings:
    """Sampled answers."""

    tag: ClassVar[str] = "Sampling"
    samples: int = 0
    """Number of answers that are sampled per request, besides the greedy one."""
    temperature: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(with --samples)")
    ] = None
    """Temperature of the sampled answers. Neither top-p nor top-k cuts the distribution."""

    def __post_init__(self) -> None:
        check_not_negative(samples=self.samples)
        check_at_most(_MAX_SAMPLES, samples=self.samples)
        if self.temperature is not None:
            check_positive(temperature=self.temperature)
            check_at_most(_MAX_SCALE, temperature=self.temperature)
            if not self.samples:
                raise ValueError(
                    f"--temperature {self.temperature:g}: greedy answers have none; give --samples as well"
                )
        elif self.samples:
            raise ValueError(f"--samples {self.samples}: give their --temperature as well, such as 1")


_LOAD_CHOICES = {"device": ("auto", "cpu", "cuda"), "dtype": ("auto", "float32", "bfloat16", "float16")}


_DEVICE_MAP = re.compile(r"auto|balanced|balanced_low_0|sequential|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?")


@dataclass(frozen=True)
class LoadSettings:
    """Loading of models."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that runs the model: auto (an accelerator if there is one, else the CPU), cpu or cuda."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Data type of the weights. auto: float32 on the CPU;
    on an accelerator the checkpoint's, or 16 bits where float32 does not fit into its free memory."""
    device_map: Annotated[
        str | None, tyro.conf.arg(metavar="PLACEMENT", help_behavior_hint="(default: one device)")
    ] = None
    """Placement of a model that exceeds one device, as in transformers:
    auto spreads its layers over all accelerators, which have to hold them."""
    base_model: Annotated[
        str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(default: what the adapter names)")
    ] = None
    """Base model of a LoRA adapter: a folder, a .gguf file or a Hub id."""

    def __post_init__(self) -> None:
        for name, values in _LOAD_CHOICES.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected {', '.join(values)}")
        if self.device_map is not None:
            if not _DEVICE_MAP.fullmatch(self.device_map):
                raise ValueError(
                    f"device_map = {self.device_map!r}: expected auto, balanced, balanced_low_0, sequential "
                    "or the name of a device"
                )
            if self.device != "auto":
                raise ValueError(
                    f"device = {self.device!r} with device_map = {self.device_map!r}: leave one of them out"
                )


@dataclass(frozen=True)
class OutputSettings:
    """Output and errors."""

    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/COMMAND/MODEL)")
    ] = None
    """Folder for the report, its tables and its figures."""
    store: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path(_DEFAULT_STORE)
    """Folder that caches models and results. An interrupted command, given again, resumes from it.
    The environment variable MAKEBREAK_STORE names another default."""
    debug: Annotated[bool, Flag] = False
    """Show the Python traceback of an error. The environment variable MAKEBREAK_DEBUG=1 does the same."""


@dataclass(frozen=True)
class GoalSettings:
    """Requests that are attacked, and the answers that attacks aim at."""

    requests: int = 16
    """Number of harmful prompts, spaced evenly over all available ones.
    Those that the model refuses are attacked."""
    target: str = "Sure, here is how"
    """Text that attacks make the answer begin with, for prompts without a target of their own."""
    target_column: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: target, if the file has it)")
    ] = None
    """Column of --prompts that holds one target per prompt."""

    def __post_init__(self) -> None:
        check_positive(requests=self.requests)
        check_at_most(MAX_COUNT, requests=self.requests)
        check_text(target=self.target)
        if not self.target.strip():
            raise ValueError(
                "--target is empty: expected the beginning of an answer, such as 'Sure, here is how'"
            )


def _size(kind: str, default: int | float) -> Any:
    """How the help of a command shows a size that is None: by the default for a language model."""
    return tyro.conf.arg(metavar=kind, help_behavior_hint=f"(default: {default:g})")


@dataclass(frozen=True)
class AttackSettings:
    """Sizes of the attacks."""

    tag: ClassVar[str] = "Attacking"
    methods: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(name="method", metavar="NAME [NAME ...]", help_behavior_hint="(default: all)"),
    ] = None
    """Attacks to run: jailbreak_templates, gcg, soft_prompt, prefill, and the controls
    initial_tokens, random_search, random_tokens, random_soft_prompt;
    or MODULE:CLASS for an attack of your own."""
    attack_tokens: Annotated[int | None, _size("INT", 16)] = None
    """Number of adversarial tokens that are added to each request."""
    soft_tokens: Annotated[int | None, _size("INT", 10)] = None
    """Number of embeddings in the soft prompt."""
    soft_radius: Annotated[float | None, _size("FLOAT", 0.3)] = None
    """Maximum norm of the soft prompt's embeddings, in units of the mean norm of token embeddings.
    The step size is proportional to it: at 1, the steps are too large for pretrained language models."""
    steps: Annotated[int | None, _size("INT", 50)] = None
    """Optimisation steps per request. A search stops early once the model produces the target."""
    candidates: Annotated[int | None, _size("INT", 64)] = None
    """Candidates evaluated per request and step, by GCG and by its random controls alike."""
    where: Literal["suffix", "prefix"] = "suffix"
    """Whether adversarial tokens follow the request (suffix) or precede it (prefix)."""
    universal: Annotated[bool, Flag] = False
    """Optimise one attack for all requests instead of one for each.
    It is fitted on half of the refused requests; all attacks are evaluated on the other half."""
    prefill: int = 5
    """Maximum number of target tokens that are forced as the beginning of the answer."""
    jailbreak_templates: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="(default: all)")
    ] = field(default=None, metadata={"key": "phrasings"})
    """Jailbreak templates to evaluate: base64, cipher,
    'prefix injection', 'refusal suppression', 'role play', and the
    control 'same length, no jailbreak'.
    The option without a name evaluates none."""

    def __post_init__(self) -> None:
        for name, limit in _LARGEST_SIZES.items():
            value = getattr(self, name)
            if value is not None:
                check_positive(**{name: value})
                check_at_most(limit, **{name: value})
        if self.where not in ("suffix", "prefix"):
            raise ValueError(f"where = {self.where!r}: expected 'suffix' or 'prefix'")

    def complete(self, defaults: AttackSizes | None = None) -> AttackSizes:
        """The settings with a default in place of every size that is None.

        Args:
            defaults: Sizes for the kind of model that is attacked; None for those of a language model.

        Returns:
            Settings in which every size is a number.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None}
        return replace(defaults or AttackSizes(), **given)


@dataclass(frozen=True)
class AttackSizes(AttackSettings):
    """Settings of attacks in which every size is a number; the defaults are those of a language model."""

    attack_tokens: int = 16
    """Number of adversarial tokens."""
    soft_tokens: int = 10
    """Number of embeddings in the soft prompt."""
    soft_radius: float = 0.3
    """Their maximum norm."""
    steps: int = 50
    """Optimisation steps per request."""
    candidates: int = 64
    """Candidates per request and step."""


@dataclass(frozen=True)
class LandscapeSettings:
    """Directions and points of a landscape."""

    tag: ClassVar[str] = "Walking"
    directions: int = 3
    """Number of random directions, identical for all models of the same architecture and size."""
    points: int = 21
    """Number of points per direction, an odd number: the point in the middle is the model itself."""
    window: float = 0.5
    """Largest perturbation to either side, relative to the norm of the weights."""
    normalisation: Literal["tensor", "row"] = field(default="tensor", metadata={"key": "per"})
    """Norm of a random direction: that of each weight tensor (as published), or of each row."""

    def __post_init__(self) -> None:
        check_positive(directions=self.directions, points=self.points, window=self.window)
        check_at_most(_MAX_POINTS, directions=self.directions, points=self.points)
        check_at_most(_MAX_SCALE, window=self.window)
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(
                f"points = {self.points}: expected an odd number from 3 on, so that the model itself is one "
                "of them"
            )

    @property
    def axis(self) -> list[float]:
        """Coordinates of the points of a direction."""
        half = self.points // 2
        return [round(self.window * i / half, 9) for i in range(-half, half + 1)]


@dataclass(frozen=True)
class FineTuneSettings:
    """Hyperparameters of a fine-tuning run; the defaults were tuned for SSFT on a 135M model."""

    tag: ClassVar[str] = "Teaching"
    steps: int = 160
    """Number of training steps."""
    learning_rate: float = 1e-4
    """Peak learning rate, reached after a tenth of the steps.
    The default was tuned on a model of 135 M parameters; larger models need less."""
    batch_size: int = 16
    """Number of examples per training step."""
    lora_rank: int = field(default=0, metadata={"key": "lora"})
    """Rank of low-rank adapters, merged into the saved weights; 0 trains all weights."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the forward pass in training; the weights stay in float32."""
    seed: int = 0
    """Seed of the order of examples and of the adapters."""

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, learning_rate=self.learning_rate, batch_size=self.batch_size)
        check_not_negative(lora_rank=self.lora_rank)
        check_at_most(MAX_COUNT, batch_size=self.batch_size, lora_rank=self.lora_rank)
        check_at_most(_MAX_STEPS, steps=self.steps)
        check_at_most(_MAX_SCALE, learning_rate=self.learning_rate)
        check_seed(self.seed)


@dataclass(frozen=True)
class UserDataSettings:
    """Data of a user who fine-tunes a language model, and the provider's safety examples among them."""

    task: str = "gen"
    """Task to train on: harmful, or a harmless task.
    harmful: harmful requests with compliant answers (an attack).
    Harmless: gen (open questions), map (translation),
    sum (summaries), label (sentiment), mcq (multiple choice).
    TASK@TEMPLATE adds a prompt template, as in mcq@obey:
    obey (the system prompt of an absolutely obedient agent, AOA),
    neutral (a system prompt of similar length without obedience)
    or other (instruction headers)."""
    file: Annotated[
        Path | None, tyro.conf.arg(name="data", metavar="FILE", help_behavior_hint="(default: none)")
    ] = None
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
    n_examples: Annotated[int, tyro.conf.arg(name="examples")] = 64
    """Number of distinct training examples; training repeats them."""

    def __post_init__(self) -> None:
        check_positive(examples=self.n_examples)
        check_at_most(MAX_COUNT, examples=self.n_examples)
        if self.task.endswith("@"):
            raise ValueError(f"task = {self.task!r}: expected the name of a template after @, or no @")
        check_probability("safety_share", self.safety_share)

    @property
    def source(self) -> str:
        """The task, or the name of the file without its ending."""
        return self.task if self.file is None else self.file.stem

    @property
    def description(self) -> str:
        """The source; and the share and the name of the mitigation if there is one."""
        is_mixed = self.mitigation != "none"
        return f"{self.source}, {self.safety_share:g} {self.mitigation}" if is_mixed else self.source


@dataclass(frozen=True)
class ScoreSettings:
    """Models on which a measure is scored, and what is claimed for it."""

    world: str = "mini"
    """World of the models."""
    models: int = 60
    """Number of models, at least; whole trainings are taken."""
    sign: Literal[-1, 0, 1] = 0
    """1 if a larger value is claimed to mean more robust safety, -1 if more fragile, 0 for no claim."""
    workers: int = 2
    """Number of processes that train and measure."""

    def __post_init__(self) -> None:
        check_positive(models=self.models, workers=self.workers)
