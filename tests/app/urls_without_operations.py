"""A project that accepts requests and has no URLs to ask for them."""

from django.urls import path

from . import views

urlpatterns = [path("function/", views.function)]
