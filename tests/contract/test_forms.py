"""Forms that people fill in: double clicks, errors, and the Back button."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django import forms
from django.db import connections
from django.http import HttpResponse, HttpResponseRedirect
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.generic import CreateView, FormView
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.http.requests import KEY_FIELD
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.views import IdempotencyFormMixin
from tests.app import effects
from tests.app.models import Order

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

PAGE = engines["django"].from_string(
    "{% load idempotency %}<form>{% idempotency_key %}{{ form }}</form>"
)


class CakeForm(forms.ModelForm):  # type: ignore[type-arg]
    """The fields of an order."""

    class Meta:
        model = Order
        fields = ("nonce",)


def place(form: Any) -> HttpResponseRedirect:
    """Place the order, and redirect to its page."""
    order = form.save()
    effects.happened(order.nonce)
    return HttpResponseRedirect(f"/orders/{order.pk}/")


@idempotent(field=KEY_FIELD)
def function(request: Any) -> HttpResponse:
    """A function view that calls ``release()`` for a form with errors."""
    form = CakeForm(request.POST or None)
    if form.is_valid():
        return place(form)
    if request.method == "POST":
        request.idempotency.release()
    return HttpResponse(PAGE.render({"form": form}, request))


class ByTemplate:
    """Renders the forms of the class-based views without a template file."""

    def get_template_names(self) -> list[str]:
        return []

    def render_to_response(self, context: Any, **kwargs: Any) -> TemplateResponse:
        request: Any = vars(self)["request"]
        return TemplateResponse(request, PAGE, context, **kwargs)


class Plain(ByTemplate, FormView):  # type: ignore[type-arg]  # generic in the stubs only
    """Django's FormView without the mixin."""

    form_class = CakeForm

    def form_valid(self, form: Any) -> HttpResponse:
        return place(form)


class Form(IdempotencyFormMixin, Plain):
    """Django's FormView with the mixin."""


class Create(IdempotencyFormMixin, ByTemplate, CreateView):  # type: ignore[type-arg]
    """Django's CreateView."""

    model = Order
    form_class = CakeForm

    def form_valid(self, form: Any) -> HttpResponse:
        return place(form)


@method_decorator(idempotent(field=KEY_FIELD), name="post")
class ByMethod(Plain):
    """The door is on the method."""


@method_decorator(idempotent(field=KEY_FIELD), name="dispatch")
class ByDispatch(Plain):
    """The door is on ``dispatch``."""


@idempotent(field=KEY_FIELD)
class ByClass(Plain):
    """The door is on the class."""


class Several(Plain):
    """Calls ``formset_invalid``, as the views of django-extra-views do."""

    def post(self, *args: Any, **kwargs: Any) -> HttpResponse:
        form = self.get_form()
        return self.form_valid(form) if form.is_valid() else self.formset_invalid(form)

    def formset_invalid(self, form: Any) -> HttpResponse:
        """The page with the errors."""
        return self.render_to_response(self.get_context_data(form=form))


class Strict(Form):
    """Keeps the page with the errors, because its method says so."""

    def form_invalid(self, form: Any) -> HttpResponse:
        vars(self)["request"].idempotency.keep()
        return super().form_invalid(form)


class Search(Form):
    """Orders, and shows a page with other forms that have errors: the next one, and a list."""

    def form_valid(self, form: Any) -> HttpResponse:
        """No redirect: the page after the order."""
        place(form)
        empty = CakeForm({})
        return self.render_to_response({"form": empty, "forms": [empty, CakeForm({})]})


@idempotent(field=KEY_FIELD)
def slow(request: Any) -> HttpResponse:
    """An order that waits until the second click has arrived."""
    CLICKED.wait(5)
    return place(CakeForm(request.POST))


CLICKED = threading.Event()
VIEWS = {
    "function": function,
    "form": Form.as_view(),
    "create": Create.as_view(),
    "by-method": ByMethod.as_view(),
    "by-dispatch": ByDispatch.as_view(),
    "by-class": ByClass.as_view(),
    "around": idempotent(field=KEY_FIELD)(Plain.as_view()),
    "several": idempotent(field=KEY_FIELD)(Several.as_view()),
}
urlpatterns = [
    *(path(f"{name}/", view) for name, view in VIEWS.items()),
    path("slow/", slow),
    path("plain/", Plain.as_view()),
    path("strict/", Strict.as_view()),
    path("search/", Search.as_view()),
]


@pytest.fixture(params=VIEWS)
def url(request: pytest.FixtureRequest) -> str:
    """The URLs of the forms, one after the other."""
    return f"/{request.param}/"


def key_in(response: Any) -> str:
    """The key in a page's form."""
    found = re.search(rf'name="{KEY_FIELD}" value="([^"]+)"', response.content.decode())
    assert found
    return found[1]


def send(url: str, key: str, cake: str = "lemon") -> Any:
    """Send the form as a browser does."""
    return Client().post(url, {KEY_FIELD: key, "nonce": cake})


def test_form_sent_twice_orders_once(url: str) -> None:
    """After a reload or Back, sending again redirects to the first order."""
    key = key_in(Client().get(url))
    first, again = send(url, key), send(url, key)
    assert effects.count() == Order.objects.count() == 1
    assert first.status_code == again.status_code == 302
    assert first["Location"] == again["Location"]


def test_each_page_has_a_key_of_its_own(url: str) -> None:
    """The page with errors and the same fields has a new key, too."""
    page = Client().get(url)
    assert key_in(page) != key_in(Client().get(url))
    assert key_in(send(url, key_in(page), cake="")) != key_in(page)


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
def test_corrected_form_orders(url: str, back: bool) -> None:
    """From the page with the errors, and from the first page after the Back button."""
    page = Client().get(url)
    corrected = send(url, key_in(page), cake="")
    assert corrected.status_code == 200
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    reply = send(url, key_in(page if back else corrected))
    assert effects.count() == Order.objects.count() == 1
    assert reply.status_code == 302


def test_corrected_form_orders_under_the_middleware(settings: Settings) -> None:
    """The view has no door of its own."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY_FIELD = KEY_FIELD
    key = key_in(Client().get("/plain/"))
    assert send("/plain/", key, cake="").status_code == 200
    assert IdempotencyRecord.objects.get().status == Status.RELEASED
    replies = [send("/plain/", key) for _ in range(2)]
    assert effects.count() == Order.objects.count() == 1
    assert [reply.status_code for reply in replies] == [302, 302]
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_page_after_an_order_with_another_form_in_error_is_an_outcome() -> None:
    """Only ``form_invalid`` and ``release()`` free a key, not what a page shows."""
    key = key_in(Client().get("/search/"))
    replies = [send("/search/", key) for _ in range(2)]
    assert effects.count() == Order.objects.count() == 1
    assert replies[0].content == replies[1].content
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_form_invalid_may_keep_its_page() -> None:
    """What the method asks for wins."""
    key = key_in(Client().get("/strict/"))
    replies = [send("/strict/", key, cake="") for _ in range(2)]
    assert IdempotencyRecord.objects.get().status == Status.COMPLETED
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_sent_form_with_other_fields_is_refused(url: str) -> None:
    """After the Back button: a page says so, and nothing is ordered."""
    key = key_in(Client().get(url))
    send(url, key)
    reply = send(url, key, cake="carrot")
    assert effects.count() == 1
    assert reply.status_code == 422
    assert reply["Content-Type"].startswith("text/html")


def test_second_click_shows_the_first_reply(key: str) -> None:
    """The request waits for the first, because it came from a form."""
    CLICKED.clear()

    def click() -> Any:
        try:
            return send("/slow/", key)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(click)
        while not IdempotencyRecord.objects.exists():
            time.sleep(0.01)
        second = pool.submit(click)
        threading.Timer(0.5, CLICKED.set).start()
        replies = [first.result(20), second.result(20)]
    assert effects.count() == Order.objects.count() == 1
    assert [reply.status_code for reply in replies] == [302, 302]
    assert replies[0]["Location"] == replies[1]["Location"]
