"""The order form, with and without a key."""

import uuid

from django import forms

from .cakes import Cake
from .models import ICING_LENGTH


def fresh_key() -> str:
    """A key nobody has used: one for each page that is shown."""
    return str(uuid.uuid4())


class CakeForm(forms.Form):
    """A cake and the name on it; sent twice, it orders twice."""

    cake = forms.ChoiceField(choices=Cake.choices, initial=Cake.STRAWBERRY)
    icing = forms.CharField(label="Name in icing", max_length=ICING_LENGTH)
    icing.widget.attrs.update(autocomplete="off", placeholder="Ada")


class KeyedCakeForm(CakeForm):
    """The same with a hidden key: sent twice, it orders once."""

    idempotency_key = forms.CharField(widget=forms.HiddenInput, initial=fresh_key)
