"""Durable runs: accepted in one transaction, driven under a lease, resumed after any crash."""

from rotina.runs.checkpointer import PostgresCheckpointer
from rotina.runs.driver import Driver, Outcome
from rotina.runs.effects import Effects
from rotina.runs.lease import Fence, WorkerLease
from rotina.runs.run import TERMINAL, ModelCallRow, Run, RunEvent, RunState, RunSummary
from rotina.runs.store import Accepted, RunStore, Upload
from rotina.runs.sweeper import Hint, Sweep, sweep
from rotina.runs.workflow import FileReference, Queue, Registry, Workflow

__all__ = [
    "TERMINAL",
    "Accepted",
    "Driver",
    "Effects",
    "Fence",
    "FileReference",
    "Hint",
    "ModelCallRow",
    "Outcome",
    "PostgresCheckpointer",
    "Queue",
    "Registry",
    "Run",
    "RunEvent",
    "RunState",
    "RunStore",
    "RunSummary",
    "Sweep",
    "Upload",
    "WorkerLease",
    "Workflow",
    "sweep",
]
