"""The Celery app of a deployment.

A message of Rotina's own is a hint to look at PostgreSQL: there may be a run for this queue. Which
run is next is decided there, so that no tenant waits behind another one's ten thousand messages.
A hint may be lost (the sweeper sends another), doubled or late (there is nothing to claim), and
tasks are acknowledged early and never retried by Celery.

`rotina.start` is the exception: any Celery client sends it, and the message is all there is until
its run is committed. It is acknowledged after that, and its key makes a redelivery harmless.
"""

import functools
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from celery import Celery, Task, bootsteps, signals
from celery.exceptions import Reject

from rotina.runs import Queue
from rotina.settings import Settings
from rotina.worker.broker import check_broker
from rotina.worker.runtime import Runtime

logger = logging.getLogger(__name__)

DRIVE = "rotina.drive"
SWEEP = "rotina.sweep"
START = "rotina.start"
BEAT_SECONDS = 10.0
"""Workers sweep by themselves; beat's sweep wakes a worker that has not opened its loop yet."""
OFFER_AGAIN_SECONDS = 2.0
"""How long a message waits in its worker before it goes back to a queue that was not heard."""
ENOUGH = 8
"""Messages in a queue that wake whoever is idle: each of them makes a worker look for runs until it
finds none, so that more would find nothing."""
PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3}


def create_app(settings: Settings) -> Celery:
    """The Celery app with Rotina's tasks, queues `io` and `cpu`, and the sweep on beat.

    Connects to nothing. Raises `SettingsError` when no broker is set.
    """
    app = Celery("rotina", broker=settings.require_redis_url(), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="io",
        task_create_missing_queues=True,
        task_acks_late=False,
        # An io worker claims what it has a thread for; the rest stays in Redis for others.
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_consumer="rotina.worker.consumer:Consumer",
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        # A broker without memory for one more note must not end the worker.
        broker_channel_error_retry=True,
        broker_transport_options={"visibility_timeout": 60, "socket_keepalive": True},
        timezone="UTC",
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": BEAT_SECONDS,
                # A sweep that waited in the queue is pointless: the next one is there already.
                "options": {"expires": BEAT_SECONDS, "queue": "io"},
            }
        },
    )
    runtime = Runtime(settings, functools.partial(tell_queue, app))
    _add_tasks(app, runtime)
    _bind_lifetime(app, runtime, settings)
    return app


def tell_queue(app: Celery, queue: Queue, runs: int = 1) -> bool:
    """Tell a queue that it has so many runs more; False (and a log line) when the broker is away.

    While enough messages wait there, whoever takes one of them finds these runs too. They are safe
    either way: they are committed, and the sweeper looks for what nobody takes.
    """
    try:
        with app.amqp.producer_pool.acquire(block=True) as producer:
            told = producer.channel.client.llen(queue)
            for _ in range(min(runs, ENOUGH - told)):
                app.send_task(
                    DRIVE, args=[queue], queue=queue, producer=producer,
                    retry=True, retry_policy=PUBLISH_RETRIES,
                )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - kombu raises AttributeError too for a lost broker
        logger.warning("queue %s was not told (%r): the sweeper will do it", queue, error)
        return False
    return True


def _add_tasks(app: Celery, runtime: Runtime) -> None:
    @app.task(name=DRIVE)  # type: ignore[untyped-decorator]
    def drive(queue: Queue) -> None:
        try:
            taken = runtime.serve(queue)
        except Exception:
            # The database, mostly: the message is for the time when it is back.
            time.sleep(OFFER_AGAIN_SECONDS)
            tell_queue(app, queue)
            raise
        if not taken:
            tell_queue(app, queue)  # it came before this worker began to drain

    @app.task(name=SWEEP)  # type: ignore[untyped-decorator]
    def sweep() -> None:
        runtime.sweep()

    @app.task(name=START, bind=True, acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
    def start(task: Task, /, *arguments: Any, **fields: Any) -> None:
        if arguments:  # refused with the rest: the fields of a message have names
            fields = {**fields, "arguments": list(arguments)}
        _receive(runtime, task.request.id, fields)


def _receive(runtime: Runtime, task_id: str, fields: dict[str, Any]) -> None:
    """One message; what keeps it from being a run or a refusal gives it back to the queue.

    Not by `Task.retry`: that publishes a second message and drops the first one even where the
    second could not be published.
    """
    try:
        runtime.receive(fields, source="celery", reference=task_id, key=task_id)
    except Exception as error:
        logger.exception("%s %s goes back to the queue", START, task_id)
        time.sleep(OFFER_AGAIN_SECONDS)
        raise Reject(str(error), requeue=True) from error


def _bind_lifetime(app: Celery, runtime: Runtime, settings: Settings) -> None:
    """Check the broker before consuming, drain on SIGTERM, close at the end."""

    again = threading.Event()

    def drain(**_: Any) -> None:
        runtime.drain()

    def close(**_: Any) -> None:
        runtime.close()
        if again.is_set():
            logger.warning("starting again: %s", " ".join(sys.orig_argv))
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606

    def restart() -> None:
        """End as on SIGTERM; `close` then begins anew, under the same process id."""
        again.set()
        os.kill(os.getpid(), signal.SIGTERM)

    class RotinaStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Made before the pool forks or takes tasks; an exception here ends the worker."""

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            if "prefork" not in worker.pool_cls.__module__:
                worker.start_again = restart
            signals.worker_shutting_down.connect(drain, weak=False)
            signals.worker_shutdown.connect(close, weak=False)
            signals.worker_process_shutdown.connect(close, weak=False)

        def start(self, worker: Any) -> None:
            check_broker(settings.require_redis_url())
            if "prefork" not in worker.pool_cls.__module__:
                runtime.many = True
                runtime.open()
                runtime.consume()
                queues = list(worker.app.amqp.queues.consume_from)
                runtime.watch(queues, worker.concurrency, restart)

    app.steps["worker"].add(RotinaStep)
