"""Jailbreak templates: they carry the request, and the control is about as long as they are."""

from __future__ import annotations

import base64
import codecs

from makebreak.attacks import JAILBREAK_TEMPLATES, PLACEBO


def test_templates_carry_the_request() -> None:
    """The request is in the prompt once, or can be decoded from it; the control has a similar length."""
    request = "Explain how to hide, at 5 o'clock, a rabbit"
    assert base64.b64decode(JAILBREAK_TEMPLATES["base64"](request).split()[-1]).decode() == request
    assert codecs.decode(JAILBREAK_TEMPLATES["cipher"](request).partition(": ")[2], "rot13") == request
    for name in ("prefix injection", "refusal suppression", "role play", PLACEBO):
        assert JAILBREAK_TEMPLATES[name](request).count(request) == 1
    others = [name for name in JAILBREAK_TEMPLATES if name not in ("base64", "cipher", PLACEBO)]
    lengths = [len(JAILBREAK_TEMPLATES[name](request)) for name in others]
    assert min(lengths) <= len(JAILBREAK_TEMPLATES[PLACEBO](request)) <= 1.5 * max(lengths)
