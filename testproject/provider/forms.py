"""What a request has to say."""

from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError

from .models import Entry
from .moods import Mood, Spell
from .services import Service


class ChargeForm(forms.Form):
    """An amount in the currency's smallest unit, and what the shop knows the charge by."""

    amount = forms.IntegerField(min_value=1)
    reference = forms.CharField()


class RefundForm(forms.Form):
    """The id of a charge."""

    charge = forms.UUIDField()

    def clean_charge(self) -> UUID:
        """One that was made; a second refund is not refused, so that it would be seen."""
        charge: UUID = self.cleaned_data["charge"]
        if not Entry.objects.filter(service=Service.CHARGES, pk=charge).exists():
            raise ValidationError("There is no such charge.")
        return charge


class PickupForm(forms.Form):
    """Where the courier goes, and with what."""

    address = forms.CharField()
    reference = forms.CharField()


class CancellationForm(forms.Form):
    """The id of a pickup."""

    pickup = forms.UUIDField()

    def clean_pickup(self) -> UUID:
        """One that was booked; a second cancellation is not refused, so that it would be seen."""
        pickup: UUID = self.cleaned_data["pickup"]
        if not Entry.objects.filter(service=Service.PICKUPS, pk=pickup).exists():
            raise ValidationError("There is no such pickup.")
        return pickup


class ReceiptForm(forms.Form):
    """Who gets the mail, and about what."""

    recipient = forms.CharField()
    reference = forms.CharField()


FORMS: dict[Service, type[forms.Form]] = {
    Service.CHARGES: ChargeForm,
    Service.REFUNDS: RefundForm,
    Service.PICKUPS: PickupForm,
    Service.CANCELLATIONS: CancellationForm,
    Service.RECEIPTS: ReceiptForm,
}


class SpellForm(forms.Form):
    """A mood, for how many requests (all of them without a number), and its seconds."""

    mood = forms.ChoiceField(choices=[(mood, mood) for mood in Mood])
    times = forms.IntegerField(min_value=1, required=False)
    seconds = forms.FloatField(min_value=0, required=False)

    def spell(self) -> Spell:
        """The spell, once the form is valid."""
        said = self.cleaned_data
        return Spell(Mood(said["mood"]), said["times"], said["seconds"] or 0.0)
