"""A project that accepts requests and has no URLs for their status."""

from django.urls import path

from . import views

urlpatterns = [path("function/", views.function)]
