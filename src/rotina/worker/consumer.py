"""Celery's consumer; where Celery's own would end the worker, it starts the worker again."""

import logging
import time

from celery.exceptions import WorkerShutdown
from celery.worker.consumer import Consumer as CeleryConsumer

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Consumes until the worker stops, whatever its transport raises.

    kombu 5.7 closes a Redis channel whose connection it has forgotten, and raises AttributeError,
    when a broker is killed while the worker holds messages. What is left of the consumer then is
    of no use (its event loop polls closed sockets), so the whole worker begins anew.
    """

    def start(self) -> None:
        """Consume. `RotinaStep` has given the worker its `start_again`."""
        try:
            super().start()
        except Exception:
            start_again = getattr(self.controller, "start_again", None)
            if start_again is None:
                raise
            logger.exception("the consumer is broken: the worker hands its runs back")
            time.sleep(PAUSE_SECONDS)  # what breaks it may still be there
            start_again()
            raise WorkerShutdown(0) from None
