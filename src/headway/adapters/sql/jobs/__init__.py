"""Jobs in SQL: one database, in which a job is the truth and a commit is shared by those who ask at the same time."""

from headway.adapters.sql.jobs.store import SqlJobs

__all__ = ["SqlJobs"]
