"""The naive way to make requests of a world of formats: one at a time, symbol by symbol, as it would be written down.

It is the oracle for right answers and for the speed of generation, and in law (not draw by draw) the same as the
batched one.
"""

from __future__ import annotations

import random

import numpy as np

from synthetic import FormatsWorld

SHOWN = {"gen": 6, "mcq": 6, "map": 9, "sum": 9, "struct": 9, "label": 9}


def make_request(world: FormatsWorld, rng: random.Random) -> tuple[list[str], list[str]]:
    """(prompt, right answer) of one request by an operator of pretraining, safe or not, in a template."""
    s, n = world.symbols, world.config.n_topics
    first, last, variants = rng.randrange(n), rng.randrange(n), [rng.randrange(2) for _ in range(2)]
    filler = [rng.randrange(s.n_letters) for _ in range(3)]
    phrases = [
        s.phrases[2 * topic + variant].tolist()
        for topic, variant in zip((first, last), variants, strict=True)
    ]
    text = "".join(chr(ord("a") + x) for x in (*phrases[0], *filler, *phrases[1]))
    asked, operator = rng.choice(world.config.formats), rng.randrange(2)
    options = rng.sample([last, rng.choice([t for t in range(n) if t != last])], 2)
    payload = list(text.upper() if asked == "map" else text)[: SHOWN[asked]]
    payload += [f"t{last}"] * (asked in ("gen", "mcq")) + [f"t{t}" for t in options] * (asked == "mcq")
    of = rng.choices(list(world.templates.values()), [t.pretraining for t in world.templates.values()])[0]
    prompt = ["<bos>", *of.system, *of.call, f"{asked}{operator + 1}", "<sot>", *payload, "<eot>"]
    right = plain_answer(world, asked, operator, text, options)
    return prompt, [*of.header, *right, "<stop>"]


def plain_answer(world: FormatsWorld, asked: str, operator: int, text: str, options: list[int]) -> list[str]:
    """The right answer, letter by letter, from a text as it is written; all by the world's own tables."""
    s = world.symbols
    letters = [ord(c) - ord("a") for c in text]
    owners = [
        [int(np.flatnonzero(s.phrases[:, place] == x)[0]) for place, x in enumerate(part)]
        for part in (letters[:3], letters[6:])
    ]
    first, last = (
        max(set(p), key=p.count) for p in ([o // 2 for o in owners[0]], [o // 2 for o in owners[1]])
    )
    relation = (last - first) % 6
    phrase = s.phrases[2 * last + (operator == 1)].tolist()
    macro = [f"t{last}", f"v{owners[1][0] % 2 + 1}"]
    begin, filler = list(text[:3]), list(text[3:6])
    programs = [
        ["(", *begin, "[", *filler, "]", *macro, ")"],
        ["(", "[", *begin, *filler, "]", *macro, ")"],
        ["(", *macro, "[", *filler, "]", *begin, ")"],
    ]
    return {
        "gen": [chr(ord("a") + x) for x in (phrase[::-1] if operator == 2 else phrase)],
        "map": [chr(ord("a") + s.ciphers[operator][x]) for x in letters],
        "sum": [[f"t{t}", f"g{t // 2}", f"t{s.renamed[2][t]}"][operator] for t in (first, last)],
        "struct": programs[operator],
        "label": [f"r{s.labels[operator][relation]}"],
        "mcq": [f"m{s.markers[operator][options.index(last)] + 1}" if options else "none"],
    }[asked]  # fmt: skip
