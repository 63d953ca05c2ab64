"""A small cake shop that is protected by django_idempotency: its site, its API, a demo."""
