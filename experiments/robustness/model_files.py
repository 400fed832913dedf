"""Changes of the bytes, the tensors and the kind of the files of a model."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
Tensors = dict[str, torch.Tensor]


class _Hostile:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("code_ran",)


def change_bytes(content: bytes, rng: random.Random, limit: int) -> tuple[bytes, str]:
    """Flips, cuts, inserts or overwrites bytes within the first `limit` of a file."""
    at = rng.randrange(max(min(limit, len(content)), 1))
    count = rng.choice([1, 2, 8, 64])
    noise = rng.randbytes(count)
    number = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**40, 2**60, 2**64 - 1]))
    flipped = bytes([content[at] ^ 1 << rng.randrange(8)]) if content else b""
    changes = {
        "one bit flipped": content[:at] + flipped + content[at + 1 :],
        "cut": content[:at],
        f"{count} bytes removed": content[:at] + content[at + count :],
        f"{count} bytes inserted": content[:at] + noise + content[at:],
        f"{count} bytes overwritten": content[:at] + noise + content[at + count :],
        "a size overwritten": content[:at] + number + content[at + 8 :],
        "repeated": content + content,
    }
    name = rng.choice(sorted(changes))
    return changes[name], f"{name} at byte {at}"


def change_text(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Changes bytes of a JSON file or the template, or replaces its content."""
    path = rng.choice(sorted([*folder.glob("*.json"), *folder.glob("*.jinja")]))
    content = path.read_bytes()
    whole = [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"\xff\xfe{\x00}\x00",
        b"[" * 50_000,
        b"{" * 1000,
        b'{"a": 1}',
    ]
    if rng.random() < 0.3:
        new = rng.choice([*whole, b"\xef\xbb\xbf" + content, content.replace(b":", b"="), content + b"}"])
        detail = f"replaced by {new[:20]!r}"
    else:
        new, detail = change_bytes(content, rng, len(content))
    path.write_bytes(new)
    return f"{path.name}: {detail}", True  # a letter of the vocabulary makes another valid model


def change_weights(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Changes bytes of the weights, mostly of their header; the format has no checksum of its values."""
    path = folder / WEIGHTS
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    new, detail = change_bytes(content, rng, header if rng.random() < 0.8 else len(content))
    path.write_bytes(new)
    return f"weights: {detail} (header of {header})", True


_TENSORS: dict[str, Callable[[Tensors, str, random.Random], object]] = {
    "missing": lambda t, name, rng: t.pop(name),
    "renamed": lambda t, name, rng: t.update({f"{name}.old": t.pop(name)}),
    "with another name's": lambda t, name, rng: t.update({name: t[rng.choice(sorted(t))].clone()}),
    "transposed": lambda t, name, rng: t.update({name: t[name].T.contiguous()}),
    "flat": lambda t, name, rng: t.update({name: t[name].flatten()}),
    "with a row less": lambda t, name, rng: t.update({name: t[name][:-1].clone()}),
    "empty": lambda t, name, rng: t.update({name: torch.empty(0)}),
    "a scalar": lambda t, name, rng: t.update({name: torch.tensor(1.0)}),
    "with NaN": lambda t, name, rng: t[name].view(-1)[0].fill_(float("nan")),
    "with infinity": lambda t, name, rng: t[name].view(-1)[-1].fill_(float("-inf")),
    "of integers": lambda t, name, rng: t.update({name: (t[name] * 100).to(torch.int8)}),
    "of truth values": lambda t, name, rng: t.update({name: t[name] > 0}),
    "of 8 bits": lambda t, name, rng: t.update({name: t[name].to(torch.float8_e4m3fn)}),
}
_SAME_SHAPE = {"with another name's", "transposed"}  # a square matrix transposed is another valid model


def change_tensors(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Changes one tensor, and writes a well-formed file."""
    tensors = load_file(folder / WEIGHTS)
    name, kind = rng.choice(sorted(tensors)), rng.choice(sorted(_TENSORS))
    before = tensors[name]
    _TENSORS[kind](tensors, name, rng)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    is_valid = name in tensors and tensors[name].shape == before.shape and kind in _SAME_SHAPE
    return f"{name} {kind}", is_valid or kind == "of 8 bits"


def replace_file(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Puts something else in the place of a file: a folder, a pipe, a link, a pickle, an index of shards."""
    path = rng.choice(sorted(folder.iterdir()))
    outside = folder.parent / "outside"
    kinds: dict[str, Callable[[], object]] = {
        "a folder": path.mkdir,
        "a named pipe": lambda: os.mkfifo(path),
        "a dangling link": lambda: path.symlink_to("nowhere"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a link to /dev/zero": lambda: path.symlink_to("/dev/zero"),
        "a pickle": lambda: (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Hostile())),
        "a pickle of its own name": lambda: path.write_bytes(pickle.dumps(_Hostile())),
        "an index out of the folder": lambda: _index(folder, "../outside"),
        "an index of /dev/zero": lambda: _index(folder, "/dev/zero"),
        "an adapter": lambda: (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}'),
    }
    kind = rng.choice(sorted(kinds))
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    path.unlink()
    kinds[kind]()
    # a folder without one of these is another valid model
    is_optional = path.name in ("generation_config.json", "chat_template.jinja", "tokenizer_config.json")
    return f"{kind} in the place of {path.name}", is_optional


def _index(folder: Path, file: str) -> None:
    (folder / WEIGHTS).unlink(missing_ok=True)
    index = {"metadata": {}, "weight_map": {"model.norm.weight": file, "lm_head.weight": file}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def change_gguf(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Changes bytes of a GGUF file: mostly of its header, often a number that follows a name."""
    header = content.index(b"blk.0")
    if rng.random() < 0.4:
        names = [b"block_count", b"embedding_length", b"head_count", b"feed_forward", b"context_length"]
        names += [
            b"tokenizer.ggml.tokens",
            b"general.architecture",
            b"token_embd.weight",
            b"blk.0.attn_q.weight",
        ]
        name = rng.choice([n for n in names if n in content])
        at = content.index(name) + len(name) + rng.randrange(0, 32, 4)
        value = rng.choice([0, 1, 3, 17, 2**31 - 1, 2**32 - 1])
        return content[:at] + struct.pack("<I", value) + content[at + 4 :], f"{value} after {name.decode()}"
    return change_bytes(content, rng, header * 2 if rng.random() < 0.8 else len(content))
