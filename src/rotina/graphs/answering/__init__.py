"""Answers from passages, every sentence with a citation that code has checked."""

from rotina.graphs.answering.answer import UNKNOWN, Answer, Sentence
from rotina.graphs.answering.answering import Answering
from rotina.graphs.answering.asking import answer
from rotina.graphs.answering.graph import build_answering
from rotina.graphs.answering.retrieving import retrieve
from rotina.graphs.answering.state import AnsweringState

__all__ = [
    "UNKNOWN",
    "Answer",
    "Answering",
    "AnsweringState",
    "Sentence",
    "answer",
    "build_answering",
    "retrieve",
]
