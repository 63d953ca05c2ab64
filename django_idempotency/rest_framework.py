"""What a project with Django REST framework needs: the mixin for its views, and a handler."""

from .api_problems import problem_details_handler
from .views import IdempotencyMixin

__all__ = ["IdempotencyMixin", "problem_details_handler"]
