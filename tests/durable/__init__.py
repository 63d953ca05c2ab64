"""Operations of several steps that must not get lost: the shop's delivery, cut off everywhere.

The shop and its partners are real processes, and what is counted is what stands in the shop's
tables and in its partners' ledger. ``python -m tests.durable --database postgresql`` runs all of
it; these tests have settings of their own, so the other suites leave them out.
"""
