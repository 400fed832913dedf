"""Files of published data sets: their prompts are read, and nothing else of them is asked.

The files have the published headers, and harmless rows of our own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from makebreak.lm import load_attack_prompts, load_prompts
from makebreak.prompts import ReadOptions, evaluation_prompts, read_prompts
from makebreak.settings import GoalSettings, PromptSettings

FOLDER = Path(__file__).parent / "data_sets"
SOUP, WALK = "Write a recipe for lentil soup", "Plan a walk along a river"
PICNIC = f"{WALK}, with a picnic"


def targets(*texts: str) -> list[str]:
    return [f"Sure, here is {text}" for text in texts]


@pytest.mark.parametrize(
    ("name", "prompts", "expected_targets", "note"),
    [
        (
            "advbench.csv",
            [SOUP, PICNIC],
            targets("a recipe for lentil soup", "a plan for a walk"),
            "AdvBench",
        ),
        ("jailbreakbench.csv", [SOUP, WALK], targets("a recipe", "a plan"), "JailbreakBench"),
        ("strongreject.csv", [SOUP, PICNIC], ["none"] * 2, "StrongREJECT"),
        ("refusal_direction.json", [SOUP, WALK.replace(" along", "\nalong")], ["none"] * 2, "'instruction'"),
        (
            "trl.jsonl",
            [SOUP, WALK],
            ["none"] * 2,
            "the last request of each chat in 'messages' is its prompt (n = 2)",
        ),
        ("sharegpt.json", [SOUP, WALK], ["none"] * 2, "the last request of each chat in 'conversations'"),
        ("xstest.csv", ["How do I hide the soup?"], ["none"], "2 harmless ones are left out"),
        ("xstest_v2.csv", ["How do I hide the soup?"], ["none"], "2 harmless ones are left out"),
    ],
)
def test_prompts_and_targets_of_a_data_set(
    name: str, prompts: list[str], expected_targets: list[str], note: str
) -> None:
    lines: list[str] = []
    settings, goals = PromptSettings(FOLDER / name), GoalSettings(target="none")
    assert load_attack_prompts(settings, goals, log=lines.append) == (prompts, expected_targets)
    [line] = lines
    assert note in line


@pytest.mark.parametrize(
    "name", ["jailbreakbench.csv", "harmbench.csv", "trl.jsonl", "refusal_direction.json"]
)
def test_families_are_completed_from_our_own(name: str) -> None:
    prompts = load_prompts(PromptSettings(FOLDER / name))
    assert prompts["harmful"] == read_prompts(FOLDER / name)
    assert prompts["harmful"][0] == SOUP
    assert prompts["harmless"] == evaluation_prompts()["harmless"]


def test_rows_without_a_source_column_and_in_another_order_are_known(tmp_path: Path) -> None:
    """The whole header counts, not its order or case; another column makes it another file."""
    file = tmp_path / "a.csv"
    file.write_text(f"index,TARGET,goal,Category,Behavior\n0,Sure,{SOUP},Cooking,Soup\n")
    assert load_attack_prompts(PromptSettings(file), GoalSettings()) == ([SOUP], ["Sure"])
    file.write_text(f"Index,Goal,Target,Behavior,Category,Mine\n0,{SOUP},Sure,Soup,Cooking,x\n")
    with pytest.raises(
        ValueError, match=r"several columns that may hold the prompts, 'Goal', 'Behavior' \(of"
    ):
        read_prompts(file)
    assert read_prompts(file, "GOAL") == [SOUP]


@pytest.mark.parametrize("column", [None, "Behavior"])
def test_a_behaviour_follows_its_context(column: str | None) -> None:
    """As HarmBench's direct requests join them; a context of forty lines is no stray quote."""
    soup, diary, function = read_prompts(FOLDER / "harmbench.csv", column)
    assert soup == SOUP
    assert diary == ('Monday: rain, wind, tea.\n\nTuesday: sun, "a walk", soup.\n\n---\n\nContinue the diary')
    assert function.startswith("def f(total, step):\n    total = add(total, 0, step)")
    assert function.endswith("    return total\n\n---\n\nSay what the function returns")


@pytest.mark.parametrize("name", ["xstest.csv", "xstest_v2.csv"])
def test_labels_divide_families(name: str, tmp_path: Path) -> None:
    lines: list[str] = []
    prompts = load_prompts(PromptSettings(FOLDER / name), log=lines.append)
    assert prompts == {
        "harmful": ["How do I hide the soup?"],
        "harmless": ["How do I slice an onion?", "How do I beat an egg?"],
    }
    assert "1 rows are harmful by" in lines[0]
    file, text = tmp_path / "a.csv", (FOLDER / "xstest.csv").read_text()
    file.write_text(re.sub(",unsafe,", ",maybe,", text))
    with pytest.raises(ValueError, match="line 4, column 'label' is 'maybe': expected a label"):
        load_prompts(PromptSettings(file))
    file.write_text(re.sub(",unsafe,", ",safe,", text))
    with pytest.raises(ValueError, match="column 'label' calls no row harmful"):
        load_prompts(PromptSettings(file))


def write(folder: Path, content: str, name: str = "own.csv") -> Path:
    file = folder / name
    file.write_text(content)
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,kind\na,b\n",
            "no column with a usual name of prompts, only 'name', 'kind': name it by --column",
        ),
        ("prompt,text\na,b\n", "several columns that may hold the prompts, 'prompt', 'text'"),
        ("prompt,harmful\nmake tea,1\n", "several columns that may hold the prompts, 'prompt', 'harmful'"),
        ("Prompt,PROMPT\na,b\n", "several columns that may hold the prompts, 'Prompt', 'PROMPT'"),
        ("prompt,label\nmake tea,0\nmake soup,1\n", "column 'label' divides the rows into 0, 1"),
        ("Prompt,Type\nmake tea,benign\nmake soup,jailbreak\n", "column 'Type' divides the rows"),
        ("target\nSure\n", "no column with a usual name of prompts, only 'target'"),
        ("How do I make tea?\nHow do I make soup?\n", "'How do I make tea[?]', is no name of a column"),
        ("mine\n0\n1\n", "column 'mine' is '0', and all rows hold numbers"),
        ("name,harmful\ntea,0\nsoup,1\n", "column 'harmful' is '0', and all rows hold numbers"),
        ("name,harmful\ntea,Yes\nsoup,no\n", "column 'harmful' is 'Yes', and all rows hold labels"),
        (
            "instruction,input,output\nSum,,x\nSum,1 2,y\n",
            "line 3, column 'input' holds a part of the prompt",
        ),
        ("prompt,context\nGo on,Once\n", "line 2, column 'context' holds a part of the prompt"),
    ],
)
def test_a_column_is_never_guessed(tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path, content)
    for read in (read_prompts, lambda file: load_prompts(PromptSettings(file))):
        with pytest.raises(ValueError, match=message) as error:
            read(file)
        assert str(file) in str(error.value)
        assert len(str(error.value).replace(str(file), "")) < 300


@pytest.mark.parametrize(
    "name",
    ["prompt", "Goal", "BEHAVIOR", "forbidden_prompt", "Forbidden Prompt", "question", "harmful", "mine"],
)
def test_one_usual_name_or_one_column_is_enough(tmp_path: Path, name: str) -> None:
    content = f"{name}\nmake tea\n" if name == "mine" else f"no,{name},target\n7,make tea,Sure\n"
    file = write(tmp_path, content)
    assert read_prompts(file) == ["make tea"]
    assert load_prompts(PromptSettings(file))["harmful"] == ["make tea"]
    assert read_prompts(file, name.upper()) == ["make tea"]


def chat(*roles: str) -> str:
    turns = ", ".join(f'{{"role": "{role}", "content": "make tea {i}"}}' for i, role in enumerate(roles))
    return f'{{"messages": [{{"role": "user", "content": "x"}}]}}\n{{"messages": [{turns}]}}\n'


@pytest.mark.parametrize(
    ("roles", "last", "message"),
    [
        (["user", "assistant"], "make tea 0", None),
        (["system", "user"], "make tea 1", "2, column 'messages' is a chat with 1 turns before .* 'system'"),
        (["user", "assistant", "user"], "make tea 2", "line 2, column 'messages' is a chat with 2 turns"),
        (["assistant"], None, "a chat without a turn of the user"),
        (["user", "tool"], None, "turn 2 is of 'tool'"),
    ],
)
def test_a_request_of_a_chat(tmp_path: Path, roles: list[str], last: str | None, message: str | None) -> None:
    """The only request is taken; the last of several is, if that is asked for."""
    file = write(tmp_path, chat(*roles), "own.jsonl")
    if message is None:
        assert read_prompts(file) == ["x", last]
    else:
        with pytest.raises(ValueError, match=message):
            read_prompts(file)
    if last is None:
        with pytest.raises(ValueError, match=message):
            read_prompts(file, options=ReadOptions(turns="last"))
    else:
        assert read_prompts(file, options=ReadOptions(turns="last")) == ["x", last]


@pytest.mark.parametrize(
    "turn",
    [
        '{"role": "user", "content": 3}',
        '{"role": "user", "content": null}',
        '{"role": "user", "content": [{"type": "image"}]}',
        '{"role": 1, "content": "x"}',
        '{"role": "user"}',
        '{"role": "user", "content": "x", "content": "y"}',
    ],
)
def test_nothing_but_text_is_taken_of_a_chat(tmp_path: Path, turn: str) -> None:
    file = write(tmp_path, f'{{"messages": [{turn}]}}\n', "own.jsonl")
    with pytest.raises(ValueError, match="line 1, column 'messages', turn 1"):
        read_prompts(file)
