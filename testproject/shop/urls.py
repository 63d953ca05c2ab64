"""The addresses of the pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

app_name = "shop"

urlpatterns = [
    path("", views.HomeView.as_view(), name="home"),
    path("orders/<uuid:ticket>/", views.order, name="order"),
    path("tunnel/", views.tunnel, name="tunnel"),
    path("tunnel/order/", views.tunnel_order, name="tunnel-order"),
    path("tunnel/reception/", views.reception, name="reception"),
    path("tunnel/reset/", views.reset, name="reset"),
    path("login/", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
