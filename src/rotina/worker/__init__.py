"""The Celery binding: app factory, tasks, one event loop a process, sweeper, client."""

from rotina.worker.app import create_app, tell_queue
from rotina.worker.client import Client

__all__ = ["Client", "create_app", "tell_queue"]
