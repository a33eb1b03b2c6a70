"""Cron over clock changes: gaps, overlaps, and what a restart in the middle of one sees."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from rotina.errors import ScheduleError
from rotina.triggers import Cron

SAO_PAULO, NEW_YORK, LISBON = "America/Sao_Paulo", "America/New_York", "Europe/Lisbon"


def local(zone: str, text: str) -> datetime:
    """`2018-11-04 01:00-02:00` as an instant, whatever the zone says about it."""
    return datetime.fromisoformat(text).astimezone(ZoneInfo(zone))


def times(expression: str, zone: str, since: str, count: int) -> list[str]:
    cron, moment, found = Cron(expression, zone), local(zone, since), []
    for _ in range(count):
        following = cron.after(moment)
        assert following is not None
        moment = following
        found.append(moment.astimezone(ZoneInfo(zone)).isoformat(" ", "minutes"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "since", "expected"),
    [
        # Midnight did not exist: the first moment after the gap.
        ("0 0 * * *", SAO_PAULO, "2018-11-03 12:00-03:00",
         ["2018-11-04 01:00-02:00", "2018-11-05 00:00-02:00"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07 12:00-05:00",
         ["2026-03-08 03:00-04:00", "2026-03-09 02:30-04:00"]),
        ("30 1 * * *", LISBON, "2026-03-28 12:00+00:00",
         ["2026-03-29 02:00+01:00", "2026-03-30 01:30+01:00"]),
        # Two times in the gap are one.
        ("0,30 2 * * *", NEW_YORK, "2026-03-07 12:00-05:00",
         ["2026-03-08 03:00-04:00", "2026-03-09 02:00-04:00"]),
        # The hour came twice: the first pass only.
        ("30 23 * * *", SAO_PAULO, "2019-02-15 23:30-02:00",
         ["2019-02-16 23:30-02:00", "2019-02-17 23:30-03:00"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31 12:00-04:00",
         ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]),
        ("30 1 * * *", LISBON, "2026-10-24 12:00+01:00",
         ["2026-10-25 01:30+01:00", "2026-10-26 01:30+00:00"]),
        # Every hour follows the clock: none in the gap, both in the overlap.
        ("0 * * * *", NEW_YORK, "2026-03-08 00:30-05:00",
         ["2026-03-08 01:00-05:00", "2026-03-08 03:00-04:00"]),
        ("0 * * * *", NEW_YORK, "2026-11-01 00:30-04:00",
         ["2026-11-01 01:00-04:00", "2026-11-01 01:00-05:00", "2026-11-01 02:00-05:00"]),
        # São Paulo has had no daylight saving time since 2019.
        ("0 8 * * 1-5", SAO_PAULO, "2026-11-06 12:00-03:00",
         ["2026-11-09 08:00-03:00", "2026-11-10 08:00-03:00"]),
    ],
)  # fmt: skip
def test_times_over_a_clock_change(
    expression: str, zone: str, since: str, expected: list[str]
) -> None:
    assert times(expression, zone, since, len(expected)) == expected


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        (SAO_PAULO, "2018-11-03 00:00-03:00"),
        (SAO_PAULO, "2019-02-16 00:00-02:00"),
        (NEW_YORK, "2026-03-07 00:00-05:00"),
        (NEW_YORK, "2026-10-31 00:00-04:00"),
        (LISBON, "2026-03-28 00:00+00:00"),
        (LISBON, "2026-10-24 00:00+01:00"),
        ("Australia/Lord_Howe", "2026-04-04 00:00+11:00"),
    ],
)
@pytest.mark.parametrize(
    "expression",
    ["0 0 * * *", "30 1 * * *", "59 23 * * *", "15,45 1,2 * * *", "0 * * * *", "*/20 * * * *"],
)
def test_it_does_not_matter_when_one_looks(expression: str, zone: str, start: str) -> None:
    """From any minute on: the same next time, and the same times looked back at."""
    cron, begin = Cron(expression, zone), local(zone, start)
    known = [begin]
    while known[-1] < begin + timedelta(days=3):
        following = cron.after(known[-1])
        assert following is not None
        known.append(following)
    known = known[1:]
    for minutes in range(7, 2 * 24 * 60, 29):
        moment = begin + timedelta(minutes=minutes)
        assert cron.after(moment) == next(one for one in known if one > moment)
        passed = [one for one in known if one <= moment]
        since = begin + timedelta(minutes=1)
        assert cron.due(since, moment, limit=1000) == [one for one in passed if one >= since]
        assert cron.due(since, moment, limit=1) == [one for one in passed if one >= since][-1:]


def test_both_ends_count() -> None:
    cron = Cron("*/5 * * * *", "UTC")
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
    assert [one.minute for one in cron.due(since, until, limit=9)] == [0, 5, 10]
    assert [one.minute for one in cron.due(since, until, limit=2)] == [5, 10]


def test_a_day_that_never_comes() -> None:
    assert Cron("0 0 */20 * 1L", "UTC").after(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("expression", "zone", "told"),
    [
        ("0 8 * *", "UTC", r"'0 8 \* \*' has 4 fields instead of 5: minute hour"),
        ("0 0 8 * * *", "UTC", "has 6 fields instead of 5"),
        ("", "UTC", "has 0 fields"),
        ("61 8 * * *", "UTC", r"'61 8 \* \* \*' is not valid \(Bad minute\): minute hour"),
        ("@daily", "UTC", "has 1 fields"),
        ("0 8 * * *", "America/Sao_Paolo", "'America/Sao_Paolo'.*Did you mean 'America/Sao_Paulo'"),
        ("0 8 * * *", "../etc/passwd", "No time zone '../etc/passwd': use an IANA name"),
        ("0 8 * * *", "America", "No time zone 'America'"),
        ("0 8 * * *", "", "No time zone ''"),
    ],
)
def test_what_is_wrong_is_named(expression: str, zone: str, told: str) -> None:
    with pytest.raises(ScheduleError, match=told):
        Cron(expression, zone)
