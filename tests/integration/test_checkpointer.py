"""The checkpoint saver passes LangGraph's own conformance suite."""

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

from rotina.database import Pool
from rotina.runs import PostgresCheckpointer


async def test_conformance(pool: Pool) -> None:
    @checkpointer_test(name="PostgresCheckpointer")
    async def saver() -> AsyncIterator[PostgresCheckpointer]:
        yield PostgresCheckpointer(pool)

    report = await validate(saver)
    report.print_report()
    assert report.passed_all_base()
