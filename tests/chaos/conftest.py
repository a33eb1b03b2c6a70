"""The fixtures of the acceptance tests."""

from tests.acceptance.conftest import processes, scripted

__all__ = ["processes", "scripted"]
