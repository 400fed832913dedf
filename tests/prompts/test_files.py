"""Prompt files: every row is read as it stands, or the file is refused by the line of the row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from makebreak.prompts import evaluation_prompts, read_examples, read_families, read_prompts
from makebreak.prompts.csv_files import MAX_CELL_LINES
from makebreak.prompts.tables import MAX_CHARACTERS

COLUMNS = {"harmful": "harmful", "harmless": "harmless", "borderline": "borderline"}
OURS = {"harmless": evaluation_prompts()["harmless"]}
ROWS = [f"bomb {i},tea {i}" for i in range(40)]


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def csv_text(changes: dict[int, str]) -> str:
    """Header and 40 rows; `changes` replaces rows by their line number."""
    lines = ["harmful,harmless", *ROWS]
    for line, row in changes.items():
        lines[line - 1] = row
    return "\n".join(lines) + "\n"


def families(file: Path) -> dict[str, list[str]]:
    return read_families(file, COLUMNS, OURS).prompts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_row_of_a_sound_file_is_read(tmp_path: Path, end: str, encoding: str) -> None:
    """Any line end, any encoding with a byte order mark, quoted commas, quotes, lines and odd characters."""
    cells = [
        'say ""hi"", now',
        "two\nlines, one comma",
        "a\u2028b\u2029c\x85d\x0be",
        "\u202eabc",
        "𝕒é",
        "x, y,\nz",
    ]
    text = csv_text({}) + "".join(f'"{cell}",coffee {i}\n' for i, cell in enumerate(cells))
    file = write(tmp_path, text.replace("\n", end).encode(encoding))
    expected = [cell.replace('""', '"').replace("\n", end) for cell in cells]
    assert families(file)["harmful"] == [f"bomb {i}" for i in range(40)] + expected
    assert len(families(file)["harmless"]) == 46


@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".json"])
def test_json_lines_end_only_at_line_ends(tmp_path: Path, suffix: str) -> None:
    """Unicode line separators are characters of a text; a byte order mark is none."""
    texts = ["a\u2028b", "c\x85d", "e\u2029f", "g\x0b\x0c\x1ch", "i\nj", "\ufeffk"]
    lines = [json.dumps({"harmful": text, "n": 1}, ensure_ascii=False) for text in texts]
    file = write(tmp_path, "\ufeff" + "\r\n".join(lines) + "\n\n", f"own{suffix}")
    assert families(file)["harmful"] == [*texts[:-1], "k"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({12: '"bomb 10,tea 10'}, "line 12 has a quote that is not closed"),
        ({12: 'bomb 10,"tea 10'}, "line 12 has a quote that is not closed"),
        ({12: '"bomb 10,tea 10', 20: '"a, b",tea 18'}, "line 12 has a quoted cell that goes on"),
        ({12: '"bomb 10,tea 10', 20: 'bomb 18,say "hi"'}, "line 12 has a quoted cell that goes on"),
        ({12: '"bomb 10,tea 10', 20: 'bomb 18,tea 18"'}, "line 12 begins a row of 9 lines with 1 of 2 cells"),
        ({12: 'bomb 10,"tea 10', 20: 'bomb 18,tea 18"'}, "line 12 begins a quoted cell of 9 lines"),
        ({12: 'bomb 10,"tea 10', 13: 'bomb 11,tea 11"'}, "line 12 begins a quoted cell of 2 lines"),
        ({3: 'bomb 1,"tea 1', 38: '",'}, "line 3 begins a row of 36 lines"),
        ({12: "bomb 10, with nails,tea 10"}, "line 12 has 3 cells for 2 columns"),
        ({12: "bomb 10,tea 10,x"}, "line 12 has 3 cells for 2 columns"),
        ({12: '"bomb"10,tea 10'}, "line 12 has a quoted cell that goes on"),
        ({12: "harmful,harmless"}, "line 12 repeats the names of the columns"),
        ({1: "harmful,harmful"}, "line 1 has two columns 'harmful'"),
        ({1: "harmless,harmful, harmless "}, "line 1 has two columns 'harmless'"),
        ({12: "bo\0mb,tea 10"}, "line 12, column 'harmful' holds a null byte"),
        ({12: "bomb\0,tea 10"}, "line 12, column 'harmful' holds a null byte"),
        ({12: "bomb 10,\0"}, "line 12, column 'harmless' holds a null byte"),
        ({12: "x" * (MAX_CHARACTERS + 1) + ",tea 10"}, "line 12 has a cell of more than 131,072 characters"),
        ({12: "tea 3,tea 10"}, "line 5: 'tea 3' is harmless here and harmful on line 12"),
        ({12: "bomb 10, bomb  7"}, "line 12: 'bomb  7' is harmless here and harmful on line 9"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, changes: dict[int, str], message: str) -> None:
    file = write(tmp_path, csv_text(changes))
    with pytest.raises(ValueError, match=message) as error:
        families(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_long_cells_need_a_file_in_which_they_are_no_stray_quote(tmp_path: Path) -> None:
    text = "\n".join(f"step {i}" for i in range(MAX_CELL_LINES))
    assert read_prompts(write(tmp_path, f'goal\n"{text}"\n')) == [text]
    with pytest.raises(ValueError, match="line 2 begins a row of 31 lines"):
        read_prompts(write(tmp_path, f'goal\n"{text}\nend"\n'))
    line = json.dumps({"goal": f"{text}\nend"})
    assert read_prompts(write(tmp_path, line, "own.jsonl")) == [f"{text}\nend"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        *(
            (f'{{"harmful": {value}}}', "line 2, column 'harmful' is ")
            for value in ("0", "1.5", "null", "NaN")
        ),
        *((f'{{"harmful": {value}}}', "line 2, column 'harmful' is ") for value in ("true", "-1e999", "10")),
        *((f'{{"harmful": {value}}}', "line 2, column 'harmful' is ") for value in ("[]", '["x"]', "[[1]]")),
        *(
            (f'{{"harmful": {value}}}', "'harmful' is an object")
            for value in ("{}", '{"a": 1}', '{"a": "b"}')
        ),
        ('{"harmful": "y", "harmless": null}', "line 2, column 'harmless' is null"),
        ('{"harmful": "\\ud800"}', r"line 2, column 'harmful' holds an unpaired surrogate \(U\+D800\)"),
        ('{"harmful": "a\\udfffb"}', r"line 2, column 'harmful' holds an unpaired surrogate \(U\+DFFF\)"),
        ('{"harmful": "a\\u0000"}', "line 2, column 'harmful' holds a null byte"),
        ('{"harmful": "y", "harmful": "z"}', "line 2 has two columns 'harmful'"),
        ('{"hamrful": "y"}', "line 2 has no 'harmful', only 'hamrful'"),
        ("{}", "line 2 has no 'harmful', only nothing"),
        ('{"harmful": "y"', "line 2 is no JSONL"),
        ('{"harmful": "y"} {"harmful": "z"}', "line 2 is no JSONL"),
        ('{"harmful": ' + "9" * 5000 + "}", "line 2 is no JSONL"),
        ("[" * 100_000, "line 2 is no JSONL"),
        ('"y"', "line 2: expected one object a line"),
        ('["y"]', "line 2: expected one object a line"),
        ("null", "line 2: expected one object a line"),
        (
            json.dumps({"harmful": "x" * (MAX_CHARACTERS + 1)}),
            "line 2, column 'harmful' has 131,073 characters",
        ),
    ],
)
def test_nothing_but_text_is_a_prompt(tmp_path: Path, line: str, message: str) -> None:
    """Values that are no text are refused, not asked as Python source; other columns may hold them."""
    control = '{"harmful": "x", "id": 7, "tags": ["a"], "source": {"b": null}}'
    file = write(tmp_path, f"{control}\n{line}\n", "own.jsonl")
    with pytest.raises(ValueError, match=message) as error:
        families(file)
    assert len(str(error.value)) < 300
    assert families(write(tmp_path, f"{control}\n", "own.jsonl"))["harmful"] == ["x"]


@pytest.mark.parametrize(
    "copy", ["bomb 3,tea 3", " bomb 3 ,tea  3", "bomb\t3,\ufefftea 3", '"bomb\n3",tea 3\u200b']
)
def test_duplicates_are_left_out_and_counted(tmp_path: Path, copy: str) -> None:
    file = write(tmp_path, csv_text({20: copy, 30: copy}))
    result = read_families(file, COLUMNS, OURS)
    assert result.n_duplicates == {"harmful": 2, "harmless": 2}
    for family, texts in result.prompts.items():
        assert len(texts) == len(set(texts)) == 38, family
    composed = write(tmp_path, "harmful\ncafe\u0301\ncaf\u00e9\nCafe\u0301\n")
    assert read_families(composed, COLUMNS, OURS).n_duplicates == {"harmful": 2}  # one in another case
    invisible = write(tmp_path, "harmful,harmless\nab,x\na\u200bb,y\na\u00adb,z\n\uff41\uff42,w\n")
    assert read_families(invisible, COLUMNS, OURS).n_duplicates["harmful"] == 3
    both = write(tmp_path, "harmful,harmless\nab,x\nc,a\u200bb\n")
    with pytest.raises(ValueError, match="is harmless here and harmful on line 2"):
        read_families(both, COLUMNS, OURS)


def test_families_are_complete(tmp_path: Path) -> None:
    """A column that is there is used or refused; ours complete a file without it."""
    assert families(write(tmp_path, "harmful\nx\n"))["harmless"] == OURS["harmless"]
    mixed = '{"harmful": "x"}\n{"harmless": "y"}\n{"harmless": ""}\n'
    assert families(write(tmp_path, mixed, "own.jsonl")) == {"harmful": ["x"], "harmless": ["y"]}
    for column in ("harmless", "borderline"):
        with pytest.raises(ValueError, match=f"column '{column}' holds no text in 2 rows"):
            families(write(tmp_path, f"harmful,{column}\nx,\ny, \n"))
    with pytest.raises(ValueError, match="is harmful here and harmless among makebreak's own prompts"):
        families(write(tmp_path, f"harmful\nx\n{OURS['harmless'][3]}\n"))


@pytest.mark.parametrize(
    "name",
    ["my_prompts", "-", "..", "../x/y", "a/b/c", "/tmp/nowhere/at/all", "owner/na me", "~/x", "own/x.txt"],
)
def test_only_an_id_of_the_hub_is_looked_up(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[str] = []

    def load_dataset(name: str, split: str) -> None:
        calls.append(name)
        raise RuntimeError("unreachable\nin two lines")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"expected a \.csv, .* or \.txt file, or a data set's name"):
        read_prompts(name)
    assert not calls
    with pytest.raises(
        ValueError, match=r"owner/name is no data set within reach \(unreachable in two lines\)"
    ):
        read_prompts(Path("owner/name"))
    assert calls == ["owner/name"]
    (tmp_path / "owner").mkdir()
    with pytest.raises(ValueError, match="owner/name does not exist"):
        read_prompts("owner/name")
    assert calls == ["owner/name"]


def test_a_long_name_is_shortened() -> None:
    with pytest.raises(ValueError, match=r"^x+…: it cannot be .*expected a \.csv") as error:
        read_prompts("x" * 5000)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "own.csv", "has no rows"),
        ("\n\n", "own.csv", "has no rows"),
        ("harmful\n,\n", "own.csv", "has no rows"),
        ("", "own.jsonl", "has no rows"),
        ("harmful\ncaf\xe9\n".encode("latin-1"), "own.csv", "line 2 is not UTF-8"),
        (b"harmful\nx\n\xff\n", "own.csv", "line 3 is not UTF-8"),
        (b"\xff\xfeh\0a", "own.csv", "is not UTF-16"),
        ("harmful\nx\n", "own.md", "no file of the ending '.md'"),
    ],
)
def test_files_that_are_no_tables_are_named(
    tmp_path: Path, content: str | bytes, name: str, message: str
) -> None:
    file = write(tmp_path, content, name)
    with pytest.raises(ValueError, match=message):
        families(file)
    with pytest.raises(ValueError, match="is a folder"):
        read_prompts(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', r"line 2: row 2 has an empty prompt or answer \(no 'answer'\)"),
        ('{"answer": "a"}', r"line 2: .* \(no 'prompt'\)"),
        ('{"prompt": "a", "answer": " "}', r"line 2: row 2 has an empty prompt or answer \(no 'answer'\)"),
        ('{"prompt": {"a": 1}, "answer": "b"}', "line 2, column 'prompt' is an object"),
        ('{"prompt": "a", "answer": ["b"]}', "line 2, column 'answer' is"),
        ('{"prompt": "a", "answer": 3}', "line 2, column 'answer' is 3"),
        ('{"prompt": "a\\ud800", "answer": "b"}', "line 2, column 'prompt' holds an unpaired surrogate"),
    ],
)
def test_only_text_is_taught(tmp_path: Path, line: str, message: str) -> None:
    control = '{"prompt": "p", "answer": "q", "id": 3}\n'
    with pytest.raises(ValueError, match=message):
        read_examples(write(tmp_path, control + line, "own.jsonl"))
    assert read_examples(write(tmp_path, control, "own.jsonl")) == [("p", "q")]
