"""What a project with Django REST framework needs: the mixin for its view classes."""

from .views import IdempotencyMixin

__all__ = ["IdempotencyMixin"]
