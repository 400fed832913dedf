"""Literal fingerprints of all worlds, which are part of every store key."""

from __future__ import annotations

import pytest

import synthetic

FINGERPRINTS = {
    "mini": "e927027fb071fcc649e9898beb870b3d205bf628259da791acff38642226e681",
    "hidden": "c401658b3feafd183f27c5b77041e0e5292864d60242c954ac87f12249dcabfd",
    "jain2024": "8faecb859b5822517253ec2798056d8daa06f01c04db1792df1360a7406908d9",
    "mini_system": "6c5b2d9b820efa5d6d3de1967ad7342aa60ce27c1e07c39aee736bae770b8945",
    "hidden_system": "8fe713dbefc479926d496af9aa0a5d374ef8c4aa7fcbdd6ad753c68ab38ee337",
    "formats": "ff84715caa7ca811b338837de6e40bb3529642a680a582b07e382ea22ab849db",
    "formats_mini": "e7ebd1129f652c3f0e4a30639555ca49cee0dc2d16e49f74975464f2267f2646",
    "formats_templates": "35c24e168cac285abf0da0d9a52078d345ab3b249fe612ad32bfc4c36c765cfc",
}


@pytest.mark.parametrize("name", [*synthetic.COMPOSITION_CONFIGS, *synthetic.FORMATS_CONFIGS])
def test_fingerprint_is_unchanged(name: str) -> None:
    """A world whose fingerprint changes no longer finds the models that were trained on it."""
    assert synthetic.load(name).fingerprint == FINGERPRINTS[name]
