"""``{% idempotency_key %}``: a fresh key in each form that is shown."""

import uuid

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..http.requests import KEY_FIELD

register = template.Library()


@register.simple_tag
def idempotency_key(name: str = KEY_FIELD) -> SafeString:
    """A hidden input with a fresh key; ``name`` is the view's option ``field``.

    A form that is shown again with its errors gets another key. The old one is free, but the Back
    button leads to a page that still has it.
    """
    # Browsers that restore fields on reload (Firefox) would put an old key into the new form.
    return format_html(
        '<input type="hidden" name="{}" value="{}" autocomplete="off">', name, uuid.uuid4()
    )
