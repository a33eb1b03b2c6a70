"""How a text sounds: positive, neutral or negative, in English and Portuguese."""

from agents.sentiment.sentiment import SENTIMENT

__all__ = ["SENTIMENT"]
