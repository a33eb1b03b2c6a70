"""PostgreSQL: the pool, forward-only migrations and named queries."""

from rotina.database.migrations import applied_migrations, migrate, pending_migrations
from rotina.database.pool import Pool, open_pool
from rotina.database.queries import load_queries
from rotina.database.tenant import query_as_tenant, tenant_scope

__all__ = [
    "Pool",
    "applied_migrations",
    "load_queries",
    "migrate",
    "open_pool",
    "pending_migrations",
    "query_as_tenant",
    "tenant_scope",
]
