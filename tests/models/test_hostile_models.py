"""Models of unknown authors: whatever their files say, one line says what is wrong, early."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

import makebreak.models.language as language
from makebreak.errors import InvalidInput
from makebreak.evaluation import generate_texts
from makebreak.models import load_model, open_model
from makebreak.prompts import PromptFormat, text_requests
from makebreak.settings import LoadSettings
from makebreak.store import Store
from tests.activations.networks import network
from tests.fixtures.gguf_models import write_gguf
from tests.fixtures.tiny_lm import byte_level_tokenizer, save_lm, tokenizer

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder, which each test changes a copy of."""
    model = network("llama")
    model.resize_token_embeddings(len(tokenizer()))
    return save_lm(model, tmp_path_factory.mktemp("models") / "good")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def open_and_answer(path: Path | str) -> list[str]:
    """Opens a model as the command line does, with all it needs for an answer."""
    lm = open_model(path, store=Store(Path(path).parent / "store"))
    chat = PromptFormat(template="chat")
    requests = text_requests(
        lm.tokenizer, ["make bombs now", "paint tea now"], family="harmful", unsafe=True, prompt_format=chat
    )
    return generate_texts(lm, requests, n_new=5)


def refuse(path: Path | str, words: str) -> str:
    """The one line of the error, which must contain some words."""
    with pytest.raises(ValueError, match=words) as error:
        open_and_answer(path)
    line = str(error.value)
    assert "\n" not in line
    assert "Traceback" not in line
    assert "; " in line or ": expected" in line, "what was expected, or what to do"
    return line


def merge(folder: Path, name: str, **values: Any) -> None:
    """Changes values of a settings file."""
    path = folder / name
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | values))


SIZES = [
    *[("num_hidden_layers", value) for value in ("3", 2.5, None, True, 0, -1, 200_000, 10**9, [2, 0])],
    *[("num_attention_heads", value) for value in (0, -2, "2", 10**12)],
    *[("num_key_value_heads", value) for value in (0, "1", False)],
    *[("hidden_size", value) for value in (0, None, 10**12, "16", 16.0)],
    *[("vocab_size", value) for value in (0, 10**12, "46", 10_000_000)],
    *[("intermediate_size", value) for value in (None, 10**10, 1_000_000)],
    *[("max_position_embeddings", value) for value in (0, "12", 10**15)],
    *[("rms_norm_eps", value) for value in (0, -1e-6, "1e-6", None, float("nan"), float("inf"))],
    ("num_labels", 10**9),
    *[("rope_parameters", {"rope_type": "default", "rope_theta": value}) for value in (0, float("nan"))],
    ("text_config", {"num_hidden_layers": "3"}),
    ("parts", [{"vocab_size": 0}]),
    ("expert_implementation", "evil/kernel"),
]


@pytest.mark.parametrize(("name", "value"), SIZES)
def test_sizes_and_constants_are_checked_first(
    folder: Path, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file that holds them and their name, before transformers reads the config."""
    merge(folder, "config.json", **{name: value})
    monkeypatch.setattr(language, "AutoConfig", None)
    inner = value[0] if name == "parts" and isinstance(value, list) else value
    name = list(inner)[-1] if isinstance(inner, dict) else name
    assert "AttributeError" not in refuse(folder, f"config.json: .*{name}")
    with pytest.raises(ValueError, match=r"config\.json"):  # our own checkpoints take the same way
        load_model(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"num_attention_heads": 3},
        {"hidden_act": "bogus"},
        {"rope_parameters": {"rope_type": "bogus"}},
        {"dtype": "bogus"},
        {"eos_token_id": "x"},
        {"model_type": "bogus"},
        {"model_type": 5},
        {"pad_token_id": 10**6},
        {"transformers_weights": "../outside.safetensors"},
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        {"hidden_size": 32},
        {"vocab_size": 20},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"head_dim": 1000},
    ],
)
def test_what_transformers_refuses_is_named(folder: Path, values: dict[str, Any]) -> None:
    merge(folder, "config.json", **values)
    assert str(folder) in refuse(folder, "config|weights")


def test_what_transformers_warns_of_is_no_second_line(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A kind of rotary embedding that it does not know is a warning first, then an error."""
    for values, words in (
        ({"rope_parameters": {"rope_type": "{{ 1 }}"}}, "its config describes no model"),
        ({"return_dict": False, "use_return_dict": False}, "no config could be read"),
    ):
        merge(folder, "config.json", **values)
        capfd.readouterr()
        refuse(folder, words)
        assert capfd.readouterr().err == ""


def test_an_encoder_decoder_is_no_causal_language_model(folder: Path) -> None:
    merge(folder, "config.json", is_encoder_decoder=True)
    with pytest.raises(InvalidInput, match="is no causal language model"):
        open_model(folder, store=Store(folder.parent / "store"))


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"3", b"[" * 100_000, b'{"a": 1}']
)
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_settings_that_are_no_settings(folder: Path, name: str, content: bytes) -> None:
    """Every file is named, or at least its folder; an unknown name in two of them is no error."""
    (folder / name).write_bytes(content)
    if content == b'{"a": 1}' and name in ("generation_config.json", "tokenizer_config.json"):
        return
    assert str(folder) in refuse(folder, "expected")


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        refuse(folder, name)
        path.rmdir()
        path.write_bytes(content)
    assert len(open_and_answer(folder)) == 2


@pytest.mark.parametrize(
    "name", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"]
)
@pytest.mark.parametrize("value", ["evil/kernel", "flash_attention_2", "bogus"])
def test_attention_is_chosen_by_us(folder: Path, name: str, value: str) -> None:
    expected = open_and_answer(folder)
    merge(folder, "config.json", **{name: value})
    assert open_and_answer(folder) == expected
    lm = open_model(folder, store=Store(folder.parent / "store"))
    assert lm.model.config._attn_implementation == "sdpa"


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """A change of the tensors of a folder."""

    def apply(folder: Path) -> None:
        values = load_file(folder / "model.safetensors")
        change(values)
        save_file(values, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def weights(content: Callable[[bytes], bytes]) -> Change:
    """A change of the bytes of the weights."""
    return lambda folder: (folder / "model.safetensors").write_bytes(
        content((folder / "model.safetensors").read_bytes())
    )


def index(weight_map: Any, *, shard: str = "one.safetensors") -> Change:
    """The weights in another file, and an index; a map is the file of all tensors, or the whole map."""

    def apply(folder: Path) -> None:
        names = load_file(folder / "model.safetensors")
        shutil.move(folder / "model.safetensors", folder / shard)
        files = dict.fromkeys(names, weight_map) if isinstance(weight_map, str) else weight_map
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": files})
        )

    return apply


class Hostile:
    """What a pickle would run."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("code_ran",)


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))


WEIGHTS: dict[str, tuple[Change, str]] = {
    "empty": (weights(lambda whole: b""), "cannot be read"),
    "one byte": (weights(lambda whole: whole[:1]), "cannot be read"),
    "truncated": (weights(lambda whole: whole[:-50]), "cannot be read"),
    "longer": (weights(lambda whole: whole + bytes(64)), "cannot be read"),
    "huge header": (weights(lambda whole: struct.pack("<Q", 10**18) + whole[8:]), "cannot be read"),
    "header of 95 MB": (weights(lambda whole: struct.pack("<Q", 95 * 10**6) + b"{}"), "cannot be read"),
    "no tensor": (tensors(dict.clear), "hold no tensor"),
    "one missing": (tensors(lambda t: t.pop("model.norm.weight")), "lack tensors.*norm.weight"),
    "a layer missing": (
        tensors(lambda t: [t.pop(k) for k in list(t) if ".layers.1." in k]),
        "lack tensors .*input_layernorm.weight, .*layers.1.* and 6 more",
    ),
    "other shape": (tensors(lambda t: t.update({"model.norm.weight": torch.ones(3)})), "other shapes"),
    "NaN": (
        tensors(lambda t: t["lm_head.weight"].view(-1)[5].fill_(float("nan"))),
        "lm_head.weight holds NaN",
    ),
    "infinity": (
        tensors(lambda t: t["model.norm.weight"].fill_(float("inf"))),
        "norm.weight holds NaN or inf",
    ),
    "integers": (
        tensors(lambda t: t.update({"lm_head.weight": (t["lm_head.weight"] * 100).to(torch.int8)})),
        "lm_head.weight holds numbers of type I8",
    ),
    "truth values": (
        tensors(lambda t: t.update({"model.norm.weight": t["model.norm.weight"] > 0})),
        "norm.weight holds numbers of type BOOL",
    ),
    "a bias without a place": (
        tensors(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(16)})),
        "hold tensors for which its parts have no place .*q_proj.bias",
    ),
    "a scale": (
        tensors(lambda t: t.update({"model.layers.1.mlp.up_proj.weight_scale": torch.ones(1)})),
        "hold tensors for which its parts have no place .*weight_scale",
    ),
    "an adapter within": (
        tensors(lambda t: t.update({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 16)})),
        "hold tensors for which its parts have no place .*lora_A",
    ),
    "pickle": (pickle_only, "pickle, which is never opened"),
    "outside": (index("../model/one.safetensors"), "expected the name of a file of the folder"),
    "absolute": (index("/dev/zero"), "expected the name of a file of the folder"),
    "absent": (index("two.safetensors"), "two.safetensors is missing"),
    "number": (index({"lm_head.weight": 5}), "expected the name of a file of the folder"),
    "null map": (index(None), "has no weight_map"),
    "not there": (index({"nowhere.weight": "one.safetensors"}), "lacks 'nowhere.weight'"),
    "adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "LoRA adapter"),
    "adapter of a hub model": (
        lambda folder: merge(folder, "adapter_config.json", base_model_name_or_path="gpt2", peft_type="LORA"),
        "LoRA adapter",
    ),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_whole_and_those_of_the_config(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No model is ever completed at random, and nothing is printed beside the error."""
    change, words = WEIGHTS[kind]
    change(folder)
    monkeypatch.chdir(folder)
    capfd.readouterr()
    refuse(folder, words)
    assert "REPORT" not in "".join(capfd.readouterr())
    assert not (folder / "code_ran").exists()


def test_missing_tensors_are_seen_before_memory_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass over a model's weights is one without their values."""
    devices, load = [], language.AutoModelForCausalLM.from_pretrained

    def watched(*arguments: Any, **options: Any) -> Any:
        devices.append(options["device_map"])
        return load(*arguments, **options)

    WEIGHTS["one missing"][0](folder)
    monkeypatch.setattr(language.AutoModelForCausalLM, "from_pretrained", watched)
    refuse(folder, "lack tensors")
    assert devices == ["meta"]


def vocabulary(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of tokenizer.json."""

    def apply(folder: Path) -> None:
        path = folder / "tokenizer.json"
        settings = json.loads(path.read_text())
        change(settings)
        path.write_text(json.dumps(settings))

    return apply


TOKENIZERS: dict[str, Change] = {
    "no vocabulary": vocabulary(lambda t: t["model"]["vocab"].clear()),
    "negative id": vocabulary(lambda t: t["model"]["vocab"].update(tea=-1)),
    "id beyond the embeddings": vocabulary(lambda t: t["model"]["vocab"].update(tea=46)),
    "unknown token unknown": vocabulary(lambda t: t["model"].update(unk_token="nope")),
    "unknown model": vocabulary(lambda t: t["model"].update(type="Evil")),
    "special token is an object": lambda folder: merge(folder, "tokenizer_config.json", eos_token={"a": 1}),
    "class of another library": lambda folder: merge(
        folder, "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer"
    ),
    "absent": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers(folder: Path, kind: str) -> None:
    TOKENIZERS[kind](folder)
    assert str(folder) in refuse(folder, "token")


def test_a_panic_of_a_tokenizer_is_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A regular expression that never ends makes the library in Rust panic, which is no `Exception`."""
    endless = {"Regex": "(([a-z])+.)+[A-Z]([a-z])+$"}
    split = {"type": "Split", "pattern": endless, "behavior": "Isolated", "invert": False}
    vocabulary(lambda t: t.update(pre_tokenizer=split))(folder)
    capfd.readouterr()
    refuse(folder, "token.*PanicException")
    assert capfd.readouterr().err == ""


GENERATION = {
    "bad_words_ids": [[40]],
    "sequence_bias": [[[40], -10.0]],
    "watermarking_config": {"bias": 2.5},
    "forced_eos_token_id": 1,
    "max_time": 1e-9,
    "penalty_alpha": 0.5,
    "prompt_lookup_num_tokens": 3,
    "num_return_sequences": 3,
    "num_beams": 4,
    "exponential_decay_length_penalty": [1, 2.0],
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(40)),
    "begin_suppress_tokens": list(range(40)),
    "min_new_tokens": 5,
    "max_new_tokens": 1,
    "cache_implementation": "static",
    "custom_generate": "evil/generate",
    "temperature": "hot",
}


@pytest.mark.parametrize("name", GENERATION)
def test_generation_is_greedy_whatever_the_folder_says(folder: Path, name: str) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    expected = open_and_answer(folder)
    merge(folder, "generation_config.json", **{name: GENERATION[name]})
    assert open_and_answer(folder) == expected


def test_the_end_of_an_answer_is_that_of_the_generation_config(folder: Path) -> None:
    """One id or several, as chat models have them; anything else is refused."""
    lm = open_model(folder, store=Store(folder.parent / "store"))
    first = lm.tokenizer(open_and_answer(folder)[0].split()[0])["input_ids"][0]
    for ids in (first, [1, first]):
        merge(folder, "generation_config.json", eos_token_id=ids)
        assert len(open_and_answer(folder)[0].split()) <= 1
    for ids in ("x", 1.5, -1, [], [None], True, 10**30):
        merge(folder, "generation_config.json", eos_token_id=ids)
        refuse(folder, "eos_token_id")
    merge(folder, "generation_config.json", eos_token_id=1, pad_token_id=[1, 2])
    refuse(folder, "pad_token_id")


def test_texts_of_the_generation_config_end_an_answer(folder: Path) -> None:
    """An answer is the greedy one up to the first of them; what is no text is refused."""
    [whole, *others] = open_and_answer(folder)
    word = whole.split()[1]
    for strings in ([word], word, ["never", word]):
        merge(folder, "generation_config.json", stop_strings=strings)
        answers = open_and_answer(folder)
        assert answers == [answer.partition(word)[0] for answer in (whole, *others)]
    for strings in (1, [""], [None], {"a": 1}):
        merge(folder, "generation_config.json", stop_strings=strings)
        refuse(folder, "stop_strings")
    merge(folder, "generation_config.json", stop_strings=[])
    assert open_and_answer(folder) == [whole, *others]


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "a/b/c",
        "owner/..",
        "../x",
        "./x",
        "owner/x.gguf",
        "-o/x",
        "ö/x",
        "a b/c",
        "",
        " ",
        "a\0b",
        "/x/y",
    ],
)
def test_only_a_name_of_the_shape_of_a_hub_id_asks_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(language, "reach_hub", lambda *_: pytest.fail("asks the hub"))
    with pytest.raises(InvalidInput, match="expected a folder, a GGUF file or a Hub id") as error:
        open_model(name, store=Store(tmp_path / "store"))
    assert "\n" not in str(error.value)


def test_a_hub_id_asks_for_its_config_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code of a hub model is refused by name, before anything else is read."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}))
    monkeypatch.setattr(language, "reach_hub", lambda _: None)
    monkeypatch.setattr(language, "cached_file", lambda *_, **__: str(config))
    with pytest.raises(InvalidInput, match="has auto_map"):
        open_model("owner/name-1.5_b", store=Store(tmp_path / "store"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_missing_folder_has_both_readings(
    exists: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name such as models/x is a path and a hub id; the Hub is not asked where models is a folder."""

    asked = []

    def fail(url: str) -> None:
        asked.append(url)
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        raise OSError(f"cannot reach\n{url}")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / "models").mkdir()
    with pytest.raises(InvalidInput, match=r"^no folder models/x, and no Hub model models/x") as error:
        open_model("models/x", store=Store(tmp_path / "store"))
    assert "\n" not in str(error.value)
    assert ("since models exists here" in str(error.value)) == exists
    assert ("OSError: cannot reach" in str(error.value)) != exists
    assert len(asked) == (not exists)  # once, not six times as a download would
    assert not caplog.records


def test_other_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    refuse(tmp_path / "pipe.gguf", "neither a folder nor a file")
    refuse(tmp_path / "folder.gguf", "has no config.json")


@cache
def gguf_bytes() -> bytes:
    """A whole GGUF file."""
    model, words = network("qwen2"), byte_level_tokenizer()
    model.resize_token_embeddings(len(words))
    model.config.max_position_embeddings = 64  # a prompt of bytes and its answer
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"makebreak-test-{os.getpid()}.gguf"
    content = write_gguf(model, words, path).read_bytes()
    path.unlink()
    return content


def place(whole: bytes, name: bytes, skip: int, content: bytes) -> bytes:
    """A file with other bytes so many bytes after a name."""
    at = whole.index(name) + len(name) + skip
    return whole[:at] + content + whole[at + len(content) :]


U32, U64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
GGUF: dict[str, Callable[[bytes], bytes]] = {
    "no tensors": lambda whole: whole[:8] + U64(0) + whole[16:],
    "one tensor less": lambda whole: whole[:8] + U64(struct.unpack("<Q", whole[8:16])[0] - 1) + whole[16:],
    "2^60 tensors": lambda whole: whole[:8] + U64(2**60) + whole[16:],
    "2^60 settings": lambda whole: whole[:16] + U64(2**60) + whole[24:],
    **{f"first {n}": lambda whole, n=n: whole[:n] for n in (0, 3, 4, 8, 67, 676, 6761, 33808, 67516)},
    "another version": lambda whole: whole[:4] + U32(77) + whole[8:],
    "trailing bytes": lambda whole: whole + bytes(4096),
    **{
        f"block_count {n}": lambda whole, n=n: place(whole, b"qwen2.block_count", 4, U32(n))
        for n in (0, 1, 3, 10**9)
    },
    **{
        f"embedding_length {n}": lambda whole, n=n: place(whole, b"embedding_length", 4, U32(n))
        for n in (0, 17, 10**9)
    },
    **{
        f"rope.freq_base {base}": lambda whole, base=base: place(
            whole, b"rope.freq_base", 4, struct.pack("<f", base)
        )
        for base in (0.0, -1.0, math.nan, math.inf)
    },
    "head_count 0": lambda whole: place(whole, b"attention.head_count", 4, U32(0)),
    "tokens of 2^60": lambda whole: place(whole, b"tokenizer.ggml.tokens", 8, U64(2**60)),
    "bytes of 2^60": lambda whole: place(whole, b"tokenizer.ggml.tokens", 4, U32(0) + U64(2**60)),
    "name of 2^60": lambda whole: place(whole, b"general.architecture", 4, U64(2**60)),
    "another architecture": lambda whole: place(whole, b"general.architecture", 12, b"qwen9"),
    "2^31 dimensions": lambda whole: place(whole, b"token_embd.weight", 0, U32(2**31)),
    "rows of 2^50": lambda whole: place(whole, b"token_embd.weight", 4, U64(2**50)),
    "unknown type": lambda whole: place(whole, b"token_embd.weight", 20, U32(99)),
    "place beyond the end": lambda whole: place(whole, b"token_embd.weight", 24, U64(2**40)),
    "place of another tensor": lambda whole: place(whole, b"blk.0.attn_q.weight", 24, U64(0)),
}


@pytest.mark.parametrize("kind", GGUF)
def test_gguf_files(tmp_path: Path, kind: str) -> None:
    """Every tensor is where the header says, and every one that the config implies is there."""
    file = tmp_path / "model.gguf"
    file.write_bytes(GGUF[kind](gguf_bytes()))
    assert str(file) in refuse(file, "expected|correct")
    assert not (tmp_path / "store").exists()


def test_good_models_open(folder: Path, tmp_path: Path) -> None:
    """The control: whole files, shards, links as in the cache of the hub, 16 bits, and unknown settings."""
    expected = open_and_answer(folder)
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_bytes())
    assert len(open_and_answer(file)) == 2
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert open_and_answer(linked) == expected
    merge(folder, "config.json", use_cache=True, time_step_limit=[0.0, float("inf")], num_experts=None)
    merge(folder, "config.json", model_max_length=2048, my_own_size="large", quantization_config=None)
    tensors(lambda t: t.update({"model.layers.0.attn.bias": torch.ones(1, 1, 4, 4) > 0}))(folder)
    assert open_and_answer(folder) == expected, "a mask of truth values, as in old checkpoints of GPT-2"
    index("one.safetensors")(folder)
    assert open_and_answer(folder) == expected
    lm = open_model(
        folder, store=Store(tmp_path / "store"), loading=LoadSettings(dtype="bfloat16", device_map="cpu")
    )
    lm.model.save_pretrained(tmp_path / "half")
    lm.tokenizer.save_pretrained(tmp_path / "half")
    assert len(open_and_answer(tmp_path / "half")) == 2
