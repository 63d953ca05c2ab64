"""The fault table: the surroundings of the layer fail, and every promise is kept.

Each module is one line of the table in ``docs/reliability.rst``. The servers, clocks, poolers and
errors are real; a row that does not exist on a database is skipped, and the skip says why.
"""
