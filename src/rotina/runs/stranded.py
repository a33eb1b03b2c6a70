"""Runs that nobody's code goes on with: what to look at before and after a deploy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from rotina.database import Pool, load_queries


@dataclass(frozen=True)
class Stranded:
    """Unfinished runs of one workflow that a project's code does not drive."""

    workflow: str
    version: int | None
    """The version they began with; None when the code has no such workflow, and they none yet."""
    runs: int
    known: Sequence[int]
    """The versions that the code drives; none: it has no such workflow."""

    def __str__(self) -> str:
        """What is wrong, and the remedy."""
        some = "1 run" if self.runs == 1 else f"{self.runs} runs"
        if not self.known:
            return (
                f"{some} of {self.workflow!r} cannot go on, this code has no such workflow: keep "
                "workers with the code that has it until they end, or cancel them"
            )
        return (
            f"{some} of {self.workflow!r} began with version {self.version}, with which this code "
            f"(version {self.known[0]}) does not go on: keep workers with the old code until they "
            f"end, add {self.version} to `resumes` if the new graph can, or cancel them"
        )


async def stranded_runs(pool: Pool, versions: Mapping[str, Sequence[int]]) -> list[Stranded]:
    """The unfinished runs, of all tenants, that code with these versions does not drive."""
    sql = load_queries("rotina.runs")["stranded_runs"]
    async with pool.connection() as connection:
        cursor = await connection.execute(sql, {"versions": Jsonb(dict(versions))})
        rows = await cursor.fetchall()
    return [Stranded(**row, known=versions.get(row["workflow"], ())) for row in rows]
