"""State in SQL: deployments, versions, events and tokens in one database, saved in one transaction.

SQLite is what is supported now; see ``docs/explanation/state.md``.
"""

from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.deployment_store import SqlDeploymentStore
from headway.adapters.sql.event_log import SqlEventLog
from headway.adapters.sql.token_store import SqlTokenStore

__all__ = ["SqlDatabase", "SqlDeploymentStore", "SqlEventLog", "SqlTokenStore"]
