"""Durable runs: accepted in one transaction, driven under a lease, resumed after any crash."""

from rotina.runs.checkpointer import PostgresCheckpointer
from rotina.runs.children import Child, Children
from rotina.runs.control import Control
from rotina.runs.driver import Attempt, Driver, Outcome
from rotina.runs.effects import Effects, HeldEffect
from rotina.runs.flow import FlowControl
from rotina.runs.following import follow, wait_for_end
from rotina.runs.journal import Journal
from rotina.runs.lease import Claim, Fence, WorkerLease
from rotina.runs.mail import send_mail
from rotina.runs.record import Record, load_record
from rotina.runs.recording import Recording, now, step
from rotina.runs.replay import Divergence, Replay, replay
from rotina.runs.requests import http_request
from rotina.runs.retention import purge
from rotina.runs.review import Review, ReviewStore, review
from rotina.runs.run import TERMINAL, ModelCallRow, Run, RunEvent, RunState, RunSummary
from rotina.runs.store import Accepted, RunStore, Upload
from rotina.runs.stranded import Stranded, stranded_runs
from rotina.runs.sweeper import Sweep, sweep
from rotina.runs.thread import (
    Conversation,
    MessageInput,
    Thread,
    ThreadMessage,
    ThreadStore,
    is_conversational,
    open_conversation,
)
from rotina.runs.waiting import sleep, sleep_until, wait_event
from rotina.runs.workflow import FileReference, Queue, Registry, Tell, Workflow

__all__ = [
    "TERMINAL",
    "Accepted",
    "Attempt",
    "Child",
    "Children",
    "Claim",
    "Control",
    "Conversation",
    "Divergence",
    "Driver",
    "Effects",
    "Fence",
    "FileReference",
    "FlowControl",
    "HeldEffect",
    "Journal",
    "MessageInput",
    "ModelCallRow",
    "Outcome",
    "PostgresCheckpointer",
    "Queue",
    "Record",
    "Recording",
    "Registry",
    "Replay",
    "Review",
    "ReviewStore",
    "Run",
    "RunEvent",
    "RunState",
    "RunStore",
    "RunSummary",
    "Stranded",
    "Sweep",
    "Tell",
    "Thread",
    "ThreadMessage",
    "ThreadStore",
    "Upload",
    "WorkerLease",
    "Workflow",
    "follow",
    "http_request",
    "is_conversational",
    "load_record",
    "now",
    "open_conversation",
    "purge",
    "replay",
    "review",
    "send_mail",
    "sleep",
    "sleep_until",
    "step",
    "stranded_runs",
    "sweep",
    "wait_event",
    "wait_for_end",
]
