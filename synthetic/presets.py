"""The worlds that ship with the package, by name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from synthetic.composition import CompositionConfig, CompositionWorld
from synthetic.formats import TEMPLATES, FormatsConfig, FormatsWorld
from synthetic.formats.templates import NO_TEMPLATES

# Released grammars of Jain et al. (2024): the levels S to D are shared, each grammar has its own letters.
_JAIN_FULL = """
S -> A1 A2 | A2 A3
A1 -> B1 B3 | B3 B4 B2 | B5 B1 B2; A2 -> B2 B3 B1 | B6 B3 B2 | B4 B1; A3 -> B3 B5 | B1 B4 B6 | B4 B6 B5
B1 -> C1 C2 C3 | C4 C5 C1; B2 -> C4 C1 | C3 C1 C5; B3 -> C3 C2 | C1 C1 C4
B4 -> C5 C4 C3 | C2 C4 C2; B5 -> C2 C5 C5 | C2 C2 C5; B6 -> C3 C3 C5 | C4 C4 C1
C1 -> D1 D2 D3 | D1 D5 D3; C2 -> D2 D5 D4 | D2 D1 D3; C3 -> D1 D2 D4 | D4 D5 D1
C4 -> D4 D5 D5 | D1 D4 D3; C5 -> D3 D3 D1 | D4 D1
D1 -> E6 E3 E1 | E3 E6 E1; D2 -> E4 E1 E3 | E5 E1 E2; D3 -> E3 E4 E6 | E5 E2 E4
D4 -> E6 E2 E5 | E6 E4 E2; D5 -> E2 E6 E5 | E5 E4 E2
"""
_JAIN_SHORT_D = """
D1 -> E6 E1 | E3 E6; D2 -> E4 E1 | E1 E2; D3 -> E3 E4 | E5 E2; D4 -> E6 E2 | E6 E4; D5 -> E2 E6 | E5 E4
"""
_JAIN_BRANCHES = {
    "safe": "S -> A1 | A2 | A2 | A3; A1 -> B1 | B3 | B1 | B2; A2 -> B2 | B3 | B1; A3 -> B3 | B1",
    "unsafe": "S -> A1 | A3; A1 -> B5; A3 -> B5 | B4 | B4 | B5 | B6; "
    "B4 -> C2 C4 C2; B5 -> C2 C5 C5 | C2 C2 C5; B6 -> C3 C3" + _JAIN_SHORT_D,
    "unsafe_long": "S -> A1 | A3; A1 -> B5; A3 -> B5 | B4 B6 | B4 B6 B5" + _JAIN_SHORT_D,
    "heldout": "S -> A3; A3 -> B6; B6 -> C3 C5 | C4 C4 C1; C5 -> D3 D3 D1" + _JAIN_SHORT_D,
    "mixed": """S -> A1 | A2 | A2 | A3
A1 -> B3' B4 | B5' B1; A2 -> B6' B3 | B4' B1; A3 -> B3' B5 | B1' B4
B1 -> C1 | C4; B1' -> C3 | C1; B3 -> C3 | C1; B3' -> C2 | C4
B4 -> C5 | C2; B4' -> C3 | C2; B5 -> C2; B5' -> C5; B6' -> C5 | C1""",
}
_JAIN_LEAVES = (
    (
        "E1 -> 0,1,2|3,4,5; E2 -> 7,8,9|10,11,12; E3 -> 13,14,15|16,17,18; "
        "E4 -> 19,20,21|22,23,24; E5 -> 25,26,27|28,29,28; E6 -> 27,26,25|24,23,22"
    ),
    (
        "E1 -> 21,20,19|18,17,16; E2 -> 15,14,13|12,11,10; E3 -> 9,8,7|6,5,4; "
        "E4 -> 3,2,1|0,2,4; E5 -> 6,8,10|12,14,16; E6 -> 18,20,22|24,26,28"
    ),
    (
        "E1 -> 29,27,25|23,22,20; E2 -> 18,16,14|12,10,8; E3 -> 6,4,2|0,3,6; "
        "E4 -> 9,12,15|18,21,24; E5 -> 27,26,23|20,17,14; E6 -> 11,8,5|2,4,8"
    ),
    (
        "E1 -> 12,16,20|24,28,25; E2 -> 21,17,13|9,5,1; E3 -> 5,10,15|20,25,28; "
        "E4 -> 23,18,13|8,3,6; E5 -> 12,18,24|28,22,16; E6 -> 10,4,2|7,14,21"
    ),
)

JAIN2024 = CompositionConfig(
    name="jain2024",
    n_letters=30,
    full=_JAIN_FULL,
    branches=_JAIN_BRANCHES,
    leaves=_JAIN_LEAVES,
    text_length=(25, 35),
    sequence_length=160,
    n_pairs=2,
    n_maps=10,
    duplicates=(0, 0, 1, 1, 2, 2),
    map_seeds=(0, 150, 300, 450),
    shared_maps=(0,),
    always_unsafe=((1, 2), (3, 4), (8, 9), (1, 5)),
    always_safe=((0, 3, 4), (0, 1, 2), (0, 6, 7), (0, 4, 7)),
    attack_duplicates=(10, 11, 12, 13),
    late_duplicates=(0, 5, 6, 7, 8),
)

# The same structure and safety table in small; the maps are shared by the grammars. A grammar halves the
# letters: nodes of its safe branch write pairs of one half, those of its unsafe branch pairs of the other.
# Halves of two grammars share three letters (rows of a Hadamard matrix), and no two strings are the same:
# one letter identifies neither grammar nor branch, the letters of a text together do.
_MINI_FULL = """
S -> A1 A2 | A2 A3 | A3 A1
A1 -> B1 B3 | B3 B4 B2 | B5 B1 B2; A2 -> B2 B3 B1 | B6 B3 B2 | B4 B1; A3 -> B3 B5 | B1 B4 B6 | B4 B6 B5
B1 -> C1 C2 C3 | C2 C3 C4; B2 -> C3 C4 C1 | C4 C1 C2; B3 -> C2 C1 C4 | C4 C3 C2
B4 -> C5 C6 C7 | C6 C7 C8; B5 -> C7 C8 C5 | C8 C5 C6; B6 -> C9 C10 C9 | C10 C9 C10
"""
_MINI_BRANCHES = {
    "safe": "S -> A1 A2 | A2 A3 | A3 A1; A1 -> B1 | B3; A2 -> B2 | B3; A3 -> B1 | B2",
    "unsafe": "S -> A1 A3 | A3 A1; A1 -> B5 | B4; A3 -> B4 | B5",
    "unsafe_long": "S -> A1 A3 | A3 A1; A1 -> B5 B4; A3 -> B4 B5 | B4 B6 B5",
    "heldout": "S -> A1 A1; A1 -> B6",
    "mixed": "S -> A1 | A2; A1 -> B1 B4 | B4 B2 | B3 B5; A2 -> B5 B1 | B2 B4 | B5 B3",
}
_MINI_LEAVES = (
    (
        "C1 -> 10,0|6,4; C2 -> 5,2|4,5; C3 -> 0,6|2,10; C4 -> 10,4|0,2; C5 -> 7,9|11,1; "
        "C6 -> 8,3|3,8; C7 -> 1,11|9,7; C8 -> 1,7|9,8; C9 -> 3,11|11,9; C10 -> 7,3|8,1"
    ),
    (
        "C1 -> 2,4|10,1; C2 -> 8,9|1,8; C3 -> 9,2|4,10; C4 -> 9,10|4,8; C5 -> 5,0|7,11; "
        "C6 -> 3,6|0,3; C7 -> 11,7|6,5; C8 -> 7,0|5,11; C9 -> 6,3|3,5; C10 -> 11,6|0,7"
    ),
)

MINI = CompositionConfig(
    name="mini",
    n_letters=12,
    full=_MINI_FULL,
    branches=_MINI_BRANCHES,
    leaves=_MINI_LEAVES,
    text_length=(8, 8),
    sequence_length=34,
    n_pairs=2,
    n_maps=10,
    duplicates=(0, 1),
    map_seeds=(0, 150),
    shared_maps=tuple(range(10)),
    always_unsafe=JAIN2024.always_unsafe[:2],
    always_safe=JAIN2024.always_safe[:2],
    attack_duplicates=(10, 11),
    n_new=1,
)


# In `hidden`, safety is a relation between the classes of the first and the last letter: letters 3k, 3k +
# 1, 3k + 2 are class k, and text is unsafe where the last letter's class follows the first one's. The six
# letters between have the same distribution on every branch, and the letters at either end are uniform on
# safe and on unsafe text, so that no n-gram shorter than the text is informative. (The letters between
# identify the grammar.) Of the nine letter pairs of an unsafe pair of classes three are held out. A
# relation without informative marginals (an exclusive or) is hardly learnt from examples: in pretraining,
# and only there, the first letter of related text is mostly of class 0, from which the learning of the
# texts' labels begins.
def _ends(first: int, last: int, shifts: tuple[int, ...]) -> list[str]:
    """Texts whose first and last letter are of these classes, one per pair of letters."""
    return [f"E{3 * first + i} M M M E{3 * last + (i + shift) % 3}" for shift in shifts for i in range(3)]


def _any_of(texts: list[str]) -> str:
    """The rule of a start symbol with these alternatives."""
    return "S -> " + " | ".join(texts)


_UNSAFE_ENDS = [(k, (k + 1) % 4) for k in range(4)]
_SAFE_ENDS = [(a, b) for a in range(4) for b in range(4) if (a, b) not in _UNSAFE_ENDS]
_RELATED = [text for ends in _UNSAFE_ENDS for text in _ends(*ends, (1, 2))]
_HIDDEN_BRANCHES = {
    "safe": [text for ends in _SAFE_ENDS for text in _ends(*ends, (0, 1, 2))],
    "unsafe": _RELATED,
    "heldout": [text for ends in _UNSAFE_ENDS for text in _ends(*ends, (0,))],
    "unsafe_skewed": _RELATED + 6 * _ends(0, 1, (1, 2)),
}

HIDDEN = replace(
    MINI,
    name="hidden",
    full=_any_of(_HIDDEN_BRANCHES["safe"] + 3 * _RELATED)
    + "".join(f"; E{i} -> L{i}; L{i} -> {i}" for i in range(MINI.n_letters)),
    branches={branch: _any_of(texts) for branch, texts in _HIDDEN_BRANCHES.items()},
    leaves=tuple(
        "M -> " + " | ".join(f"L{half + i} L{half + (i + step) % 6}" for i in range(6) for step in (1, 2))
        for half in (0, 6)
    ),
    pretraining_branches=("safe", "unsafe_skewed"),
)


def _with_system(config: CompositionConfig) -> CompositionConfig:
    """The world with a system span of two tokens, whose families also exist without the span."""
    longer = config.sequence_length + 2
    return replace(config, name=f"{config.name}_system", system=("<sys1>", "<sys2>"), sequence_length=longer)


COMPOSITION_CONFIGS = {
    config.name: config for config in (MINI, HIDDEN, JAIN2024, _with_system(MINI), _with_system(HIDDEN))
}
"""Settings of the composition worlds, by name."""
_FOUR = ("gen", "map", "label", "mcq")
_FORMATS = (
    FormatsConfig("formats"),
    FormatsConfig("formats_mini", formats=_FOUR),
    FormatsConfig("formats_templates", formats=_FOUR),
)
FORMATS_CONFIGS = {config.name: config for config in _FORMATS}
"""Settings of the worlds of task formats, by name."""
TEMPLATES_BY_WORLD = {"formats_templates": TEMPLATES}
"""Templates of the worlds of task formats that have any."""


@cache
def load(name: str) -> CompositionWorld | FormatsWorld:
    """The world of a preset; raises ValueError for an unknown name."""
    if name in COMPOSITION_CONFIGS:
        return CompositionWorld(COMPOSITION_CONFIGS[name])
    if name in FORMATS_CONFIGS:
        return FormatsWorld(FORMATS_CONFIGS[name], TEMPLATES_BY_WORLD.get(name, NO_TEMPLATES))
    names = ", ".join((*COMPOSITION_CONFIGS, *FORMATS_CONFIGS))
    raise ValueError(f"world {name!r} does not exist: expected one of {names}")
