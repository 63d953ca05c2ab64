"""What would go wrong in a request is reported by ``manage.py check``."""

from . import caches, databases, settings, views

__all__ = ["caches", "databases", "settings", "views"]
