"""What makes a language model answer the harmful requests that it refuses, what has an attack to beat, and where do
attacked requests land?

Steps are kept in the store, and a search for tokens goes on in its middle. Intervals are over requests: one model is
one model. A universal attack is made on half of the refused requests, and every attack then tried on the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.artifacts import Store
from makebreak.attacks import (
    PHRASINGS,
    PLACEBO,
    How,
    Placed,
    SoftTokens,
    TokenAttack,
    Where,
    place,
    survives,
    typeable,
)
from makebreak.behaviour import answer_texts, near
from makebreak.configs import check_positive, nearest
from makebreak.models import LanguageModel, digest
from makebreak.pages.attempts import NOTHING, RANDOM_SOFT, SOFT, Attempts
from makebreak.pages.inspection import Settings, ask, prompts_digest
from makebreak.pages.steps import Rows, Steps
from makebreak.pages.verdicts import outcome, refused, with_verdicts
from makebreak.pages.watching import landing_rows, watcher_apart
from makebreak.requests import TextRequests

START = "starting tokens"
HOWS: dict[str, How] = {"GCG": "gradient", "random search": "search", "random tokens": "random"}
CONTROLS = (NOTHING, START, "random search", "random tokens", RANDOM_SOFT, PLACEBO)
LEAST = 4  # refused requests that are worth attacking
_STARTS = 256  # tokens that are tried as what an attack starts from


@dataclass(frozen=True)
class Attacking:
    """attack_tokens: typed ones. soft_tokens: vectors. steps, candidates: as in `TokenAttack`; soft tokens take as
    many steps. soft_radius: as in `SoftTokens`, whose steps are as long as the ball is large: in a real model those of
    radius 1 overshoot. prefill: first tokens of the target that are forced, at most. phrasings: of `PHRASINGS`."""

    attack_tokens: int = 16
    soft_tokens: int = 10
    soft_radius: float = 0.3
    steps: int = 50
    candidates: int = 64
    where: Where = "suffix"
    universal: bool = False
    prefill: int = 5
    phrasings: tuple[str, ...] = tuple(PHRASINGS)

    def __post_init__(self) -> None:
        check_positive(
            attack_tokens=self.attack_tokens,
            soft_tokens=self.soft_tokens,
            steps=self.steps,
            candidates=self.candidates,
        )
        check_positive(prefill=self.prefill, soft_radius=self.soft_radius)
        if self.where not in ("suffix", "prefix"):
            raise ValueError(f"where = {self.where!r}: expected 'suffix' or 'prefix'")
        for name in self.phrasings:
            if name not in PHRASINGS:
                raise ValueError(f"phrasing {name!r} does not exist; {nearest(name, list(PHRASINGS))}")


@dataclass(frozen=True)
class _Half:
    """Refused requests as they are, and with what searches for tokens start from."""

    requests: TextRequests
    placed: Placed


@dataclass(frozen=True)
class Attacks:
    """Tables by name (`answers` to all requests; `attacked`, one row per attack and refused request; `history` of
    searches; `harmless`, one row per phrasing and harmless request; `landing`, where they all land), and why attacks
    were left out, empty where they were not."""

    tables: dict[str, Rows]
    left_out: str


def attack_model(
    found: LanguageModel,
    prompts: Sequence[str],
    targets: Sequence[str],
    store: Store,
    settings: Settings,
    attacking: Attacking,
    *,
    reference: Mapping[str, Sequence[str]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Attacks:
    """prompts: harmful requests; those that are refused are attacked. targets: what each answer is to begin with.
    reference: clean requests as of `Watcher`, pair by pair, for where attacked ones land and for what phrasings do to
    harmless ones; those that are attacked are left out of it. Neither is looked at without.

    say: told how long it will take, before it starts. Raises ValueError where there is no room for an attack, no token
    can be typed, no start survives being typed, the model gives all targets by itself, or the reference is too small.
    """
    asked = ask(found, "harmful", prompts, settings, targets)
    _check_room(found, asked, settings, attacking)
    watcher = None if reference is None else watcher_apart(found, reference, prompts, settings, say)
    attempts = Attempts(found, settings, watcher)
    allowed = typeable(found.tokenizer, found.model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]
    say(
        f"at most about {max(_estimate(found, asked, settings, attacking) / 60, 0.1):.1f} minutes, less what is done"
    )
    config = {"model": digest(found), "settings": asdict(settings)}
    config |= {"reference": None if watcher is None else prompts_digest(watcher.reference)}
    steps = Steps(
        "attack", store, config | {"prompts": prompts_digest({"harmful": prompts, "targets": targets})}
    )
    answers = with_verdicts(
        steps.go_on("answers", lambda _, bar: attempts.told(asked, bar.update, NOTHING), total=len(asked))
    )
    chosen = np.flatnonzero([refused(row) for row in answers])
    if len(chosen) < LEAST:
        why = (
            f"it refuses {len(chosen)} of {len(asked)} harmful requests, and {LEAST} are the least to attack"
        )
        return Attacks({"answers": answers}, why)
    if all(answers[i]["hit"] for i in chosen):
        said = answers[chosen[0]]["target"]
        raise ValueError(
            f"the model gives the target {said!r} already, where it refuses: name one it does not give"
        )
    placed, kept = _start(found, asked[chosen], attacking, allowed)
    least = 2 * LEAST if attacking.universal else LEAST
    if kept.sum() < least:
        why = f"{kept.sum()} of {len(chosen)} refused requests are the same when written out and read again"
        return Attacks({"answers": answers}, f"{why}, and {least} are the least to attack")
    rows = np.flatnonzero(kept)
    halves = (rows[::2], rows[1::2]) if attacking.universal else (rows, rows)
    made_on, tried_on = (
        _Half(asked[chosen[half]], Placed(placed.requests[half], placed.at[half])) for half in halves
    )
    of = chosen[rows].tolist()
    found_rows, history = _attacked(attempts, made_on, tried_on, allowed, steps, attacking, of=of, say=say)
    rows = with_verdicts([answers[i] for i in chosen[halves[1]]] + found_rows)
    tables = {"answers": answers, "attacked": rows, "history": history}
    if watcher is not None:
        harmless = list(watcher.reference["harmless"][1::2])[: len(tried_on.requests)]
        tables["harmless"] = with_verdicts(_harmless(attempts, harmless, steps, attacking))
        clean = steps.run("clean", lambda _: watcher.clean())
        told = [row | {"outcome": outcome(row)} for row in rows]
        tables["landing"] = landing_rows(
            [{"attack": f"clean {row['family']}", **row} for row in clean] + told, "attack"
        )
        tables["landing"] += landing_rows(
            [row | {"attack": f"harmless, {row['attack']}"} for row in tables["harmless"]], "attack"
        )
    return Attacks(tables, "")


def _harmless(attempts: Attempts, texts: Sequence[str], steps: Steps, attacking: Attacking) -> Rows:
    """As many harmless requests as are attacked, plainly and in every phrasing."""
    rows: Rows = []
    for name, put in {NOTHING: str, **{name: PHRASINGS[name] for name in attacking.phrasings}}.items():

        def make(_: Path, bar: Any, name: str = name, put: Callable[[str], str] = put) -> Rows:
            return attempts.harmless(texts, name, put, bar.update)

        rows += steps.go_on(f"harmless {name}", make, total=len(texts), n=len(texts))
    return rows


def _attacked(
    attempts: Attempts,
    made_on: _Half,
    tried_on: _Half,
    allowed: np.ndarray,
    steps: Steps,
    attacking: Attacking,
    *,
    of: list[int],
    say: Callable[[str], None],
) -> tuple[Rows, Rows]:
    """Rows of every attack, and the best losses by step. The halves are the same but for a universal attack. of: which
    of the requests asked they are."""
    n, universal, where = len(tried_on.requests), attacking.universal, attacking.where
    searched = asdict(attacking) | {"soft_tokens": None, "prefill": None, "of": of}
    del searched["soft_radius"], searched["phrasings"]
    rows: Rows = []
    for name in attacking.phrasings:

        def put(_: Path, bar: Any, name: str = name) -> Rows:
            return attempts.by_phrasing(tried_on.requests, name, bar.update)

        rows += steps.go_on(name, put, total=n, of=of, universal=universal)
    rows += steps.go_on(START, lambda _, bar: attempts.typed(tried_on.placed, START), **searched)
    begun = float(near(attempts.found.model, made_on.placed.requests, "instructed").nll.mean())
    history = [{"attack": name, "step": 0, "loss": begun} for name in HOWS]
    for name, how in HOWS.items():
        search = TokenAttack(how, attacking.steps, attacking.candidates, universal=universal)

        def make(folder: Path, bar: Any, name: str = name, search: TokenAttack = search) -> Rows:
            return [attempts.searched(made_on.placed, tried_on.placed, search, allowed, name, folder, bar)]

        [made] = steps.go_on(name, make, total=attacking.steps, **searched)
        rows += made["attacked"]
        history += made["history"]
        losses = [begun, *(row["loss"] for row in made["history"])]
        hit = sum(row["hit"] for row in made["attacked"])
        say(f"{name}: best loss {losses[-1]:.2f}, {begun:.2f} at the start; {hit} of {n} give the target")
    soft = SoftTokens(
        attacking.soft_tokens,
        attacking.steps,
        attacking.soft_radius,
        where=where,
        universal=universal,
        held=False,
    )

    def by_vectors(_: Path, bar: Any) -> Rows:
        return attempts.by_vectors(made_on.requests, tried_on.requests, soft, bar.update)

    rows += steps.go_on(SOFT, by_vectors, total=3 * n, of=of, **asdict(soft))
    deepest = min(attacking.prefill, int(tried_on.requests.judged[:, 1].max()))

    def forced(_: Path, bar: Any) -> Rows:
        return attempts.by_prefill(tried_on.requests, deepest, bar.update)

    rows += steps.go_on("prefill", forced, total=deepest * n, of=of, prefill=deepest, universal=universal)
    return rows, history


def _check_room(found: LanguageModel, asked: TextRequests, settings: Settings, attacking: Attacking) -> None:
    n_ctx = getattr(found.model.config, "max_position_embeddings", None)
    prompt, attack_ = int(asked.prompt_length.max()), max(attacking.attack_tokens, attacking.soft_tokens)
    for name in attacking.phrasings:
        put = ask(
            found, "harmful", [PHRASINGS[name](text) for text in asked.truth["request"].tolist()], settings
        )
        attack_ = max(attack_, int(put.prompt_length.max()) - prompt)
    answer = max(settings.n_new, int(asked.judged[:, 1].max()))
    if n_ctx is not None and prompt + attack_ + answer > n_ctx:
        raise ValueError(
            f"a prompt of {prompt} tokens, an attack of {attack_} and an answer of {answer} are "
            f"{prompt + attack_ + answer}; the model reads {n_ctx}: choose a shorter attack or answer"
        )


def _start(
    found: LanguageModel, refused: TextRequests, attacking: Attacking, allowed: np.ndarray
) -> tuple[Placed, np.ndarray]:
    """Requests with one token all over the attack's place, and (n,) which of them survive being typed; the first token
    with which all do, else the one with which most do, exclamation marks first."""
    marks = [found.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" !", "!", " x", "x")]
    tokens = [ids[0] for ids in marks if len(ids) == 1 and allowed[ids[0]]]
    tokens += np.flatnonzero(allowed)[:_STARTS].tolist()
    keep, best = survives(found.tokenizer), None
    for token in tokens:
        placed = place(refused, attacking.attack_tokens, attacking.where, token=token)
        kept = keep(placed.requests)
        if best is None or kept.sum() > best[1].sum():
            best = placed, kept
        if kept.all():
            break
    assert best is not None  # some token is allowed
    return best


def _estimate(found: LanguageModel, asked: TextRequests, settings: Settings, attacking: Attacking) -> float:
    """Seconds, from a forward and some steps of generation: every request refused, every step taken."""
    placed = place(asked, attacking.attack_tokens, attacking.where, token=0)
    answer_texts(found.model, found.tokenizer, asked[:2], n_new=1)  # warms up
    times = [time.monotonic()]
    for work in (
        lambda: near(found.model, placed.requests[:16], "instructed"),
        lambda: answer_texts(found.model, found.tokenizer, asked, n_new=1),
        lambda: answer_texts(found.model, found.tokenizer, asked, n_new=5),
    ):
        work()
        times.append(time.monotonic())
    aimed, first, five = np.diff(times)
    forward = aimed * len(asked) / min(len(asked), 16)
    behind = 1 - int(placed.at.min()) / placed.requests.prompt.shape[1]  # what stands before is read once
    searches = len(HOWS) * attacking.steps * attacking.candidates * forward * behind
    gradients = 2 * attacking.steps * 3 * forward
    n_answers = len(HOWS) + 5 + attacking.prefill + 2 * len(attacking.phrasings)
    answers = n_answers * (5 * first + max(five - first, 0) / 4 * settings.n_new)
    return float(searches + gradients + answers)
