"""An oracle of composition worlds: requests made one at a time, by recursion and dictionaries.

Whole strings are derived for a short window. It is the reference for the speed of generation, and has the
same distribution (not the same draws) as the batched implementation.
"""

from __future__ import annotations

import random

from synthetic import CompositionWorld


def make_request(world: CompositionWorld, rng: random.Random) -> tuple[list[int], list[int]]:
    """(prompt, instructed answer) of one pretraining request without null."""
    config = world.config
    g = rng.randrange(world.n_grammars)
    rules = world.grammars[rng.choice(config.pretraining_branches), g].rules

    def expand(symbol: str) -> list[int]:
        if symbol not in rules:
            return [int(symbol)]
        return [letter for child in rng.choice(rules[symbol]) for letter in expand(child)]

    string, length = expand("S"), rng.randint(*config.text_length)
    start = rng.randint(0, len(string) - length)
    text = string[start : start + length]
    tasks = [rng.randrange(world.n_tasks) for _ in range(world.n_slots)]
    if rng.random() < 0.5:
        tasks[0] = rng.choice([t for t in range(world.n_tasks) if world.token_map[t] == 0])
        rng.shuffle(tasks)
    answer, current = [], text
    for slot, task in enumerate(tasks):
        current = [int(world.maps[g][task][letter]) for letter in current]
        if slot % 2:
            answer += [int(world.letter_ids[letter]) for letter in current] + [world.vocabulary.id("<stop>")]
    symbols = [world.vocabulary.id("<bos>"), *tasks, world.vocabulary.id("<sot>")]
    return [*symbols, *[int(world.letter_ids[x]) for x in text], world.vocabulary.id("<eot>")], answer
