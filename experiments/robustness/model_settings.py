"""Changes of the settings, the tokenizer, the template and the code of a model folder."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2.5, -0.0, 10**9, 10**30, -(10**18), 1e300, math.nan, math.inf),
    *("", "x", "3", "../../etc/passwd", "\x00", "\ud800", "a" * 100_000, "{{ 1 }}"),
    *([], [0], [[]], [None], {}, {"a": {}}, {"type": "x"}, [1] * 1000),
)
"""Values of the wrong type, or out of any range."""
_OTHER_MODEL = {
    *("rms_norm_eps", "rope_theta", "rope_parameters", "hidden_act", "tie_word_embeddings", "rope_type"),
    *("attention_bias", "mlp_bias", "initializer_range", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "eos_token_id", "bos_token_id", "pad_token_id", "max_position_embeddings", "dtype"),
}
"""Settings that may make another valid model, whose answers are rightly others."""
_GENERATION: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": ([[40]], [[1, 2]], [[]]),
    "sequence_bias": ([[[40], -10.0]], {"x": 1}),
    "watermarking_config": ({"bias": 2.5}, {}),
    "forced_bos_token_id": (3,),
    "forced_eos_token_id": (1, [1, 2]),
    "max_time": (1e-9, -1),
    "max_length": (1, 10**9),
    "max_new_tokens": (1, 10**9),
    "min_length": (50,),
    "min_new_tokens": (5, 50),
    "penalty_alpha": (0.5,),
    "top_k": (1, 0),
    "top_p": (0.1, 7.0),
    "temperature": (0.0, "hot", 9.0),
    "typical_p": (0.2,),
    "repetition_penalty": (5.0, 0.0),
    "encoder_repetition_penalty": (5.0,),
    "no_repeat_ngram_size": (1,),
    "encoder_no_repeat_ngram_size": (1,),
    "do_sample": (True,),
    "num_beams": (4, 0),
    "num_beam_groups": (2,),
    "diversity_penalty": (1.0,),
    "num_return_sequences": (3,),
    "prompt_lookup_num_tokens": (3,),
    "assistant_early_exit": (1,),
    "dola_layers": ("high",),
    "guidance_scale": (5.0,),
    "renormalize_logits": (True,),
    "remove_invalid_values": (True,),
    "suppress_tokens": (list(range(40)),),
    "begin_suppress_tokens": (list(range(40)),),
    "exponential_decay_length_penalty": ([1, 2.0],),
    "stop_strings": (["a"], "a"),
    "stop_words": (["I"],),
    "cache_implementation": ("static", "offloaded", "evil"),
    "use_cache": (False,),
    "custom_generate": ("evil/generate",),
    "compile_config": ({"backend": "evil"},),
    "token_healing": (True,),
    "output_scores": (True,),
    "return_dict_in_generate": (True,),
    "trust_remote_code": (True,),
}
_CODE = "from pathlib import Path\nPath('code_ran').touch()\nclass C: pass\nM = T = C\n"
_FRAGMENTS = (
    *("{{ '{}' * {n} }}", "{% for i in range({n}) %}{{ i }}{% endfor %}", "{{ 9 ** ({n} ** 3) }}"),
    *("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ self.__init__.__globals__ }}", "{{ cycler }}"),
    *("{{ lipsum.__globals__.os.system('touch code_ran') }}", "{{ messages.__class__ }}", "{{ x.y.z }}"),
    *("{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends 'x' %}", "{{ 1 / 0 }}"),
    *("{{ [0] * {n} | length }}", "{{ 'x' | center({n}) }}", "{{ messages | sort | join({n}) }}"),
    *("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "{% set x = 'a' * {n} %}{{ x | length }}"),
    *("{{ raise_exception('no') }}", "{{ strftime_now('%Y') }}", "{{ range({n}) | sum }}", "{% break %}"),
    *("{{ messages[{n}] }}", "{{ messages[0]['content'][{n}] }}", "{{ '%{n}d' | format(1) }}", "{% if %}"),
    *("{{ ('a' * {n}) | upper | lower | replace('a', 'bb') }}", "{{ joiner() }}", "{# {n} ", "}}", "{%"),
    *("{% for a in range({n}) %}{% for b in range({n}) %}{% endfor %}{% endfor %}", "{{ dict }}", ""),
    *("{{ '(a+)+$' | list | length * {n} }}", "{{ messages | tojson }}", "{{ messages | attr('append') }}"),
    *(
        "{{ namespace(a={n}).a }}",
        "{% generation %}x{% endgeneration %}",
        "\u202e",
        "\x00",
        "{{ '\\ud800' }}",
    ),
)


def change_setting(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Gives a setting of config.json, or of a mapping in it, an odd value, or removes or adds one."""
    config = _read(folder / "config.json")
    container, key = rng.choice(_places(config))
    action = rng.random()
    if action < 0.1:
        del container[key]
        detail = f"config.json without {key}"
    elif action < 0.2:
        key = rng.choice(
            ["text_config", "quantization_config", "rope_scaling", "layer_types", "_name_or_path"]
        )
        container[key] = rng.choice(ODD_VALUES)
        detail = f"config.json: {key} = {container[key]!r}"
    else:
        container[key] = rng.choice(ODD_VALUES)
        detail = f"config.json: {key} = {container[key]!r}"
    _write(folder / "config.json", config)
    is_other = key in _OTHER_MODEL or container is not config or key == "rope_scaling"
    return detail[:120], is_other


def change_generation(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Sets one to three of the settings of generation_config.json."""
    path = folder / "generation_config.json"
    settings = _read(path)
    names = rng.sample(sorted(_GENERATION), rng.randint(1, 3))
    changes = {
        name: rng.choice(ODD_VALUES) if rng.random() < 0.2 else rng.choice(_GENERATION[name])
        for name in names
    }
    _write(path, settings | changes)
    return f"generation_config.json: {changes}"[:120], False


def change_tokenizer(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Gives an entry of tokenizer.json or tokenizer_config.json an odd value, or removes it."""
    name = rng.choice(["tokenizer.json", "tokenizer_config.json"])
    settings = _read(folder / name)
    container, key = rng.choice(_places(settings))
    if rng.random() < 0.3:
        del container[key]
        detail = f"{name} without {key}"
    else:
        container[key] = rng.choice(ODD_VALUES)
        detail = f"{name}: {key} = {container[key]!r}"
    _write(folder / name, settings)
    return detail[:120], True  # another vocabulary is another valid model


def change_template(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Puts one to three hostile fragments into the chat template, or replaces it by them."""
    path = folder / "chat_template.jinja"
    fragments = [
        rng.choice(_FRAGMENTS).replace("{n}", str(10 ** rng.randint(1, 12))) for _ in range(rng.randint(1, 3))
    ]
    own = path.read_text()
    texts = {
        "before": "".join(fragments) + own,
        "after": own + "".join(fragments),
        "alone": "".join(fragments),
        "for some requests": own + "{% if 'bombs' in messages[0].content %}" + fragments[0] + "{% endif %}",
    }
    place = rng.choice(sorted(texts))
    path.write_text(texts[place], encoding="utf-8", errors="surrogatepass")
    return f"template, {place}: {' '.join(fragments)}"[:120], True


def add_code(folder: Path, rng: random.Random) -> tuple[str, bool]:
    """Adds Python code that a setting of the folder names."""
    module = rng.choice(["evil", "modeling_evil", "tokenization_evil", "custom_generate/generate"])
    (folder / f"{module}.py").parent.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(_CODE)
    module = module.replace("/", ".")
    name, changes = rng.choice(
        [
            (
                "config.json",
                {"auto_map": {"AutoConfig": f"{module}.C", "AutoModelForCausalLM": f"{module}.M"}},
            ),
            ("config.json", {"model_type": "evil", "auto_map": {"AutoConfig": f"{module}.C"}}),
            ("config.json", {"auto_map": {"AutoModelForCausalLM": f"other/repository--{module}.M"}}),
            ("config.json", {"text_config": {"auto_map": {"AutoConfig": f"{module}.C"}}}),
            ("config.json", {"trust_remote_code": True, "model_type": "evil"}),
            ("config.json", {"architectures": [f"{module}.M"], "custom_pipelines": {"x": {"impl": module}}}),
            ("config.json", {"_attn_implementation": "evil/kernel"}),
            ("config.json", {"quantization_config": {"quant_method": "evil", "modules": module}}),
            ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [f"{module}.T", None]}}),
            (
                "tokenizer_config.json",
                {"tokenizer_class": "EvilTok", "auto_map": {"AutoTokenizer": f"{module}.T"}},
            ),
            ("tokenizer_config.json", {"tokenizer_class": f"{module}.T"}),
            ("generation_config.json", {"custom_generate": ".", "trust_remote_code": True}),
            ("generation_config.json", {"auto_map": {"GenerationConfig": f"{module}.C"}}),
            ("processor_config.json", {"auto_map": {"AutoProcessor": f"{module}.C"}}),
            ("preprocessor_config.json", {"auto_map": {"AutoFeatureExtractor": f"{module}.C"}}),
            ("adapter_config.json", {"auto_mapping": {"parent_library": module, "base_model_class": "M"}}),
        ]
    )
    path = folder / name
    _write(path, (_read(path) if path.exists() else {}) | changes)
    return f"{name}: {changes}"[:120], False


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every entry of nested mappings and lists, at most 40 of one container."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)[:40]
    elif isinstance(value, list):
        keys = list(range(min(len(value), 5)))
    else:
        return []
    places = [(value, key) for key in keys]
    for key in keys:
        places += _places(value[key])
    return places


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
