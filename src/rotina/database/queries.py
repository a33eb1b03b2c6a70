"""Named SQL: one `queries.sql` a package, each query under `-- name:` and a line that says why.

    -- name: claim_run
    -- Take the lease on a run that nobody drives.
    update …

Queries are constants of the package, so psycopg may treat them as literal strings.
"""

import functools
import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)$", re.MULTILINE)


@functools.cache
def load_queries(package: str) -> Mapping[str, LiteralString]:
    """The queries of `package`'s `queries.sql`, by name.

    Raises `ValueError` for a name that occurs twice or a query without a description.
    """
    text = resources.files(package).joinpath("queries.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    queries: dict[str, LiteralString] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        query = body.strip()
        if name in queries:
            raise ValueError(f"{package}/queries.sql: {name!r} is there twice")
        if not query.startswith("-- "):
            raise ValueError(f"{package}/queries.sql: {name!r} has no description")
        queries[name] = cast("LiteralString", query)
    return MappingProxyType(queries)
