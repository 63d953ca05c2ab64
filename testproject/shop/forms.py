"""The order form; whether it carries a key is up to the page it stands on."""

from django import forms

from .cakes import Cake
from .models import ICING_LENGTH


class CakeForm(forms.Form):
    """A cake and the name on it."""

    cake = forms.ChoiceField(choices=Cake.choices, initial=Cake.STRAWBERRY)
    icing = forms.CharField(label="Name in icing", max_length=ICING_LENGTH)
    icing.widget.attrs.update(autocomplete="off", placeholder="Ada")
