"""The tables: every statement of the package, in each database's SQL."""
