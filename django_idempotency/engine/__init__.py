"""The engine: it admits a request, runs its view in a transaction and settles the record."""
