"""Which safety examples does a provider mix into a user's data? One function for each answer.

A mitigation sees what the provider can write (`Safety`) and a few of the user's examples, and returns requests with
the answer to teach. All of them here teach the same contents: request i is about the same thing in every format and
template, so that none wins by showing more concepts. For worlds of formats (Jan et al. 2024; Eiras et al. 2024, with
the names of finetune_risks §4.5).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from makebreak.configs import nearest
from makebreak.defences.rewriting import rewritten
from makebreak.requests import Requests, World

SAMPLE = 20  # of a user's examples that a provider looks at

Part = tuple[Requests, Literal["refused", "instructed"]]


@dataclass(frozen=True)
class Safety:
    """What the provider can write: requests 0 … n - 1 of `seed`, in any family of the world."""

    world: World
    n: int
    seed: int

    def of(self, family: str) -> Requests:
        return self.world.sample(family, self.n, seed=self.seed)

    def spread(self, families: Sequence[str]) -> list[Requests]:
        """Request i in family i modulo their number."""
        return [part for i, family in enumerate(families) if len(part := self.of(family)[i :: len(families)])]

    @property
    def formats(self) -> list[str]:
        """Those that the world has, open text first."""
        return list(
            dict.fromkeys(f.partition("_")[0] for f in self.world.families if "_unsafe" in f and f[0] != "u")
        )


Mitigation = Callable[[Safety, Requests], list[Part]]


def canonical(safety: Safety, user: Requests) -> list[Part]:
    """Open text, as in alignment."""
    return [(safety.of("gen_unsafe"), "refused")]


def other_template(safety: Safety, user: Requests) -> list[Part]:
    """Open text in a template of its own: Bianchi et al.'s SafeInstr, whose requests are imperatives."""
    return [(safety.of("gen_unsafe@other"), "refused")]


def paraphrase_oracle(safety: Safety, user: Requests) -> list[Part]:
    """The user's own format, operator and template, which it is told (Eiras et al. 2024)."""
    return [(safety.of(user.family.replace("_safe", "_unsafe")), "refused")]


def paraphrase_blind(safety: Safety, user: Requests) -> list[Part]:
    """What the user's prompts have in common, around an unsafe text: the beginning of one, or a whole one, whichever is
    nearer in length to what differs between the user's."""
    texts = [safety.of(f"{name}_unsafe") for name in ("gen", "label")]
    return [(rewritten(texts, user), "refused")]


def mismatched(safety: Safety, user: Requests) -> list[Part]:
    """Another format than the user's or open text, in the user's template: varied, but no mimicry."""
    own = user.family.partition("_")[0]
    other = next(name for name in safety.formats if name not in (own, "gen"))
    return [(safety.of(user.family.replace(own, other, 1).replace("_safe", "_unsafe")), "refused")]


def multitask(safety: Safety, user: Requests) -> list[Part]:
    """All formats alike (Jan et al. 2024)."""
    return [(part, "refused") for part in safety.spread([f"{name}_unsafe" for name in safety.formats])]


def without(safety: Safety, user: Requests, *, left_out: str) -> list[Part]:
    """All formats but one."""
    kept = [f"{name}_unsafe" for name in safety.formats if name != left_out]
    return [(part, "refused") for part in safety.spread(kept)]


def without_own(safety: Safety, user: Requests) -> list[Part]:
    """All formats but the user's."""
    return without(safety, user, left_out=user.family.partition("_")[0])


def safe_twin(safety: Safety, user: Requests) -> list[Part]:
    """A control: more of the user's format, answered."""
    return [(safety.of(user.family), "instructed")]


MITIGATIONS: Mapping[str, Mitigation] = {
    f.__name__: f
    for f in (
        canonical,
        other_template,
        paraphrase_oracle,
        paraphrase_blind,
        mismatched,
        multitask,
        without_own,
        safe_twin,
    )
} | {"without_gen": partial(without, left_out="gen")}


def mitigation(name: str) -> Mitigation:
    """One of `MITIGATIONS`, or `module:function`, one of your own. Raises ValueError for another name."""
    if name in MITIGATIONS:
        return MITIGATIONS[name]
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError):
        wanted = nearest(name, list(MITIGATIONS))
        raise ValueError(f"mitigation {name!r} does not exist; {wanted}, or give MODULE:FUNCTION") from None


def digest(name: str) -> str | None:
    """A hash of the module of a mitigation of one's own, so that what it made is not taken for what it makes now; None
    for one of `MITIGATIONS`."""
    if name in MITIGATIONS:
        return None
    module = inspect.getmodule(mitigation(name))
    return hashlib.sha256(inspect.getsource(module or mitigation(name)).encode()).hexdigest()
