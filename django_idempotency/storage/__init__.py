"""The tables: the package's own SQL in each database's dialect, and what runs it."""
