"""The world outside the shop in one process: a payment provider, a courier and the mail.

It keeps a ledger of its own, honours its own ``Idempotency-Key`` by means of django_idempotency,
and misbehaves when it is told to. The shop knows it by HTTP only.
"""
