"""Completed records in a cache, in front of the database."""
