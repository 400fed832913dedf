"""Tests of the world of formats: answers and their parser, corruption, splits, detectability by n-grams."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic
from makebreak.stats import auroc
from synthetic import FormatsConfig, FormatsWorld
from synthetic.detectability import NGramClassifier, fit_ngram_classifier
from synthetic.formats.content import N_OPERATORS, TEXT_LENGTH
from synthetic.formats.task_formats import (
    FORMAT_NAMES,
    TASK_FORMATS,
    correct_answers,
    parse_answers,
    payloads,
)
from synthetic.formats.templates import TEMPLATES
from tests.oracles.per_text import make_request, plain_answer

WORLD = synthetic.load("formats")
WRAPPED = synthetic.load("formats_templates")
ALL = [("formats", f) for f in WORLD.families] + [
    (WRAPPED.config.name, f) for f in WRAPPED.families if f != "pretraining"
]


@pytest.fixture(params=["formats", "formats_mini"])
def world(request: pytest.FixtureRequest) -> FormatsWorld:
    return synthetic.load(request.param)


def test_reference_answers_are_judged_right(world: FormatsWorld) -> None:
    """Every correct answer is a compliance and every refusal a refusal."""
    for family in world.families:
        requests = world.sample(family, 300, seed=0, split="any")
        assert (world.judge(requests, requests.instructed) == 1).all(), family
        assert (world.judge(requests, requests.refused) == 0).all(), family


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL), st.integers(0, 2**31), st.data())
def test_corruption_of_one_token_is_no_compliance(
    named: tuple[str, str], seed: int, data: st.DataObject
) -> None:
    """No such answer complies; the token lies between the header and the first STOP.

    Pretraining refuses some requests in its templates.
    """
    world = synthetic.load(named[0])
    requests = world.sample(named[1], 1, seed=seed, split="any")
    header = len(TEMPLATES[list(TEMPLATES)[requests.truth["template"][0]]].answer_header)
    place = data.draw(st.integers(header, int(requests.truth["length"][0]) - 1))
    token = data.draw(
        st.integers(0, len(world.vocabulary) - 1).filter(lambda t: t != requests.instructed[0, place])
    )
    corrupted = requests.instructed.copy()
    corrupted[0, place] = token
    assert world.judge(requests, corrupted)[0] in (2, 3)


def test_stop_ends_what_is_judged() -> None:
    """Tokens after the STOP do not count, and an answer without STOP is degenerate."""
    requests = WORLD.sample("label_safe", 50, seed=0)
    later = requests.instructed.copy()
    later[:, 2:4] = WORLD.vocabulary.id("a")
    assert (WORLD.judge(requests, later) == 1).all()
    endless = np.repeat(requests.instructed[:, :1], WORLD.answer_length, axis=1)
    assert (WORLD.judge(requests, endless) == 3).all()
    with pytest.raises(
        ValueError, match=r"outputs of shape \(50, 2\): expected \(50, at least 4\) answer tokens"
    ):
        WORLD.judge(requests, endless[:, :2])


def test_wellformed_other_answers_are_wrong() -> None:
    """Other well-formed answers are wrong answers, the rest degenerate."""
    for name in FORMAT_NAMES:
        requests = WORLD.sample(f"{name}_safe", 200, seed=0)
        shifted = np.roll(requests.instructed, 1, axis=0)  # of another request, maybe by the other operator
        same = (shifted == requests.instructed).all(axis=1)
        outcomes = WORLD.judge(requests, shifted)
        assert np.isin(outcomes[~same], (2, 3)).all() or name in ("label", "mcq"), name
        assert (outcomes[same] == 1).all() or not same.any()
        assert (outcomes == 2).any(), name


@pytest.mark.parametrize("kind", ["safe", "unsafe", "heldout", "mild"])
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_answers_match_a_plain_oracle(name: str, kind: str) -> None:
    """Answers equal those computed symbol by symbol from the text as it is written."""
    for family in (f"{name}_{kind}", f"{name}_{kind}_new"):
        requests = WORLD.sample(family, 60, seed=1, split="any")
        content = WORLD.content(requests)
        texts = content.text(WORLD.symbols)
        for row in range(len(requests)):
            text = "".join(chr(ord("a") + x) for x in texts[row])
            shown = WORLD.vocabulary.decode(requests.prompt[row]).split()
            payload_shown, read_whole = shown[3:-1], name not in ("gen", "mcq")
            if read_whole:
                letters = "".join(payload_shown)
                assert (letters.lower() if name == "map" else letters) == text
                assert letters.isupper() == (name == "map")
            else:
                assert "".join(payload_shown[:6]) == text[:6]
                assert payload_shown[6] == f"t{content.last_topic[row]}"
            options = [int(t[1:]) for t in payload_shown[7:]] if name == "mcq" else []
            assert len(set(options)) == (2 if name == "mcq" else 0)
            answer = WORLD.vocabulary.decode(requests.instructed[row]).split()
            expected = plain_answer(WORLD, name, int(content.operator[row]), text, options)
            assert answer[: len(expected) + 1] == [*expected, "<stop>"]
            unsafe = (int(content.last_topic[row]) - int(content.first_topic[row])) % 6 >= 3
            assert unsafe == (kind != "safe") == bool(requests.unsafe[row])


def test_one_at_a_time_oracle_has_the_same_form() -> None:
    """The one-at-a-time oracle has the same prompts, up to their letters, and answers of the same lengths."""
    rng, requests = random.Random(0), WRAPPED.sample("pretraining", 3000, seed=0)
    decode, refusals = WRAPPED.vocabulary.decode, requests.truth["pretraining_refusal"]
    naive = [make_request(WRAPPED, rng) for _ in range(3000)]
    ours = [
        (decode(prompt).split(), decode(answer[:n]).split())
        for prompt, answer, n in zip(
            requests.prompt, requests.instructed, requests.truth["length"], strict=True
        )
    ]

    def layouts(requests: list[tuple[list[str], list[str]]]) -> set[tuple[str, int, int]]:
        return {(" ".join(p[: p.index("<sot>")]), len(p), len(a)) for p, a in requests}

    assert layouts(naive) == layouts([pair for pair, no in zip(ours, refusals, strict=True) if not no])
    assert len(layouts(naive)) > 60


def test_a_third_of_the_pairs_is_held_out() -> None:
    """A third of the pairs of topics is held out, every topic equally often."""
    pairs = {}
    for kind in ("unsafe", "heldout", "mild", "safe"):
        truth = WORLD.sample(kind, 4000, seed=0, split="any").truth
        pairs[kind] = set(zip(truth["first_topic"].tolist(), truth["last_topic"].tolist(), strict=True))
        for column in ("first_topic", "last_topic"):
            assert np.bincount(truth[column], minlength=6).std() < 60, (kind, column)
        assert len(np.unique(truth["relation"])) == 3
    assert [len(pairs[kind]) for kind in ("unsafe", "heldout", "mild", "safe")] == [12, 6, 12, 18]
    assert pairs["unsafe"] == pairs["mild"]
    assert not pairs["unsafe"] & pairs["heldout"]


def test_mild_requests_have_one_safe_letter() -> None:
    """One letter of the first phrase is that of a safe one."""
    content = WORLD.content(WORLD.sample("mild", 500, seed=0))
    text = content.text(WORLD.symbols)
    letters = text[np.arange(500), content.typo_position]
    owner = (WORLD.symbols.phrases[:, content.typo_position] == letters).argmax(axis=0) // 2
    assert ((content.last_topic - owner) % 6 < 3).all()
    strong = WORLD.content(WORLD.sample("unsafe", 500, seed=0))
    assert (strong.typo_position == -1).all()


def test_requests_do_not_depend_on_the_batch() -> None:
    """A request is the same in whatever batch it is sampled."""
    for family in ("pretraining", "safe", "mcq_mild_new", "unsafe_skewed"):
        whole = WORLD.sample(family, 30, seed=3, split="score")
        parts = [WORLD.sample(family, 10, seed=3, start=start, split="score") for start in (0, 10, 20)]
        for name, column in whole.columns().items():
            assert column == [value for part in parts for value in part.columns()[name]], (family, name)


def test_splits_do_not_share_texts() -> None:
    texts = [
        {
            tuple(row)
            for row in WORLD.content(WORLD.sample("safe", 500, seed=0, split=split))
            .text(WORLD.symbols)
            .tolist()
        }
        for split in ("train", "fit", "score")
    ]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_coverage_is_even_or_skewed() -> None:
    even, skewed = (
        np.bincount(WORLD.sample(f, 3000, seed=0).truth["task_format"], minlength=6) / 3000
        for f in ("safe", "safe_skewed")
    )
    assert np.abs(even - 1 / 6).max() < 0.03
    assert skewed[0] == pytest.approx(0.85 + 0.15 / 6, abs=0.03)
    assert (skewed[1:] > 0).all()


def auroc_of(classifier: NGramClassifier, safe: synthetic.Requests, unsafe: synthetic.Requests) -> float:
    return auroc(positive=classifier.log_odds(unsafe), negative=classifier.log_odds(safe))


def test_short_ngrams_do_not_detect_unsafe() -> None:
    """Windows shorter than the filler and a letter on both sides are at chance; the relation is not."""
    for name in FORMAT_NAMES:
        train = [WORLD.sample(f"{name}_{kind}", 4000, seed=0) for kind in ("safe", "unsafe")]
        judged = [WORLD.sample(f"{name}_{kind}", 4000, seed=0, start=4000) for kind in ("safe", "unsafe")]
        for n in (1, 2, 3, 4):
            classifier = fit_ngram_classifier("text", n, *train)
            assert abs(auroc_of(classifier, *judged) - 0.5) < 0.035, (name, n)
    truths = [
        requests.truth | {"text": requests.truth["relation"][:, None]} for requests in (*train, *judged)
    ]
    safe, unsafe, *others = (
        type(train[0])(**{**vars(requests), "truth": truth})
        for requests, truth in zip((*train, *judged), truths, strict=True)
    )
    assert auroc_of(fit_ngram_classifier("text", 1, safe, unsafe), *others) == 1.0


def test_parsing_inverts_answering() -> None:
    """For every format and operator the parser recovers what the correct answer states."""
    content = WORLD.content(WORLD.sample("pretraining", 600, seed=0))
    for format_index in range(len(TASK_FORMATS)):
        for operator in range(N_OPERATORS):
            columns = vars(content) | {
                "task_format": np.full(600, format_index),
                "operator": np.full(600, operator),
            }
            content_of_format = type(content)(**columns)
            answer = correct_answers(WORLD.symbols, content_of_format, width=13)
            formed, true = parse_answers(WORLD.symbols, content_of_format, answer)
            assert formed.all()
            assert true.all()
            assert payloads(WORLD.symbols, content_of_format, width=TEXT_LENGTH).max() < len(
                WORLD.symbols.names
            )


def test_bad_input_is_an_error() -> None:
    """Unknown families and splits and settings out of range are named."""
    with pytest.raises(
        ValueError, match="family 'sum_safe' does not exist in world 'formats_mini': expected one of"
    ):
        synthetic.load("formats_mini").sample("sum_safe", 3, seed=0)
    with pytest.raises(ValueError, match="split 'test': expected one of train, fit, score, any"):
        WORLD.sample("safe", 3, seed=0, split="test")
    with pytest.raises(ValueError, match="n = 0: expected at least one request"):
        WORLD.sample("safe", 0, seed=0)
    for field, value, message in (
        ("formats", ("gen", "poem"), "expected different ones of gen, map, sum, struct, label, mcq"),
        ("formats", (), "expected different ones of"),
        ("n_topics", 8, "n_topics = 8: expected a multiple of 6"),
        ("first_format_share", 1.5, "first_format_share = 1.5: expected a share from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            FormatsConfig("bad", **{field: value})
    assert FormatsWorld(FormatsConfig("other", seed=1)).fingerprint != WORLD.fingerprint
