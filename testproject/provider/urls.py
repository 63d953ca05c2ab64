"""The provider's addresses."""

from django.urls import path

from . import views
from .services import Service

urlpatterns = [
    *(path(service.value, views.counter, {"service": service}) for service in Service),
    path("ledger", views.ledger),
    path("calls", views.calls),
    path("mood", views.mood),
    path("hurry", views.hurry),
    path("reset", views.reset),
]
