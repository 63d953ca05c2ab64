"""The hammer: clients that retry, against a site where everything breaks, and a checker.

``python -m tests.chaos --seconds 60 --seed 1 --database postgresql`` lets client processes talk to
gunicorn while workers are killed and frozen, connections are cut and the database is restarted. All
that was sent and answered is written down; :mod:`.checker` reads it afterwards, beside what stands
in the database, and decides whether every promise was kept.
"""
