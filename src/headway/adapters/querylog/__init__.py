"""The query log on files: reads the segments of model servers and the gateway's lines, asks DuckDB, keeps Parquet."""
