"""Triggers: schedules and queues. All they do is accept runs, once for each time or message."""

from rotina.triggers.cron import Cron
from rotina.triggers.door import Door, StartMessage
from rotina.triggers.firing import fire_due
from rotina.triggers.rejected import Rejected, RejectedStore
from rotina.triggers.schedule import CatchUp, Fire, Schedule, ScheduleStore
from rotina.triggers.stream import StreamConsumer

__all__ = [
    "CatchUp",
    "Cron",
    "Door",
    "Fire",
    "Rejected",
    "RejectedStore",
    "Schedule",
    "ScheduleStore",
    "StartMessage",
    "StreamConsumer",
    "fire_due",
]
