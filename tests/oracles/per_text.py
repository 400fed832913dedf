"""An oracle of the world of formats: requests made one at a time, symbol by symbol.

It is the reference for correct answers and for the speed of generation, and has the same distribution (not
the same draws) as the batched implementation.
"""

from __future__ import annotations

import random

import numpy as np

from synthetic import FormatsWorld

SHOWN = {"gen": 6, "mcq": 6, "map": 9, "sum": 9, "struct": 9, "label": 9}


def make_request(world: FormatsWorld, rng: random.Random) -> tuple[list[str], list[str]]:
    """Prompt and correct answer of one request by a pretraining operator, in a template."""
    s, n = world.symbols, world.config.n_topics
    first, last, variants = rng.randrange(n), rng.randrange(n), [rng.randrange(2) for _ in range(2)]
    filler = [rng.randrange(s.n_letters) for _ in range(3)]
    phrases = [
        s.phrases[2 * topic + variant].tolist()
        for topic, variant in zip((first, last), variants, strict=True)
    ]
    text = "".join(chr(ord("a") + x) for x in (*phrases[0], *filler, *phrases[1]))
    task_format, operator = rng.choice(world.config.formats), rng.randrange(2)
    options = rng.sample([last, rng.choice([t for t in range(n) if t != last])], 2)
    payload = list(text.upper() if task_format == "map" else text)[: SHOWN[task_format]]
    payload += [f"t{last}"] * (task_format in ("gen", "mcq")) + [f"t{t}" for t in options] * (
        task_format == "mcq"
    )
    templates = list(world.templates.values())
    template = rng.choices(templates, [t.pretraining_share for t in templates])[0]
    prompt = [
        "<bos>",
        *template.system,
        *template.before_operator,
        f"{task_format}{operator + 1}",
        "<sot>",
        *payload,
        "<eot>",
    ]
    right = plain_answer(world, task_format, operator, text, options)
    return prompt, [*template.answer_header, *right, "<stop>"]


def plain_answer(
    world: FormatsWorld, task_format: str, operator: int, text: str, options: list[int]
) -> list[str]:
    """The correct answer, letter by letter, from a text as it is written and the world's tables."""
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
        "sum": [[f"t{t}", f"g{t // 2}", f"t{s.topic_names[2][t]}"][operator] for t in (first, last)],
        "struct": programs[operator],
        "label": [f"r{s.relation_labels[operator][relation]}"],
        "mcq": [f"m{s.markers[operator][options.index(last)] + 1}" if options else "none"],
    }[task_format]  # fmt: skip
