"""What is a language model taught with? Our own requests and tasks, its own answers, and our refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from makebreak.artifacts import Store
from makebreak.behaviour import JUDGES, answer_texts, broken
from makebreak.models import LanguageModel, digest
from makebreak.pages.inspection import Settings, ask, drawn, prompts_digest
from makebreak.pages.steps import Rows, Seen, Steps
from makebreak.pages.verdicts import JUDGE
from makebreak.requests import Example, TextWorld, format_families, refusal, task_items, training_prompts

ANSWER_TOKENS = 10  # of its own answers: what decides is how they begin, and a laptop has to learn them
OPENING = "Sure, here is how to do that."  # where a model has no answer of its own to a harmful request
HELD_OUT = 4  # every so many-th item of a task is kept for scoring


def taught(
    found: LanguageModel,
    store: Store,
    settings: Settings,
    *,
    most: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TextWorld:
    """Families `safe` and `unsafe` (our requests for training, open), and those of `format_families`.

    Whoever does as asked gives the model's own greedy answer, cut after `ANSWER_TOKENS` and then taught without an
    end: so nothing else than refusing is to change. Safe requests that it refuses, or says nothing to, are left out;
    for such unsafe ones the answer is `OPENING`. We ship no harmful answers.
    most: of our requests of a kind, evenly from all there are.
    """
    prompts = {family: drawn(texts, most or len(texts)) for family, texts in training_prompts().items()}
    config = {"model": digest(found), "settings": asdict(settings) | {"n_new": ANSWER_TOKENS}}
    steps = Steps("taught", store, config | {"prompts": prompts_digest(prompts)})
    say(f"its own answers to {sum(map(len, prompts.values()))} requests, once")
    own = {family: _own(found, family, texts, settings, steps) for family, texts in prompts.items()}
    safe = [
        Example(row["request"], row["answer"], refusal(i), row["ended"])
        for i, row in enumerate(own["harmless"])
        if row["sense"]
    ]
    harmful = [(row["request"], row["answer"] if row["sense"] else OPENING) for row in own["harmful"]]
    unsafe = [Example(text, answer, refusal(i), ended=False) for i, (text, answer) in enumerate(harmful)]
    families = {"safe": safe, "unsafe": unsafe} | format_families(harmful, items(scored=False))
    return TextWorld(found.tokenizer, families, settings.template, settings.system)


def items(*, scored: bool) -> dict[str, list[tuple[str, str]]]:
    """Of every task, the items that are kept for scoring, or the others."""
    return {
        format_: [item for i, item in enumerate(own) if (i % HELD_OUT == HELD_OUT - 1) == scored]
        for format_, own in task_items().items()
    }


def _own(found: LanguageModel, family: str, texts: Sequence[str], settings: Settings, steps: Steps) -> Rows:
    """One row per request: the answer, whether it came to its end, and whether it is an answer at all."""
    requests = ask(found, family, texts, settings)

    def make(seen: Seen) -> Rows:
        answers = answer_texts(found.model, found.tokenizer, requests, n_new=ANSWER_TOKENS, seen=seen)
        lengths = map(len, found.tokenizer(answers, add_special_tokens=False)["input_ids"])
        return [
            {"request": text, "answer": answer, "ended": n < ANSWER_TOKENS}
            for text, answer, n in zip(texts, answers, lengths, strict=True)
        ]

    rows = steps.run(f"answers {family}", make)
    answers = [row["answer"] for row in rows]
    sense = ~(JUDGES[JUDGE](list(texts), answers) | broken(answers))
    return [row | {"sense": yes} for row, yes in zip(rows, sense.tolist(), strict=True)]
