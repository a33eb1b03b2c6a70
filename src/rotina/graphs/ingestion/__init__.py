"""Ingestion: a file in, its chunks in a collection of the knowledge base."""

from rotina.graphs.ingestion.graph import build_ingestion
from rotina.graphs.ingestion.ingestion import Ingested, Ingestion
from rotina.graphs.ingestion.state import IngestionState

__all__ = ["Ingested", "Ingestion", "IngestionState", "build_ingestion"]
