"""State in SQL: deployments, versions, events, tokens, decisions and plans in one database; what belongs together is
saved in one transaction.

On one machine that is a SQLite file; an operator of a cluster has PostgreSQL. See ``docs/explanation/state.md``.
"""

from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.decision_log import SqlDecisionLog
from headway.adapters.sql.deployment_store import SqlDeploymentStore
from headway.adapters.sql.event_log import SqlEventLog
from headway.adapters.sql.jobs import SqlJobs
from headway.adapters.sql.plan_store import SqlPlanStore
from headway.adapters.sql.postgresql import PostgresqlServer
from headway.adapters.sql.relay_store import SqlRelayStore
from headway.adapters.sql.sighting_store import SqlSightingStore
from headway.adapters.sql.token_store import SqlTokenStore

__all__ = [
    "PostgresqlServer",
    "SqlDatabase",
    "SqlDecisionLog",
    "SqlDeploymentStore",
    "SqlEventLog",
    "SqlJobs",
    "SqlPlanStore",
    "SqlRelayStore",
    "SqlSightingStore",
    "SqlTokenStore",
]
