"""A small cake shop that is protected by django_idempotency: a site, its API and a demonstration."""
