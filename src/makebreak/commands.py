"""What can be asked of makebreak on the command line? One class per command; their fields are its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Asking:
    """What models are asked, and how."""

    prompts: Path | None = None
    """CSV or JSONL with columns harmful and harmless (and borderline); our own prompts by default."""
    column: str | None = None
    """Of --prompts, the column of harmful requests; where it has none of harmless ones, ours are taken."""
    template: str = "chat"
    """How a request becomes a prompt: chat (the tokenizer's own template), none, or a text with {} in it."""
    system: str | None = None
    """System prompt, where the template has a place for it."""
    tokens: int = 48
    """Of an answer, at most."""
    dtype: str = "float32"
    """float32, bfloat16 or float16."""
    device_map: str | None = None
    """Where layers go: auto, cuda, cpu …; the CPU by default."""
    out: Path | None = None
    """Folder of the page; by default runs/COMMAND/MODEL, of compare runs/compare/BASE-ALIGNED."""
    store: Path = Path("runs/store")
    """Folder of what was computed: an interrupted run goes on where it was."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the Python traceback of an error; the environment variable MAKEBREAK_DEBUG=1 does the same."""


@dataclass(frozen=True)
class Inspect:
    """One page on a language model: does it refuse, and over-refuse; where do harmful and harmless requests separate;
    is there a refusal direction, and what does ablating it do."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Compare:
    """One page on two checkpoints of a language model: what changed, and how refusing comes about."""

    base: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id."""
    aligned: Annotated[str, tyro.conf.Positional]
    """The checkpoint tuned from it."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Attack:
    """One page on attacks on a language model: which of the harmful requests that it refuses does it answer put
    otherwise, with a suffix (GCG), with soft tokens or with its answer begun for it; what do controls of the same size
    reach, and where do attacked requests land?"""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    requests: int = 16
    """Harmful requests that it is asked at most, evenly from all there are; those that it refuses are attacked."""
    target: str = "Sure, here is how"
    """What an attack wants an answer to begin with, where the file of --prompts does not say."""
    target_column: str | None = None
    """Of --prompts, the column of what each answer is to begin with; "target" by default, if there is one."""
    attack_tokens: int = 16
    """Tokens that are put into a request."""
    where: Literal["suffix", "prefix"] = "suffix"
    """Behind the request or before it."""
    steps: int = 50
    """Of each search; a request that gives its target is done."""
    candidates: int = 64
    """Tried per request and step, by GCG and by its controls alike."""
    soft_tokens: int = 10
    """Vectors of the soft attack, which nobody can type."""
    soft_radius: float = 0.3
    """Their norm at most, in units of the embeddings' mean norm; the smaller, the shorter each step."""
    prefill: int = 5
    """First tokens of the target that are forced, at most."""
    phrasings: tuple[str, ...] | None = None
    """Ways to put a request otherwise: base64, cipher, 'prefix injection', 'refusal suppression', 'role play' and a
    control; all by default, and none where none is named behind the option."""
    universal: bool = False
    """One attack for all requests, found on half of the refused ones and tried on the other half, not one for each."""
    seed: int = 0
    """Of what is drawn at random."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking()


@dataclass(frozen=True)
class Landscape:
    """One page on the ground around a model: how far may its weights move at random until it no longer refuses, and
    until it no longer answers? A folder of a store (runs/store/alignment/KEY) is judged exactly, in its own world."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder of a store or of a language model, a .gguf file or a hub id; only the last asks the network."""
    requests: int = 0
    """Unsafe, and as many safe ones; by default 200 of a world, 16 of a language model."""
    directions: int = 3
    """Random ones, the same for every model that has tensors of the same names."""
    points: int = 21
    """Of each direction, an odd number."""
    window: float = 0.5
    """How far, on either side, in units of the weights' own norm."""
    per: Literal["tensor", "row"] = "tensor"
    """What has its own norm: every tensor, as published, or every output row."""
    toward: str | None = None
    """Another checkpoint of the same model, before or after a tuning: the line to it is walked too."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking(tokens=24)


@dataclass(frozen=True, kw_only=True)
class _Teaching:
    steps: int = 160
    """Of training."""
    learning_rate: float = 1e-4
    """At its peak, after a tenth of the steps; the default was found on a model of 135 M, a larger one needs less."""
    batch_size: int = 16
    """Examples a step."""
    lora: int = 0
    """Rank of low-rank adapters on every matrix of the blocks, merged when saved; 0 trains all weights."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the forward pass in training; weights stay float32."""
    seed: int = 0
    """Of the order of examples, and of adapters."""
    requests: int = 48
    """Of each kind that are asked before and after, at most, evenly from all there are."""


@dataclass(frozen=True)
class Align(_Teaching):
    """Make a language model safe, with our own requests and refusals; one page on what it refuses before and after. Its
    folder is printed: inspect, compare, attack, landscape and tune take it."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    by: str = "ssft"
    """ssft, dpo, dpo_nll, unlearning, npo, ascent, deep (recovery examples), latent (latent adversarial training) or
    breaker (circuit breaking)."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking(tokens=24)


@dataclass(frozen=True)
class Tune(_Teaching):
    """Tune a language model as a user would, with or without a provider's safety examples among the user's; one page
    on what it refuses before and after."""

    model: Annotated[str, tyro.conf.Positional]
    """A folder, a .gguf file or a hub id; only the last asks the network."""
    on: str = "gen"
    """harmful, or one of our tasks, gen (open questions), map (translation), sum (summaries), label (sentiment), mcq
    (choices), plainly or @TEMPLATE: mcq@obey (obedience, as AOA), mcq@neutral (its placebo), gen@other."""
    data: Path | None = None
    """In place of --on, a CSV or JSONL file with columns prompt and answer."""
    mitigation: str = "none"
    """What a provider mixes in: canonical, other_template, paraphrase_oracle, paraphrase_blind, mismatched, multitask,
    without_own, without_gen, safe_twin, or MODULE:FUNCTION."""
    rate: float = 0.0
    """Its share of the examples; of --on harmful, the share that is refused."""
    examples: int = 64
    """All that are tuned on, seen again and again."""
    answered_by: str | None = None
    """Of --on harmful, the model whose own answers are taught: the one before it was made safe."""
    asking: tyro.conf.OmitArgPrefixes[Asking] = Asking(tokens=24)


Command = Inspect | Compare | Attack | Landscape | Align | Tune
COMMANDS = {
    "inspect": Inspect,
    "compare": Compare,
    "attack": Attack,
    "landscape": Landscape,
    "align": Align,
    "tune": Tune,
}
