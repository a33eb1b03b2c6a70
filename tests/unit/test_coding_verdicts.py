"""Which tests count, and what their report says."""

import pytest

from rotina.graphs.coding import run_tests
from tests.unit.test_coding_sandbox import DOUBLE, ENOUGH, ONE

TEST_CASE = """\
import unittest


class T({base}):
    {decorator}
    {prefix}def test_a(self):
        {body}
"""


def suite(body: str, decorator: str = "", base: str = "unittest.TestCase", prefix: str = "") -> str:
    return TEST_CASE.format(body=body, decorator=decorator or "#", base=base, prefix=prefix)


SUBTESTS = """\
for n in (1, 2):
            with self.subTest(n=n):
                self.assertEqual(double(n), 2)
"""
SET_UP = """\
class TestDouble:
    def setup_method(self):
        self.value = 2

    def test_a(self):
        assert double(self.value) == {}

    async def test_b(self):
        assert double(1) == 2
"""
MANY = "def test_{0}():\n    assert double({0}) == {1}\n"


@pytest.mark.parametrize(
    ("code", "tests", "outcome", "said"),
    [
        (DOUBLE, ONE, "passed", ""),
        (DOUBLE, f"from solution import *\n{ONE}", "passed", ""),
        (DOUBLE, "def test_ação():\n    assert double('é') == 'éé'", "passed", ""),
        (DOUBLE, "assert double(3) == 6", "passed", ""),
        (DOUBLE, "for n in (1, 2):\n    assert double(n) == 2 * n", "passed", ""),
        (DOUBLE, "async def test_a():\n    assert double(1) == 2", "passed", ""),
        (DOUBLE, suite("self.assertEqual(double(1), 2)"), "passed", ""),
        (DOUBLE, f"from unittest import *\n{ONE}", "passed", ""),
        (DOUBLE, SET_UP.format(4), "passed", ""),
        (
            DOUBLE,
            suite(
                "self.assertEqual(double(1), 2)",
                base="unittest.IsolatedAsyncioTestCase",
                prefix="async ",
            ),
            "passed",
            "",
        ),
        (f"if __name__ == '__main__':\n    exit()\n{DOUBLE}", ONE, "passed", ""),
        ("def double(x):\n    return x\n", ONE, "failed", "assert double(2) == 4"),
        (DOUBLE, "assert double(3) == 7", "failed", "AssertionError"),
        (DOUBLE, "async def test_a():\n    assert double(1) == 3", "failed", "AssertionError"),
        (DOUBLE, suite("self.assertEqual(double(1), 3)"), "failed", "2 != 3"),
        (DOUBLE, suite(SUBTESTS), "failed", "4 != 2"),
        (DOUBLE, suite("pass", "@unittest.expectedFailure"), "failed", "expected to fail"),
        (DOUBLE, suite("pass", "setUpClass = lambda: 1 / 0"), "failed", "ZeroDivisionError"),
        (DOUBLE, SET_UP.format(5), "failed", "assert double(self.value) == 5"),
        (DOUBLE, "def test_a():\n    yield\n    assert False", "failed", "yields"),
        (DOUBLE, "def test_a(fixture):\n    pass", "failed", "fixture"),
        (DOUBLE, "def (", "failed", "SyntaxError"),
        (DOUBLE, f"{ONE}\nimport pytest", "failed", "No module named 'pytest'"),
        (DOUBLE, "def test_one():\n    triple(1)", "failed", "triple"),
        ("def double(x:\n", ONE, "error", "SyntaxError"),
        ("import numpy\n", ONE, "error", "No module named 'numpy'"),
        ("raise ValueError('Olá — não')", ONE, "error", "Olá — não"),
        ("'\ud800'", ONE, "error", "UnicodeEncodeError"),
        ("double = 1\x00", ONE, "error", "null bytes"),
        ("(" * 10_000, ONE, "error", ""),
        (DOUBLE, "", "no_tests", ""),
        ("", "", "no_tests", ""),
        (DOUBLE, "def helper():\n    assert False", "no_tests", ""),
        (DOUBLE, suite("pass", "@unittest.skip('later')"), "no_tests", ""),
        (DOUBLE, "if __name__ == '__main__':\n    assert double(1) == 3", "no_tests", ""),
        (f"{DOUBLE}\ndef test_own():\n    pass\n", "", "no_tests", ""),
        (f"{suite('pass')}\n{DOUBLE}", "", "no_tests", ""),
    ],
)
async def test_tests_decide(code: str, tests: str, outcome: str, said: str) -> None:
    report = await run_tests(code, tests, ENOUGH)
    assert report.outcome == outcome, report
    assert said in report.output
    assert report.passed == (outcome == "passed")


async def test_what_fails_is_told_however_many_there_are() -> None:
    good = "\n".join(MANY.format(n, 2 * n) for n in range(300))
    report = await run_tests(DOUBLE, good, ENOUGH)
    assert report.passed
    one_bad = f"{good}\n{MANY.format(999, 1)}"
    report = await run_tests(DOUBLE, one_bad, ENOUGH)
    assert (report.outcome, report.cases[0].name) == ("failed", "test_999")
    bad = "\n".join(f"def test_{n}():\n    raise ValueError('é😀' * 2000)\n" for n in range(300))
    report = await run_tests(DOUBLE, bad, ENOUGH)
    assert report.outcome == "failed"
    assert len(report.output) < 60_000
