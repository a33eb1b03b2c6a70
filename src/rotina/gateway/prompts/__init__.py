"""Prompts as files with versions, variables that are checked, and a live version that can be split.

prompts/greeting/v1.md      a version
prompts/greeting/v2.md
prompts/greeting/v2.pt.md   the same version in Portuguese
prompts/greeting/live.toml  which version is live
"""

from rotina.gateway.prompts.live import Live
from rotina.gateway.prompts.registry import Prompts
from rotina.gateway.prompts.template import PromptReference, Rendered, Template

__all__ = ["Live", "PromptReference", "Prompts", "Rendered", "Template"]
