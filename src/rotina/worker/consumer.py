"""Celery's consumer, which outlives what its transport raises while a lost connection is closed."""

import logging
import time

from celery.bootsteps import CLOSE, TERMINATE
from celery.worker.consumer import Consumer as CeleryConsumer

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Begins again where Celery's own would end the worker.

    kombu 5.7 closes a Redis channel whose connection it has forgotten already and raises
    AttributeError, which is no connection error to Celery. It happens when a broker is killed
    while the worker holds messages.
    """

    def start(self) -> None:
        """Consume until the worker stops."""
        while True:
            try:
                super().start()
            except AttributeError:
                if self.blueprint.state in {CLOSE, TERMINATE}:
                    raise
                logger.exception("the consumer's connection did not close in order: begun again")
                self.connection = None
                time.sleep(PAUSE_SECONDS)
            else:
                return
