"""The package's SQL as it is sent, one file for each database: written to be read."""
