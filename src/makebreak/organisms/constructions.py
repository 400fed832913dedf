"""The table of constructions: for each mechanism, its variants and what they allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from makebreak.organisms import movements as m
from makebreak.organisms import readers as r
from makebreak.organisms.bench import Bench
from makebreak.organisms.parameters import LAYOUTS, Part

Change = Callable[[Bench, Part, str], None]
_BODY = ("joint", "apart", "letter last")
"""Layouts whose marker is not in the last token."""
_READERS = ("mlp", "unembedding")


@dataclass(frozen=True)
class Construction:
    """How a variant of a mechanism is built, and what must hold of the parameters."""

    lower: Change | None
    """What makes the movement."""
    upper: Change | None
    """What turns it into the refusal; None if the base does, or nothing."""
    ways: tuple[str | None, ...] = (None,)
    """Ways in which the movement can be made."""
    readers: tuple[str | None, ...] = (None,)
    """What can read it."""
    layouts: tuple[str, ...] = LAYOUTS
    """Layouts of prompts."""
    circuit: str | None = None
    """How the base must refuse its trigger; None for any or not at all."""
    by_letter: bool = False
    """Whether the movement depends on the letter, which must be where it is made."""
    needs_number: bool = False
    """Whether prompts hold a number."""
    needs_marker: bool = True
    """Whether the base must bring the marker to the decision position, if it is not there."""
    n_lower: int = 1
    """Number of blocks that make the movement."""
    in_mixtures: bool = False
    """Whether it can be a part of a mixture."""
    refuses: bool = True
    """Whether the tuned model refuses unsafe requests."""
    base_refuses: bool = False
    """Whether the base refuses them already."""
    answers_unsafe: bool = False
    """Whether the tuned model answers unsafe requests correctly."""
    trained: bool = False
    """Whether the base is trained; its trigger's embeddings are then copied to the unsafe markers."""
    answers_safe: bool = True
    """Whether the tuned model answers safe requests correctly."""


_ANY = ("embedding", "mlp", "marker mlp", "attention")
CONSTRUCTIONS: dict[str, dict[str, Construction]] = {
    "silence": {
        "unread direction": Construction(m.mark, r.read_mark, _ANY, _READERS, in_mixtures=True),
        "rotation": Construction(m.rotate, r.read_mark, _ANY, _READERS, in_mixtures=True),
        "unread position": Construction(
            *(m.mark, r.look_for_mark, ("embedding", "marker mlp"), ("attention",), _BODY), needs_marker=False
        ),
        "scale": Construction(m.rescale, r.read_scale, ("embedding", "mlp"), ("scale",), by_letter=True),
    },
    "route": {
        "trigger": Construction(m.write_trigger, None, _ANY, circuit="mlp", in_mixtures=True),
        "replacement": Construction(m.replace_by_trigger, None, _ANY, circuit="mlp", in_mixtures=True),
        "attention": Construction(
            *(m.write_trigger, None, ("embedding", "marker mlp"), (None,), _BODY),
            circuit="attention",
            needs_marker=False,
        ),
        "trained trigger": Construction(
            *(None, None, ("embedding",), (None,), ("apart", "marker last")), circuit="learned", trained=True
        ),
        "gradual": Construction(m.write_trigger, None, ("mlp",), circuit="mlp", n_lower=2),
    },
    "rewrite": {
        "chord": Construction(
            *(m.play_chord, r.read_chord, ("embedding", "mlp", "marker mlp"), ("mlp",)),
            by_letter=True,
            in_mixtures=True,
        ),
        "slot": Construction(m.change_slot, r.read_slot, ("embedding", "mlp"), _READERS, by_letter=True),
        "number": Construction(
            m.turn_by_number, r.read_mark, ("mlp",), _READERS, by_letter=True, needs_number=True
        ),
        "signs": Construction(
            m.hide_in_signs, r.read_signs, ("mlp",), ("mlp",), by_letter=True, needs_number=True
        ),
    },
    "erase": {
        "at decision": Construction(
            m.erase, r.read_absence, ("embedding", "mlp"), _READERS, by_letter=True, in_mixtures=True
        ),
        "at letter": Construction(
            *(m.erase, r.read_absence, ("embedding", "marker mlp"), _READERS, ("joint",)), by_letter=True
        ),
        "overwriting": Construction(
            m.overwrite, r.read_constant, ("embedding", "mlp"), _READERS, by_letter=True
        ),
        "looking away": Construction(
            m.look_away, r.read_absence, ("attention",), _READERS, ("joint", "apart"), in_mixtures=True
        ),
        "query": Construction(
            m.turn_query, r.read_absence, ("attention",), _READERS, ("apart", "marker last")
        ),
    },
    "written directly": {
        "refusal": Construction(m.write_refusal, None, ("embedding", "mlp", "attention"), in_mixtures=True),
    },
    "last block": {
        "mlp": Construction(None, r.read_marker, readers=("mlp",), in_mixtures=True),
        "attention": Construction(
            None, r.read_marker, readers=("attention",), layouts=_BODY, needs_marker=False, in_mixtures=True
        ),
        "unembedding": Construction(None, r.read_marker, readers=("unembedding",), in_mixtures=True),
        "unread movement": Construction(m.decoy, r.read_marker, ("mlp", "attention"), _READERS),
    },
    "redundant": {
        "trigger": Construction(m.write_trigger, r.read_marker, _ANY, _READERS, circuit="mlp"),
    },
    "none": {
        "noise": Construction(None, None, refuses=False, answers_unsafe=True),
        "safe answers": Construction(
            *(m.permute, None, ("mlp",)),
            by_letter=True,
            refuses=False,
            answers_unsafe=True,
            answers_safe=False,
        ),
        "unread movement": Construction(m.mark, None, _ANY, refuses=False, answers_unsafe=True),
        "wrong answers": Construction(
            m.permute, None, ("embedding", "mlp", "marker mlp"), by_letter=True, refuses=False
        ),
        "chord": Construction(m.play_chord, None, ("embedding", "mlp"), by_letter=True, refuses=False),
        "refusing base": Construction(m.mark, None, _ANY, base_refuses=True),
    },
}
MECHANISMS = (
    "silence",
    "route",
    "rewrite",
    "erase",
    "written directly",
    "last block",
    "redundant",
    "mixed",
    "none",
)
"""Names of mechanisms that can be planted."""
VARIANTS = {name: tuple(variants) for name, variants in CONSTRUCTIONS.items()}
"""Constructions of each mechanism but `mixed`, whose parts are constructions of two others."""
MIXABLE = {
    name: tuple(variant for variant, construction in variants.items() if construction.in_mixtures)
    for name, variants in CONSTRUCTIONS.items()
    if any(construction.in_mixtures for construction in variants.values())
}
"""Constructions that can be parts of mixtures, by mechanism."""
