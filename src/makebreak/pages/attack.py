"""What makes a language model answer the harmful requests that it refuses, and what has an attack to beat?

Steps are kept in the store, and a search for tokens goes on in its middle. Intervals are over requests: one model is
one model. A universal attack is made on half of the refused requests, and every attack then tried on the other half.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.artifacts import Store, write_json
from makebreak.attacks import (
    How,
    Placed,
    Softened,
    SoftTokens,
    TokenAttack,
    Where,
    attack_tokens,
    place,
    prefilled,
    random_vectors,
    soften,
    softened,
    survives,
    typeable,
    written,
)
from makebreak.behaviour import answer_texts, near
from makebreak.configs import check_positive
from makebreak.models import LanguageModel, digest
from makebreak.pages.inspection import JUDGE, Settings, answered, ask, prompts_digest, with_verdicts
from makebreak.pages.steps import Rows, Seen, Steps
from makebreak.requests import Requests, TextRequests

NOTHING, START = "nothing", "starting tokens"
HOWS: dict[str, How] = {"GCG": "gradient", "random search": "search", "random tokens": "random"}
SOFT, RANDOM_SOFT = "soft tokens", "random vectors"
CONTROLS = (NOTHING, START, "random search", "random tokens", RANDOM_SOFT)
LEAST = 4  # refused requests that are worth attacking
_STARTS = 256  # tokens that are tried as what an attack starts from


@dataclass(frozen=True)
class Attacking:
    """attack_tokens: typed ones. soft_tokens: vectors. steps, candidates: as in `TokenAttack`; soft tokens take as
    many steps. soft_radius: as in `SoftTokens`, whose steps are as long as the ball is large: in a real model those of
    radius 1 overshoot. prefill: first tokens of the target that are forced, at most."""

    attack_tokens: int = 16
    soft_tokens: int = 10
    soft_radius: float = 0.3
    steps: int = 50
    candidates: int = 64
    where: Where = "suffix"
    universal: bool = False
    prefill: int = 5

    def __post_init__(self) -> None:
        check_positive(
            attack_tokens=self.attack_tokens, soft_tokens=self.soft_tokens, steps=self.steps, candidates=self.candidates
        )
        check_positive(prefill=self.prefill, soft_radius=self.soft_radius)
        if self.where not in ("suffix", "prefix"):
            raise ValueError(f"where = {self.where!r}: expected 'suffix' or 'prefix'")


@dataclass(frozen=True)
class _Half:
    """Refused requests as they are, and with what searches for tokens start from."""

    requests: TextRequests
    placed: Placed


@dataclass(frozen=True)
class Attacks:
    """Tables by name (`answers` to all requests; `attacked`, one row per attack and refused request; `history` of
    searches), and why attacks were left out, empty where they were not."""

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
    say: Callable[[str], None] = lambda _: None,
) -> Attacks:
    """prompts: harmful requests; those that are refused are attacked. targets: what each answer is to begin with.

    say: told how long it will take, before it starts. Raises ValueError where there is no room for an attack, no token
    can be typed, no start survives being typed, or the model gives all targets by itself.
    """
    asked = ask(found, "harmful", prompts, settings, targets)
    _check_room(found, asked, settings, attacking)
    allowed = typeable(found.tokenizer, found.model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]
    say(f"at most about {max(_estimate(found, asked, settings, attacking) / 60, 0.1):.1f} minutes, less what is done")
    config = {"model": digest(found), "settings": asdict(settings)}
    steps = Steps("attack", store, config | {"prompts": prompts_digest({"harmful": prompts, "targets": targets})})
    answers = with_verdicts(
        steps.go_on("answers", lambda _, bar: _told(found, asked, settings, bar.update, NOTHING), total=len(asked))
    )
    refused = np.array([row[JUDGE] and not row["broken"] for row in answers])
    if refused.sum() < LEAST:
        why = f"it refuses {refused.sum()} of {len(asked)} harmful requests, and {LEAST} are the least to attack"
        return Attacks({"answers": answers}, why)
    if all(row["hit"] for row, chosen in zip(answers, refused, strict=True) if chosen):
        said = answers[int(refused.argmax())]["target"]
        raise ValueError(f"the model gives the target {said!r} already, where it refuses: name one it does not give")
    placed, kept = _start(found, asked[refused], attacking, allowed)
    least = 2 * LEAST if attacking.universal else LEAST
    if kept.sum() < least:
        why = f"{kept.sum()} of {refused.sum()} refused requests are the same when written out and read again"
        return Attacks({"answers": answers}, f"{why}, and {least} are the least to attack")
    chosen, rows = np.flatnonzero(refused), np.flatnonzero(kept)
    halves = (rows[::2], rows[1::2]) if attacking.universal else (rows, rows)
    made_on, tried_on = (_Half(asked[chosen[half]], Placed(placed.requests[half], placed.at[half])) for half in halves)
    found_rows, history = _attacked(
        found, made_on, tried_on, allowed, steps, settings, attacking, of=chosen[rows].tolist()
    )
    rows = with_verdicts([answers[i] for i in chosen[halves[1]]] + found_rows)
    return Attacks({"answers": answers, "attacked": rows, "history": history}, "")


def _attacked(
    found: LanguageModel,
    made_on: _Half,
    tried_on: _Half,
    allowed: np.ndarray,
    steps: Steps,
    settings: Settings,
    attacking: Attacking,
    *,
    of: list[int],
) -> tuple[Rows, Rows]:
    """Rows of every attack, and the best losses by step. The halves are the same but for a universal attack. of: which
    of the requests asked they are."""
    n, universal, where = len(tried_on.requests), attacking.universal, attacking.where
    searched = asdict(attacking) | {"soft_tokens": None, "prefill": None, "of": of}
    del searched["soft_radius"]
    rows = steps.go_on(START, lambda _, bar: _typed(found, tried_on.placed, settings, START), **searched)
    begun = float(near(found.model, made_on.placed.requests, "instructed").nll.mean())
    history = [{"attack": name, "step": 0, "loss": begun} for name in HOWS]
    for name, how in HOWS.items():
        search = TokenAttack(how, attacking.steps, attacking.candidates, universal=universal)

        def make(folder: Path, bar: Any, name: str = name, search: TokenAttack = search) -> Rows:
            return [_searched(found, made_on.placed, tried_on.placed, settings, search, allowed, name, folder, bar)]

        [made] = steps.go_on(name, make, total=attacking.steps, **searched)
        rows += made["attacked"]
        history += made["history"]
    soft = SoftTokens(
        attacking.soft_tokens, attacking.steps, attacking.soft_radius, where=where, universal=universal, held=False
    )

    def by_vectors(_: Path, bar: Any) -> Rows:
        return _softened(found, made_on.requests, tried_on.requests, settings, soft, bar.update)

    rows += steps.go_on(SOFT, by_vectors, total=3 * n, of=of, **asdict(soft))
    deepest = min(attacking.prefill, int(tried_on.requests.judged[:, 1].max()))

    def forced(_: Path, bar: Any) -> Rows:
        return _by_prefill(found, tried_on.requests, settings, deepest, bar.update)

    rows += steps.go_on("prefill", forced, total=deepest * n, of=of, prefill=deepest, universal=universal)
    return rows, history


def _check_room(found: LanguageModel, asked: TextRequests, settings: Settings, attacking: Attacking) -> None:
    n_ctx = getattr(found.model.config, "max_position_embeddings", None)
    prompt, attack_ = int(asked.prompt_length.max()), max(attacking.attack_tokens, attacking.soft_tokens)
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


def _told(
    found: LanguageModel,
    requests: TextRequests,
    settings: Settings,
    seen: Seen,
    name: str,
    *,
    softened: Softened | None = None,
    begun: np.ndarray | None = None,
) -> Rows:
    """One row per request as it is now: the answer, how near the target is, and whether it begins the answer; None
    where nothing is left of the target."""
    with nullcontext() if softened is None else softened.inside(found.model):
        rows = answered(found, requests, settings, seen, begun=begun, attack=name)
        left = requests.judged[:, 1] > 0
        told = iter(_near(found, requests[left]) if left.any() else [])
    nothing = {"loss": None, "hit": None}
    more: dict[str, Any] = {"added": "", "typed": None, "candidates": None, "survived": None}
    targets = requests.truth["target"].tolist()
    return [
        row | more | {"target": target} | (next(told) if some else nothing)
        for row, target, some in zip(rows, targets, left.tolist(), strict=True)
    ]


def _near(found: LanguageModel, requests: Requests) -> list[dict[str, Any]]:
    loss, hit = near(found.model, requests, "instructed")
    return [{"loss": x, "hit": h} for x, h in zip(loss.tolist(), hit.tolist(), strict=True)]


def _typed(found: LanguageModel, placed: Placed, settings: Settings, name: str) -> Rows:
    """Rows of requests with typed tokens: also the tokens as text, and whether the request, typed into the template
    with them, is read as these tokens."""
    requests: Any = placed.requests
    rows = _told(found, requests, settings, lambda _: None, name)
    for i, row in enumerate(rows):
        at, (begin, end) = placed.at[i], requests.spans["text"][i]
        ids = requests.prompt[i, : requests.prompt_length[i]]
        whole, added = (
            found.tokenizer.decode(part, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            for part in (ids[min(begin, at[0]) : max(end, at[-1] + 1)], ids[at])
        )
        try:
            again = ask(found, "harmful", [str(whole)], settings).prompt[0]
        except ValueError:  # the template does not give it back
            again = ids[:0]
        row |= {"added": added, "typed": np.array_equal(ids, again)}
    return rows


def _searched(
    found: LanguageModel,
    made_on: Placed,
    tried_on: Placed,
    settings: Settings,
    attack_: TokenAttack,
    allowed: np.ndarray,
    name: str,
    folder: Path,
    bar: Any,
) -> dict[str, Any]:
    """Rows of the best tokens met, and the best loss by step. Goes on from what is in the folder."""
    kept, counts = folder / "search.json", folder / "counts.json"
    n = json.loads(counts.read_text()) if counts.is_file() else {"made": 0, "survived": 0}
    if kept.is_file():
        bar.update(json.loads(kept.read_text())["step"])
    survive = survives(found.tokenizer)

    def keep(requests: Requests) -> np.ndarray:
        asked = survive(requests)
        n["made"], n["survived"] = n["made"] + len(asked), n["survived"] + int(asked.sum())
        return asked

    def seen(loss: float) -> None:
        write_json(counts, n)
        bar.set_postfix(loss=f"{loss:.2f}")
        bar.update()

    if near(found.model, made_on.requests, "instructed").hit.all():  # the start will do
        steps, history, reached = np.zeros(len(tried_on.at)), [], tried_on
    else:
        made = attack_tokens(
            found.model, made_on, attack_, seed=settings.seed, allowed=allowed, keep=keep, kept=kept, seen=seen
        )
        steps, history, reached = made.steps, made.history, Placed(made.requests, made.at)
        if attack_.universal:
            ids = np.take_along_axis(made.requests.prompt, made.at, axis=1)[:1]
            reached = Placed(written(tried_on, np.broadcast_to(ids, tried_on.at.shape)), tried_on.at)
            steps = np.broadcast_to(steps[:1], len(tried_on.at))
    rows = _typed(found, reached, settings, name)
    for row, taken in zip(rows, steps.tolist(), strict=True):
        row |= {
            "candidates": int(taken) * attack_.candidates,
            "survived": n["survived"] / n["made"] if n["made"] else None,
        }
    for file in (kept, counts):
        file.unlink(missing_ok=True)
    return {"attacked": rows, "history": [{"attack": name, "step": i + 1, "loss": x} for i, x in enumerate(history)]}


def _softened(
    found: LanguageModel,
    made_on: TextRequests,
    tried_on: TextRequests,
    settings: Settings,
    soft: SoftTokens,
    seen: Seen,
) -> Rows:
    """Rows of soft tokens, and of vectors in random directions on the surface of the same ball."""
    made = soften(found.model, made_on, soft, seed=settings.seed, seen=seen)
    if soft.universal:
        made = softened(found.model, tried_on, soft, made.vectors[: soft.n_tokens][None])
    control = random_vectors(found.model, tried_on, soft, seed=settings.seed)
    rows = []
    for name, vectors in ((SOFT, made), (RANDOM_SOFT, control)):
        asked: Any = vectors.requests
        rows += _told(found, asked, settings, seen, name, softened=vectors)
    return rows


def _by_prefill(found: LanguageModel, requests: TextRequests, settings: Settings, deepest: int, seen: Seen) -> Rows:
    """Rows for the first 1 … deepest tokens of the target forced; a target that is shorter is forced whole."""
    rows = []
    for depth in range(1, deepest + 1):
        forced = np.minimum(depth, requests.judged[:, 1])
        rows += _told(found, prefilled(requests, forced), settings, seen, f"prefill {depth}", begun=forced)
    return rows


def _estimate(found: LanguageModel, asked: TextRequests, settings: Settings, attacking: Attacking) -> float:
    """Seconds, from a forward and some steps of generation: every request refused, every step taken."""
    placed = place(asked, attacking.attack_tokens, attacking.where, token=0)
    answer_texts(found.model, found.tokenizer, asked[:2], n_new=1)  # warms up
    times = [time.monotonic()]
    for work in (
        lambda: _near(found, placed.requests[:16]),
        lambda: answer_texts(found.model, found.tokenizer, asked, n_new=1),
        lambda: answer_texts(found.model, found.tokenizer, asked, n_new=5),
    ):
        work()
        times.append(time.monotonic())
    near, first, five = np.diff(times)
    forward = near * len(asked) / min(len(asked), 16)
    behind = 1 - int(placed.at.min()) / placed.requests.prompt.shape[1]  # what stands before is read once
    searches = len(HOWS) * attacking.steps * attacking.candidates * forward * behind
    gradients = 2 * attacking.steps * 3 * forward
    answers = (len(HOWS) + 4 + attacking.prefill) * (first + max(five - first, 0) / 4 * settings.n_new)
    return float(searches + gradients + answers)
