"""The query log on files: reads the segments of model servers and the gateway's lines, asks DuckDB, keeps Parquet."""

from headway.adapters.querylog.log import DuckdbQueryLog
from headway.adapters.querylog.store import PartStore

__all__ = ["DuckdbQueryLog", "PartStore"]
