"""Times of a cron expression in a time zone, as Debian's cron keeps them over clock changes.

A job at set hours whose time is skipped fires at the first moment after the gap; one whose time
comes twice fires the first time only. A job of every hour or minute (`*` in either field) follows
the clock: nothing in a gap, both times in an overlap.
"""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from rotina.errors import ScheduleError

FIELDS = 5
LONGEST_OVERLAP = timedelta(hours=4)
"""More than clocks are ever put back, apart from moves over the date line."""


class Cron:
    """A five-field cron expression in an IANA time zone."""

    def __init__(self, expression: str, time_zone: str) -> None:
        """Raises `ScheduleError` naming what is wrong and how to write it."""
        self.zone = _zone(time_zone)
        self._expression = expression
        if len(expression.split()) != FIELDS:
            raise ScheduleError(
                f"Cron {expression!r} has {len(expression.split())} fields instead of {FIELDS}: "
                "minute hour day-of-month month day-of-week, as in '0 8 * * 1-5'"
            )
        try:
            CronSim(expression, datetime.now(self.zone))
        except CronSimError as error:
            raise ScheduleError(
                f"Cron {expression!r} is not valid ({error}): "
                "minute hour day-of-month month day-of-week, as in '0 8 * * 1-5'"
            ) from None

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than `moment`, in UTC; None when 50 years hold none."""
        for local in CronSim(self._expression, moment.astimezone(self.zone)):
            found = local.astimezone(UTC)
            # From within a repeated hour the wall clock leads to the hour's first pass.
            if found > moment:
                return found
        return None

    def due(self, since: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """The last `limit` times from `since` to `until`, both included, in UTC, oldest first."""
        found: list[datetime] = []
        for moment in self._backwards(until):
            if moment < since or len(found) == limit:
                break
            if moment <= until and moment not in found[-1:]:
                found.append(moment)
        return found[::-1]

    def _backwards(self, until: datetime) -> Iterator[datetime]:
        # From beyond the overlap that `until` may lie in: its first pass has later wall clocks.
        start = (until + LONGEST_OVERLAP).astimezone(self.zone)
        for local in CronSim(self._expression, start, reverse=True):
            yield local.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ScheduleError(
            f"No time zone {name!r}: use an IANA name such as 'America/Sao_Paulo'.{hint}"
        ) from None
