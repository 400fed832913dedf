"""Writes src/makebreak/plots/vega.min.js: the JavaScript that draws the charts of a page, offline.

Run `python dev/chart_script.py` after a change of the version of Altair; a test holds the file to the version
of Vega-Lite that Altair writes. It needs `pip install vl-convert-python`, which the package itself does not:
that library is 88 MB, runs the JavaScript engine V8, and ends its process where the address space is limited
(`ulimit -v`).
"""

from __future__ import annotations

import altair as alt
import vl_convert

from makebreak.plots.interactive import SCRIPT, script_header

if __name__ == "__main__":
    version = ".".join(alt.VEGALITE_VERSION.split(".")[:2])
    SCRIPT.write_text(script_header() + vl_convert.javascript_bundle(None, version), encoding="utf-8")
