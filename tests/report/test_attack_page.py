"""Attacks on tiny language models: planted weaknesses are found, controls are not, and the page says so."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch

from makebreak.attacks import JAILBREAK_TEMPLATES, AttackResult, SoftPrompt, score_attack
from makebreak.cli import main
from makebreak.defences import min_false_positive_rate
from makebreak.evaluation import JUDGES, ChatTarget, generate_texts
from makebreak.lm import AttackData, AttackSuiteResult, attack_model, success_rows
from makebreak.lm.attacked_answers import AnswerScorer
from makebreak.lm.monitoring import reference_monitors
from makebreak.models import LanguageModel
from makebreak.prompts import text_requests
from makebreak.report import attack_summary, write_attacks
from makebreak.settings import AttackSettings, AttackSizes, GenerationSettings
from makebreak.store import Store, read_state, write_state
from tests.fixtures.pages import check_loads_nothing
from tests.fixtures.tiny_lm import REFUSAL, echo_lm, prompts, save_lm, template_lm, trained_lm

pytestmark = pytest.mark.slow  # trains and attacks language models

SETTINGS = GenerationSettings(n_new=6)
ATTACKS = AttackSizes(
    attack_tokens=4, soft_tokens=4, steps=6, candidates=16, prefill=4, jailbreak_templates=()
)
SMALL = replace(ATTACKS, steps=1, candidates=1, prefill=1)
TARGET = "Sure here it is"
REQUESTS = prompts()["harmful"][1:24:2]


@pytest.fixture(scope="module")
def refusing() -> LanguageModel:
    return trained_lm(refuses=True)


@pytest.fixture(scope="module")
def weak() -> LanguageModel:
    """A model that complies with one jailbreak template and refuses another."""
    return template_lm(
        jailbreak=JAILBREAK_TEMPLATES["prefix injection"], control=JAILBREAK_TEMPLATES["refusal suppression"]
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def result(refusing: LanguageModel, store: Store) -> AttackSuiteResult:
    return run_attacks(refusing, store)


def run_attacks(
    lm: LanguageModel, store: Store, attacks: AttackSettings = ATTACKS, target: str = TARGET
) -> AttackSuiteResult:
    return attack_model(lm, AttackData(REQUESTS, [target] * len(REQUESTS)), store, SETTINGS, attacks)


def success_rate(result: AttackSuiteResult, attack: str, criterion: str = "arditi2024") -> float:
    rows = success_rows(result.tables["attacked_answers"])
    [row] = [row for row in rows if (row.attack, row.criterion) == (attack, criterion)]
    assert row.success_rate is not None
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.success_rate <= row.high
    return row.success_rate


def test_attacks_succeed_more_than_controls(result: AttackSuiteResult) -> None:
    assert not result.skip_reasons
    assert success_rate(result, "no attack") == 0
    assert success_rate(result, "no attack", "target") == 0
    assert success_rate(result, "prefill 4") > 0.9
    assert max(success_rate(result, name, "target") for name in ("GCG", "soft prompt")) > 0.5
    soft, random = (success_rate(result, name, "target") for name in ("soft prompt", "random soft prompt"))
    assert soft >= random
    losses = pd.DataFrame(result.tables["attacked_answers"]).groupby("attack")["loss"].mean()
    assert losses["GCG"] <= losses["initial tokens"]
    assert losses["soft prompt"] < losses["random soft prompt"]


def test_searches_use_equal_candidates(result: AttackSuiteResult) -> None:
    """Every method evaluates the same number of candidates per request, and the best loss never rises."""
    table = pd.DataFrame(result.tables["attacked_answers"]).set_index("attack")
    limit = ATTACKS.steps * ATTACKS.candidates
    for name in ("GCG", "random search", "random tokens"):
        rows = table.loc[name]
        assert (rows["n_candidates"] <= limit).all()
        assert (rows["n_candidates"][~rows["exact_match"].astype(bool)] == limit).all()
        losses = [row["loss"] for row in result.tables["search_history"] if row["attack"] == name]
        assert (np.diff(losses) <= 1e-6).all()


def test_stable_tokens_survive_reencoding(refusing: LanguageModel, result: AttackSuiteResult) -> None:
    """The text of an attack that is called retokenisation-stable gets the same answer when it is encoded."""
    rows = [row for row in result.tables["attacked_answers"] if row["attack"] == "GCG"]
    assert all(row["retokenization_stable"] for row in rows)
    assert all(len(row["attack_text"].split()) == ATTACKS.attack_tokens for row in rows)
    texts = [f"{row['request']} {row['attack_text']}" for row in rows]
    requests = text_requests(refusing.tokenizer, texts, family="harmful", unsafe=True)
    assert generate_texts(refusing, requests, n_new=6) == [row["answer"] for row in rows]


def test_page_shows_the_numbers(result: AttackSuiteResult, tmp_path: Path) -> None:
    page = write_attacks("trained", result, {}, tmp_path).read_text()
    paragraphs = attack_summary(result)
    assert "refuses 12 of 12" in paragraphs[0]
    assert f"{success_rate(result, 'soft prompt'):.2f} [" in paragraphs[2]
    for paragraph in paragraphs:
        assert paragraph.split(":")[0].replace("'", "&#39;") in page
    success = pd.read_csv(tmp_path / "tables" / "success.csv")
    n_criteria = len(JUDGES) + len({"target", "on topic"})
    assert len(success) == n_criteria * success["attack"].nunique()
    for figure in ("success", "search"):
        assert (tmp_path / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_search_resumes(
    refusing: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted search continues at its step, and its result is that of an uninterrupted one."""
    interrupted_store = Store(tmp_path / "store")
    slow = replace(ATTACKS, attack_tokens=1, soft_tokens=1, steps=6, candidates=1, prefill=1)

    def interrupt(path: Path, value: Any) -> None:
        """Writes the state of a search, and interrupts the first one that reaches its third step."""
        write_state(path, value)
        if value["step"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("makebreak.attacks.candidates.write_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_attacks(refusing, interrupted_store, slow)
    monkeypatch.undo()
    [state] = tmp_path.rglob("search.json")
    assert read_state(state)["step"] == 3
    resumed = run_attacks(refusing, interrupted_store, slow)
    uninterrupted = run_attacks(refusing, Store(tmp_path / "uninterrupted"), slow)
    assert json.dumps(resumed.tables) == json.dumps(uninterrupted.tables)
    assert not list(tmp_path.rglob("search.json"))


def test_planted_template_weakness_is_found(weak: LanguageModel, tmp_path: Path) -> None:
    """The template that the model was trained to comply with succeeds and projects to the harmless side."""
    attacks = replace(SMALL, jailbreak_templates=("prefix injection", "refusal suppression"))
    data = AttackData(REQUESTS, [TARGET] * len(REQUESTS), prompts())
    result = attack_model(weak, data, Store(tmp_path), SETTINGS, attacks)
    assert success_rate(result, "prefix injection") > 0.9
    assert max(success_rate(result, name) for name in ("no attack", "refusal suppression")) < 0.1
    projection = {(row["attack"], row["outcome"]): row for row in result.tables["projection"]}
    tau = {name: row["tau_normalised"] for (name, outcome), row in projection.items() if outcome == "all"}
    assert tau["clean harmless"] > 0 > tau["clean harmful"]
    assert tau["prefix injection"] > 0 > tau["refusal suppression"]
    assert projection["clean harmful", "all"]["probe_flag_rate"] > 0.9
    clean = projection["clean harmless", "all"]  # the requests that set the threshold
    nominal = min_false_positive_rate(clean["n"])
    assert clean["probe_flag_low"] <= nominal <= clean["probe_flag_high"]
    assert clean["probe_flag_rate"] <= nominal < 0.12
    names = {row["attack"] for row in result.tables["harmless_answers"]}
    assert names == {"no attack", *attacks.jailbreak_templates}
    paragraphs = attack_summary(result)
    start = "Compliance with harmful requests in jailbreak templates: prefix injection 1.00"
    assert any(paragraph.startswith(start) for paragraph in paragraphs)
    assert any(paragraph.startswith("τ at the end of the prompt") for paragraph in paragraphs)
    page = write_attacks("templates", result, {}, tmp_path / "out").read_text()
    assert "Projection of attacked requests" in page


def test_answers_to_other_requests_are_off_topic() -> None:
    texts = REQUESTS[:6]
    runner = AnswerScorer(ChatTarget(echo_lm(), SETTINGS), None)
    answers = [" ".join(text.split()[:-1]) for text in texts]
    assert runner._on_topic(texts, answers) == [True] * 6
    assert runner._on_topic(texts, answers[3:] + answers[:3]) == [False] * 6
    assert runner._on_topic(texts, ["", *answers[1:]])[0] is None
    assert runner._on_topic(texts[:3], answers[:3]) == [None] * 3


def test_page_says_if_no_attack_succeeds(result: AttackSuiteResult) -> None:
    rows = [row | {"arditi2024": True} for row in result.tables["attacked_answers"]]
    refused = replace(result, tables=result.tables | {"attacked_answers": rows})
    assert attack_summary(refused)[-1] == (
        "No attack or control with text makes the model comply on topic with any of the "
        f"{len(REQUESTS)} requests."
    )


def test_success_of_a_control_is_counted(result: AttackSuiteResult) -> None:
    """A request that only a control succeeds on is not among those without success."""
    rows = [
        row
        | {
            "arditi2024": row["attack"] != "random search",
            "degenerate": False,
            "on_topic": row["request"] == REQUESTS[0],
        }
        for row in result.tables["attacked_answers"]
    ]
    paragraph = attack_summary(replace(result, tables=result.tables | {"attacked_answers": rows}))[-1]
    assert paragraph.startswith(
        f"Attacks and controls with text together make the model comply on topic with 1 of {len(REQUESTS)}"
    )


def test_empty_answers_are_not_on_topic(result: AttackSuiteResult) -> None:
    rows = [row | {"on_topic": None, "degenerate": True} for row in result.tables["attacked_answers"]]
    rows[0] |= {"on_topic": True, "degenerate": False, "arditi2024": False}
    by_criterion = {(row.attack, row.criterion): row for row in success_rows(rows)}
    row = by_criterion[rows[0]["attack"], "on topic"]
    assert (row.success_rate, row.n) == (pytest.approx(1 / len(REQUESTS)), len(REQUESTS))


def test_attacked_requests_are_not_reference(refusing: LanguageModel) -> None:
    """Class means are fitted without attacked requests and their pairs; too few requests give a reason."""
    reference, attacked = prompts(), prompts()["harmful"][::2][:5]
    monitors, reason = reference_monitors(refusing, reference, attacked, SETTINGS)
    assert monitors is not None
    assert not reason
    harmless, harmful = monitors.reference["harmless"], monitors.reference["harmful"]
    assert not set(harmful) & set(attacked)
    assert len(harmless) == len(harmful) == len(reference["harmful"]) - 5
    monitors, reason = reference_monitors(refusing, reference, reference["harmful"][:-4], SETTINGS)
    assert monitors is None
    assert "reference requests are themselves attacked" in reason


def test_skipped_tables_have_reasons_by_name(refusing: LanguageModel, tmp_path: Path) -> None:
    """Why the projection is missing is in `skip_reasons` under the names of the tables, and on the page."""
    reference = {family: texts[1:20:2] for family, texts in prompts().items()}
    reference = {family: texts + prompts()[family][24:32] for family, texts in reference.items()}
    data = AttackData(REQUESTS, [TARGET] * len(REQUESTS), reference)
    messages: list[str] = []
    result = attack_model(refusing, data, Store(tmp_path), SETTINGS, SMALL, log=messages.append)
    assert set(result.skip_reasons) == {"harmless_answers", "projection"}
    assert not set(result.skip_reasons) & set(result.tables)
    assert "attacked requests are not projected" in messages[0]
    assert any("were not projected: 10 of 18" in paragraph for paragraph in attack_summary(result))


def test_universal_and_separate_are_cached_apart(weak: LanguageModel, tmp_path: Path) -> None:
    attacks = replace(SMALL, jailbreak_templates=("prefix injection",))
    for universal in (False, True):
        result = run_attacks(weak, Store(tmp_path), replace(attacks, universal=universal))
        names = [row["attack"] for row in result.tables["attacked_answers"]]
        assert names.count("prefix injection") == names.count("no attack")


def test_compliant_model_is_not_attacked(tmp_path: Path) -> None:
    result = run_attacks(trained_lm(refuses=False, steps=60), Store(tmp_path / "store"))
    assert set(result.tables) == {"answers", "utility"}
    assert "refuses 0 of 12 harmful requests" in result.skip_reasons["attacked_answers"]
    page = write_attacks("complying", result, {}, tmp_path / "out").read_text()
    assert "No attack was made" in page


@pytest.mark.parametrize(
    ("attacks", "target", "message"),
    [
        (
            replace(ATTACKS, attack_tokens=1020),
            TARGET,
            "the model's context is 1024: choose a shorter attack",
        ),
        (
            ATTACKS,
            REFUSAL.removesuffix(" <end>"),
            "the model gives the target 'I cannot help with that' already",
        ),
    ],
)
def test_impossible_attacks_are_errors(
    refusing: LanguageModel, store: Store, attacks: AttackSettings, target: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_attacks(refusing, store, attacks, target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            AttackSettings(jailbreak_templates=("role-play",)),
            "jailbreak template 'role-play' does not exist; did you mean 'role play'",
        ),
        (AttackSettings(methods=("gcq",)), "attack 'gcq' does not exist; did you mean 'gcg'"),
        (AttackSettings(methods=("json:dumps",)), "attack 'json:dumps'"),
        (AttackSettings(methods=("gcg", "makebreak.attacks:GCG")), "two attacks have the name 'GCG'"),
    ],
)
def test_unknown_attacks_are_errors(
    refusing: LanguageModel, store: Store, settings: AttackSettings, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_attacks(refusing, store, settings)


def test_control_is_independent_of_the_soft_prompt(
    refusing: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A soft prompt that never moves from its random start is not the control itself."""

    def at_start(attack: SoftPrompt, target: Any, requests: Any, *, seed: int, **_: Any) -> torch.Tensor:
        n, d_model = len(requests), target.model.config.hidden_size
        noise = torch.randn(n, attack.n_tokens, d_model, generator=torch.Generator().manual_seed(seed))
        return attack.ball_radius(target.model, requests) * noise / noise.norm(dim=-1, keepdim=True)

    monkeypatch.setattr(SoftPrompt, "optimise", at_start)
    attacks = replace(SMALL, attack_tokens=1, soft_tokens=2)
    rows = run_attacks(refusing, Store(tmp_path), attacks).tables["attacked_answers"]
    soft = [row["loss"] for row in rows if row["attack"] == "soft prompt"]
    control = [row["loss"] for row in rows if row["attack"] == "random soft prompt"]
    assert not np.isclose(soft, control, rtol=1e-5).any()


@pytest.mark.parametrize("where", ["suffix", "prefix"])
@pytest.mark.parametrize("universal", [False, True])
def test_all_slot_locations_run(refusing: LanguageModel, store: Store, where: Any, universal: bool) -> None:
    attacks = replace(
        ATTACKS,
        attack_tokens=2,
        soft_tokens=2,
        steps=2,
        candidates=4,
        prefill=1,
        where=where,
        universal=universal,
    )
    table = run_attacks(refusing, store, attacks).tables["attacked_answers"]
    rows = [row for row in table if row["attack"] == "GCG"]
    assert all(row["retokenization_stable"] for row in rows)
    assert len({row["attack_text"] for row in rows}) == 1 or not universal
    separate = run_attacks(refusing, store, replace(attacks, universal=False)).tables["attacked_answers"]
    n_refused = sum(row["attack"] == "no attack" for row in separate)
    assert len(rows) == (n_refused // 2 if universal else n_refused)
    initial = [row for row in table if row["attack"] == "initial tokens"]
    assert len(initial) == len(rows)
    assert len({row["attack_text"] for row in initial}) == 1, "the control is not searched"
    assert all(row["n_candidates"] is None for row in initial)


def test_a_users_attack_is_run_and_reported(
    refusing: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By MODULE:CLASS, beside a registered one; a changed file is run again, and the same file is not."""
    source = """
from makebreak.attacks import fill_slots, insert_slots, score_attack


class Repeat:
    name = "repeated word"

    def __call__(self, target, requests, *, seed):
        slots = insert_slots(requests, 1, token=0)
        ids = requests.prompt[range(len(requests)), requests.spans["text"][:, 0]][:, None]
        return score_attack(self.name, target, fill_slots(slots, ids), positions=slots.positions)
"""
    (tmp_path / "repeating.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    attacks = replace(SMALL, attack_tokens=1, methods=("repeating:Repeat", "random_tokens"))
    store = Store(tmp_path / "store")
    result = run_attacks(refusing, store, attacks)
    rows = [row for row in result.tables["attacked_answers"] if row["method"] == "repeating:Repeat"]
    assert [row["attack_text"] for row in rows] == [row["request"].split()[0] for row in rows]
    assert {row["attack"] for row in result.tables["attacked_answers"]} == {
        *("no attack", "repeated word", "random tokens")
    }
    sentences = [
        text for text in attack_summary(result) if text.startswith("repeated word (repeating:Repeat)")
    ]
    assert len(sentences) == 1
    assert "repeated word" in write_attacks("own", result, {}, tmp_path / "out").read_text()
    stored = lambda: sum(path.is_dir() for path in (tmp_path / "store").glob("attack-*/*"))  # noqa: E731
    n_steps = stored()
    assert run_attacks(refusing, store, attacks).tables == result.tables
    assert stored() == n_steps
    (tmp_path / "repeating.py").write_text(
        source.replace("insert_slots(requests, 1", "insert_slots(requests, 1 ")
    )
    importlib.reload(sys.modules["repeating"])
    run_attacks(refusing, store, attacks)
    assert stored() == n_steps + 1


class Rewrite:
    """A user's attack that writes new texts, of a size on the command line."""

    name = "rewritten"

    def __init__(self, n_words: int, answers: bool = True) -> None:
        self.n_words, self.answers = n_words, answers

    @classmethod
    def from_settings(cls, settings: AttackSizes) -> list[Rewrite]:
        return [cls(settings.attack_tokens)]

    def __call__(self, target: Any, requests: Any, *, seed: int) -> AttackResult:
        texts = [f"{text} {'please ' * self.n_words}".strip() for text in requests.truth["request"]]
        attacked = target.encode(texts, targets=requests.truth["target"].tolist())
        result = score_attack(self.name, target, attacked)
        return result if self.answers else AttackResult(self.name, attacked, result.outcomes)


class Silent(Rewrite):
    """An attack that forgets the answers."""

    @classmethod
    def from_settings(cls, settings: AttackSizes) -> list[Rewrite]:
        return [cls(settings.attack_tokens, answers=False)]


def test_sizes_reach_a_users_attack(refusing: LanguageModel, tmp_path: Path) -> None:
    """Its settings are part of the key, and the table names the requests as they were before the attack."""
    answers = {}
    for n in (1, 3):
        attacks = replace(SMALL, attack_tokens=n, methods=(f"{__name__}:Rewrite",))
        result = run_attacks(refusing, Store(tmp_path), attacks)
        rows = [row for row in result.tables["attacked_answers"] if row["attack"] == "rewritten"]
        assert [row["request"] for row in rows] == REQUESTS
        answers[n] = [row["log_odds"] for row in rows]
        assert not any("with text" in paragraph for paragraph in attack_summary(result))
    assert answers[1] != answers[3]
    lost = replace(SMALL, methods=(f"{__name__}:Silent",))
    with pytest.raises(ValueError, match=r"attack 'rewritten' returned 0 answers to 12 requests"):
        run_attacks(refusing, Store(tmp_path), lost)


def test_command_writes_its_page(
    refusing: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = str(save_lm(refusing.model, tmp_path / "model")), tmp_path / "prompts.csv"
    lines = [f"{text},{TARGET if i else ''}" for i, text in enumerate(REQUESTS)]
    file.write_text("\n".join(["goal,target", *lines]))
    command = ["attack", folder, "--prompts", str(file), "--max-new-tokens", "6", "--requests", "6"]
    command += ["--store", str(tmp_path / "store"), "--attack-tokens", "2", "--soft-tokens", "2"]
    command += ["--steps", "2", "--candidates", "4", "--jailbreak-templates", "prefix injection"]
    capsys.readouterr()
    assert main([*command, "--target", "Sure here", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "minutes, less for steps that are cached" in out
    assert "refuses 6 of 6" in out
    assert "GCG: best loss" in out
    assert "in jailbreak templates: prefix injection" in out
    check_loads_nothing((tmp_path / "out" / "report.html").read_text())
    targets = pd.read_csv(tmp_path / "out" / "tables" / "answers.csv")["target"]
    assert targets.tolist() == ["Sure here", *[TARGET] * 5]
    for options, message in (
        (["--target-column", "aim"], "no column 'aim'"),
        (["--where", "unused"], "invalid choice"),
        (["--attack-tokens", "0"], "attack_tokens = 0"),
        (["--requests", "0"], "requests = 0"),
        (["--target", " "], "--target is empty"),
    ):
        assert main([*command, *options]) == 2
        out, err = capsys.readouterr()
        assert message in err
        assert err.count("\n") == 1
