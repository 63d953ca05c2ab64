"""The same shop once for each contestant: what a request costs with its protection, and without.

``benchmarks.sites.settings`` is the site of the contestant that ``BENCHMARK_CONTESTANT`` names, on
the database and the Redis of ``IDEMPOTENCY_TEST_DATABASE`` and ``IDEMPOTENCY_TEST_REDIS``. ``POST
/orders/`` is protected, ``POST /bare/`` is not. ``python -m benchmarks.sites.prepare`` makes the
tables.
"""
