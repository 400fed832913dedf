"""What does a language model answer under each attack, and what is seen of it inside? One method per attack."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.artifacts import write_json
from makebreak.attacks import (
    PHRASINGS,
    Placed,
    Softened,
    SoftTokens,
    TokenAttack,
    attack_tokens,
    prefilled,
    random_vectors,
    soften,
    softened,
    survives,
    written,
)
from makebreak.behaviour import near
from makebreak.models import LanguageModel
from makebreak.pages.inspection import Settings, answered, ask
from makebreak.pages.steps import Rows, Seen
from makebreak.pages.watching import Watcher
from makebreak.requests import Requests, TextRequests

NOTHING = "nothing"
SOFT, RANDOM_SOFT = "soft tokens", "random vectors"
OTHERS = 3  # requests that an answer must be less likely after: by chance it is in one case of OTHERS + 1


@dataclass(frozen=True)
class Attempts:
    """watcher: None where nothing is to be seen inside."""

    found: LanguageModel
    settings: Settings
    watcher: Watcher | None

    def told(
        self,
        requests: TextRequests,
        seen: Seen,
        name: str,
        *,
        plain: Sequence[str] | None = None,
        softened: Softened | None = None,
        begun: np.ndarray | None = None,
    ) -> Rows:
        """One row per request as it is now: the answer, how near the target is, and whether it begins the answer, None
        where nothing is left of the target; what is seen inside; whether the answer is about the request.

        plain: the requests before an attack put them otherwise.
        """
        with nullcontext() if softened is None else softened.inside(self.found.model):
            rows = answered(self.found, requests, self.settings, seen, begun=begun, attack=name)
            left = requests.judged[:, 1] > 0
            loss = iter(self._distances(requests[left]) if left.any() else [])
            inside = [{}] * len(rows) if self.watcher is None else self.watcher.see(requests)
        texts = requests.truth["request"].tolist() if plain is None else list(plain)
        topic = self._on_topic(texts, [row["answer"] for row in rows])
        nothing = {"loss": None, "hit": None}
        more: dict[str, Any] = {"added": "", "typed": None, "candidates": None, "survived": None}
        targets = requests.truth["target"].tolist()
        return [
            row
            | more
            | {"request": text, "target": target, "on_topic": about}
            | (next(loss) if some else nothing)
            | seen_
            for row, text, target, about, some, seen_ in zip(
                rows, texts, targets, topic, left.tolist(), inside, strict=True
            )
        ]

    def _distances(self, requests: Requests) -> list[dict[str, Any]]:
        loss, hit = near(self.found.model, requests, "instructed")
        return [{"loss": x, "hit": h} for x, h in zip(loss.tolist(), hit.tolist(), strict=True)]

    def _on_topic(self, texts: Sequence[str], answers: Sequence[str]) -> list[bool | None]:
        """Whether the model finds each answer likelier after its own request, plainly asked, than after `OTHERS` of the
        others; None for an empty one, or where there are too few others."""
        rows = [i for i, answer in enumerate(answers) if answer.strip()]
        found: list[bool | None] = [None] * len(answers)
        if len(set(texts)) <= OTHERS:
            return found
        costs = []
        for shift in range(OTHERS + 1):
            asked = (
                ask(
                    self.found,
                    "harmful",
                    [texts[(i + shift) % len(texts)] for i in rows],
                    self.settings,
                    [answers[i] for i in rows],
                )
                if rows
                else None
            )
            costs.append([] if asked is None else near(self.found.model, asked, "instructed").nll.tolist())
        for i, own, *others in zip(rows, *costs, strict=True):
            found[i] = own < min(others)
        return found

    def typed(self, placed: Placed, name: str) -> Rows:
        """Rows of requests with typed tokens: also the tokens as text, and whether the request, typed into the template
        with them, is read as these tokens."""
        requests: Any = placed.requests
        words = self.found.tokenizer
        rows = self.told(requests, lambda _: None, name)
        for i, row in enumerate(rows):
            at, (begin, end) = placed.at[i], requests.spans["text"][i]
            ids = requests.prompt[i, : requests.prompt_length[i]]
            whole, added = (
                words.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                for part in (ids[min(begin, at[0]) : max(end, at[-1] + 1)], ids[at])
            )
            try:
                again = ask(self.found, "harmful", [str(whole)], self.settings).prompt[0]
            except ValueError:  # the template does not give it back
                again = ids[:0]
            row |= {"added": added, "typed": np.array_equal(ids, again)}
        return rows

    def searched(
        self,
        made_on: Placed,
        tried_on: Placed,
        search: TokenAttack,
        allowed: np.ndarray,
        name: str,
        folder: Path,
        bar: Any,
    ) -> dict[str, Any]:
        """Rows of the best tokens met, and the best loss by step. Goes on from what is in the folder."""
        model, words = self.found.model, self.found.tokenizer
        kept, counts = folder / "search.json", folder / "counts.json"
        n = json.loads(counts.read_text()) if counts.is_file() else {"made": 0, "survived": 0}
        if kept.is_file():
            bar.update(json.loads(kept.read_text())["step"])
        survive = survives(words)

        def keep(requests: Requests) -> np.ndarray:
            asked = survive(requests)
            n["made"], n["survived"] = n["made"] + len(asked), n["survived"] + int(asked.sum())
            return asked

        def seen(loss: float) -> None:
            write_json(counts, n)
            bar.set_postfix(loss=f"{loss:.2f}")
            bar.update()

        if near(model, made_on.requests, "instructed").hit.all():  # the start will do
            steps, history, reached = np.zeros(len(tried_on.at)), [], tried_on
        else:
            made = attack_tokens(
                model,
                made_on,
                search,
                seed=self.settings.seed,
                allowed=allowed,
                keep=keep,
                kept=kept,
                seen=seen,
            )
            steps, history, reached = made.steps, made.history, Placed(made.requests, made.at)
            if search.universal:
                ids = np.take_along_axis(made.requests.prompt, made.at, axis=1)[:1]
                reached = Placed(written(tried_on, np.broadcast_to(ids, tried_on.at.shape)), tried_on.at)
                steps = np.broadcast_to(steps[:1], len(tried_on.at))
        rows = self.typed(reached, name)
        for row, taken in zip(rows, steps.tolist(), strict=True):
            row |= {
                "candidates": int(taken) * search.candidates,
                "survived": n["survived"] / n["made"] if n["made"] else None,
            }
        for file in (kept, counts):
            file.unlink(missing_ok=True)
        return {
            "attacked": rows,
            "history": [{"attack": name, "step": i + 1, "loss": x} for i, x in enumerate(history)],
        }

    def by_vectors(self, made_on: TextRequests, tried_on: TextRequests, soft: SoftTokens, seen: Seen) -> Rows:
        """Rows of soft tokens, and of vectors in random directions on the surface of the same ball."""
        model, seed = self.found.model, self.settings.seed
        made = soften(model, made_on, soft, seed=seed, seen=seen)
        if soft.universal:
            made = softened(model, tried_on, soft, made.vectors[: soft.n_tokens][None])
        control = random_vectors(model, tried_on, soft, seed=seed)
        rows = []
        for name, vectors in ((SOFT, made), (RANDOM_SOFT, control)):
            asked: Any = vectors.requests
            rows += self.told(asked, seen, name, softened=vectors)
        return rows

    def by_prefill(self, requests: TextRequests, deepest: int, seen: Seen) -> Rows:
        """Rows for the first 1 … deepest tokens of the target forced; a target that is shorter is forced whole."""
        rows = []
        for depth in range(1, deepest + 1):
            forced = np.minimum(depth, requests.judged[:, 1])
            rows += self.told(prefilled(requests, forced), seen, f"prefill {depth}", begun=forced)
        return rows

    def by_phrasing(self, requests: TextRequests, name: str, seen: Seen) -> Rows:
        """Rows of requests put otherwise, their targets as before; `added` is the whole of what is asked."""
        texts, targets = (requests.truth[column].tolist() for column in ("request", "target"))
        put = [PHRASINGS[name](text) for text in texts]
        asked = ask(self.found, "harmful", put, self.settings, targets)
        rows = self.told(asked, seen, name, plain=texts)
        return [row | {"added": text, "typed": True} for row, text in zip(rows, put, strict=True)]

    def harmless(self, texts: Sequence[str], name: str, put: Callable[[str], str], seen: Seen) -> Rows:
        """Rows of harmless requests put likewise: what a phrasing does to what should be answered."""
        asked = ask(self.found, "harmless", [put(text) for text in texts], self.settings)
        rows = answered(self.found, asked, self.settings, seen, attack=name)
        about = self._on_topic(texts, [row["answer"] for row in rows])
        inside = [{}] * len(rows) if self.watcher is None else self.watcher.see(asked)
        return [
            row | {"request": text, "on_topic": on} | seen_
            for row, text, on, seen_ in zip(rows, texts, about, inside, strict=True)
        ]
