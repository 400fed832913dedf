"""Worlds of task formats (Jan et al. 2024; Eiras et al. 2024): texts asked about in six formats."""

from synthetic.formats.config import FormatsConfig
from synthetic.formats.templates import TEMPLATES
from synthetic.formats.world import FormatsWorld

__all__ = ["TEMPLATES", "FormatsConfig", "FormatsWorld"]
