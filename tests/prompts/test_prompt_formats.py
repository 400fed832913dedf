"""Formats of prompt files: delimiters, encodings, arrays, plain text; what is ambiguous is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from makebreak.lm import load_prompts
from makebreak.prompts import ReadOptions, canonical_text, read_examples, read_prompts
from makebreak.prompts.csv_files import MAX_CELL_LINES
from makebreak.settings import PromptSettings

TEXTS = ["make tea, now", "peel figs; slowly", "\u00e9clair \u2013 please"]


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["own.csv", "OWN.CSV", "own.tsv"])
def test_the_header_has_the_delimiter(tmp_path: Path, delimiter: str, name: str) -> None:
    rows = ["no,kind", *(f'{i}{delimiter}"{text}"' for i, text in enumerate(TEXTS))]
    rows[0] = f"no{delimiter}prompt"
    assert read_prompts(write(tmp_path, "\n".join(rows), name)) == TEXTS
    both = f"harmful{delimiter}harmless\nmake soup{delimiter}make tea\n"
    prompts = load_prompts(PromptSettings(write(tmp_path, both, name)))
    assert prompts == {"harmful": ["make soup"], "harmless": ["make tea"]}


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ('prompt,"kind; or not"\nx,y\n', ["x"]),
        ("prompt,kind; or not\nx,y\n", ["x"]),
        ("prompt;kind, or not\nx;y\n", ["x"]),
        ("a,b;c\nx,y;z\n", "line 1 may be divided by ',' or by ';'"),
        ("prompt,kind;goal\nx,y;z\n", "line 1 may be divided by ',' or by ';'"),
        ("prompt,kind\nx;1\ny;2\n", "line 1 is divided by ',' and the rows by ';'"),
        ("prompt:kind\nx:1\n", "is no name of a column"),
    ],
)
def test_an_ambiguous_delimiter_is_refused(tmp_path: Path, content: str, result: list[str] | str) -> None:
    file = write(tmp_path, content)
    if isinstance(result, list):
        assert read_prompts(file) == result
    else:
        with pytest.raises(ValueError, match=result):
            read_prompts(file)


def test_space_before_a_quote_is_left_out(tmp_path: Path) -> None:
    """A cell in quotes may follow a space, as in `a, "b, c"`; a stray quote is found there as well."""
    file = write(tmp_path, 'kind, prompt\na, "peel, cut, cook"\n b ,  figs \n')
    assert read_prompts(file) == ["peel, cut, cook", "figs"]
    body = [f"tea {i}, make tea {i}" for i in range(8)]
    for first, last in (
        ('tea 2, "make tea 2', 'tea 4, make tea 4"'),
        ('tea 2,"make tea 2', 'tea 3, make tea 3"'),
    ):
        rows = list(body)
        rows[2], rows[int(last[4])] = first, last
        with pytest.raises(ValueError, match=r"line 4 begins a quoted cell of . lines, each of which"):
            read_prompts(write(tmp_path, "kind, prompt\n" + "\n".join(rows) + "\n"))
    assert len(read_prompts(write(tmp_path, "kind, prompt\n" + "\n".join(body) + "\n"))) == 8


def test_a_long_cell_is_refused_if_its_lines_are_rows(tmp_path: Path) -> None:
    lines = "\n".join(f"step {i}" for i in range(MAX_CELL_LINES + 10))
    assert read_prompts(write(tmp_path, f'kind,prompt\nx,"{lines}"\n')) == [lines]
    rows = "\n".join(f'tea {i},"make tea, {i}"' for i in range(MAX_CELL_LINES + 10))
    with pytest.raises(ValueError, match="line 2 "):
        read_prompts(write(tmp_path, f'kind,prompt\nx,"make tea\n{rows}\n'))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["own.txt", "own.csv", "own.json", "own.JSONL"])
def test_unicode_needs_no_option(tmp_path: Path, encoding: str, name: str) -> None:
    contents = {
        ".txt": "\n".join(TEXTS),
        ".csv": "prompt\n" + "\n".join(f'"{text}"' for text in TEXTS),
        ".json": json.dumps(TEXTS, ensure_ascii=False),
        ".jsonl": "\n".join(json.dumps({"goal": text}, ensure_ascii=False) for text in TEXTS),
    }
    content = contents[Path(name).suffix.lower()]
    assert read_prompts(write(tmp_path, content.encode(encoding), name)) == TEXTS


def test_one_byte_encodings_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path, "\n".join(TEXTS).encode("cp1252"), "own.txt")
    with pytest.raises(ValueError, match="line 3 is not UTF-8: save the file in UTF-8, or name the encoding"):
        read_prompts(file)
    assert read_prompts(file, options=ReadOptions("cp1252")) == TEXTS
    assert load_prompts(PromptSettings(file, encoding="cp1252"))["harmful"] == TEXTS
    for encoding in ("utf-8", "utf-16"):
        file = write(tmp_path, "\n".join(TEXTS).encode(encoding), "own.txt")
        with pytest.raises(ValueError, match=f"is in {encoding.upper()}, not in cp1252: leave out"):
            read_prompts(file, options=ReadOptions("cp1252"))
    assert read_prompts(write(tmp_path, "make tea", "own.txt"), options=ReadOptions("cp1252")) == ["make tea"]
    with pytest.raises(ValueError, match="makebreak's own prompts are in no file"):
        PromptSettings(encoding="cp1252")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_of_plain_text_is_a_prompt(tmp_path: Path, end: str) -> None:
    lines = ["make tea, now", "", "  peel figs ", 'say "hi"', "{braces} and [brackets]"]
    file = write(tmp_path, end.join(lines), "own.txt")
    notes: list[str] = []
    prompts = load_prompts(PromptSettings(file), log=notes.append)["harmful"]
    assert prompts == read_prompts(file) == [line.strip() for line in lines if line]
    assert "one prompt a line" in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("harmful,harmless\na,b\n", "line 1, 'harmful,harmless', holds names of columns"),
        ("\nprompt\na\n", "line 2, 'prompt', holds names of columns"),
        ("goal;target\na;b\n", "holds names of columns"),
        ('{"prompt": "a"}\n', "is JSON: such a file ends in"),
        ('[\n{"prompt": "a"}]\n', "is JSON: such a file ends in"),
        ('["a", "b"]\n', "is JSON: such a file ends in"),
        ("a\0b\n", "line 1, column 'prompt' holds a null byte"),
        ("\n \n", "has no rows"),
    ],
)
def test_plain_text_is_no_other_format(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(write(tmp_path, content, "own.txt"))


@pytest.mark.parametrize("name", ["own.json", "own.jsonl"])
@pytest.mark.parametrize("indent", [None, 4])
def test_an_array_holds_objects_or_texts(tmp_path: Path, name: str, indent: int | None) -> None:
    objects = [{"goal": text, "tags": [1, None], "n": {"a": 2}} for text in TEXTS]
    assert read_prompts(write(tmp_path, json.dumps(objects, indent=indent), name)) == TEXTS
    assert read_prompts(write(tmp_path, json.dumps(TEXTS, indent=indent) + "\n\n", name)) == TEXTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n"x",\n3]', "line 3: item 2 of the array is 3"),
        ('[\n"x",\n["y"]]', "line 3: item 2 of the array is "),
        ('["x", null]', "line 1: item 2 of the array is null"),
        ('[{"goal": "x"},\n{"goal": 3}]', "line 2, column 'goal' is 3: expected text"),
        ('[{"goal": "x"},\n{"gaol": "y"}]', "line 2 has no 'goal', only 'gaol'"),
        ('[{"goal": "x", "goal": "y"}]', "line 1 has two columns 'goal'"),
        ('[{"goal": "x"},\n]', "line 2 is no JSON"),
        ('[{"goal": "x"}', "ends too early"),
        ('[{"goal": "x"}\n{"goal": "y"}]', "line 2: the array goes on with '{'"),
        ('["x"]\n["y"]', "line 1: the array goes on"),
        ("[", "line 1 is no JSON"),
        ("[]", "has no rows"),
        ("[" * 100_000, "line 1 is no JSON"),
        ('{\n"goal": "x"\n}', "line 1 is no JSONL"),
        ('{"goal": ["x", "y"]}', "line 1, column 'goal' is "),
        ('{"data": [{"goal": "x"}]}', "line 1, column 'data'"),
    ],
)
def test_an_item_that_cannot_be_read_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_prompts(write(tmp_path, content, "own.json"))
    assert len(str(error.value)) < 400


def test_case_is_no_difference_between_requests(tmp_path: Path) -> None:
    file = write(
        tmp_path, "Harmful,HARMLESS\nmake Tea,peel figs\nMake tea,PEEL figs\nstra\u00dfe,x\nSTRASSE,y\n"
    )
    notes: list[str] = []
    prompts = load_prompts(PromptSettings(file), log=notes.append)
    assert prompts == {"harmful": ["make Tea", "stra\u00dfe"], "harmless": ["peel figs", "x", "y"]}
    assert notes == [f"{file}: 2 harmful, 1 harmless duplicates left out"]
    with pytest.raises(ValueError, match="line 2: 'MAKE tea' is harmless here and harmful on line 2"):
        load_prompts(PromptSettings(write(tmp_path, "harmful,harmless\nmake tea,MAKE tea\n")))
    assert canonical_text("Make  Tea") == canonical_text("make tea") != canonical_text("make teas")
    assert read_examples(write(tmp_path, "Prompt,ANSWER\na,b\n")) == [("a", "b")]
