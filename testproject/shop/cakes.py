"""What the shop bakes."""

from django.db.models import TextChoices


class Cake(TextChoices):
    """The cakes in the window; the value is what a form or an API client sends."""

    STRAWBERRY = "strawberry", "Strawberry cream"
    CHOCOLATE = "chocolate", "Chocolate torte"
    LEMON = "lemon", "Lemon drizzle"
    PISTACHIO = "pistachio", "Pistachio rose"
    CARROT = "carrot", "Carrot & walnut"
    BLUEBERRY = "blueberry", "Blueberry cheese"

    @property
    def description(self) -> str:
        """What it tastes of, in a few words."""
        return _DESCRIPTIONS[self]

    @property
    def price(self) -> int:
        """What it costs at the door, in cents."""
        return _PRICES[self]


_DESCRIPTIONS = {
    Cake.STRAWBERRY: "Vanilla sponge, whipped cream, June on top",
    Cake.CHOCOLATE: "Dark, dense, with a shine you can see yourself in",
    Cake.LEMON: "Sharp, sunny and gone by three o'clock",
    Cake.PISTACHIO: "Green as a garden, with a breath of rose water",
    Cake.CARROT: "Cinnamon, walnuts and a thick cream cheese hat",
    Cake.BLUEBERRY: "A baked cheesecake under a violet sky",
}

_PRICES = {
    Cake.STRAWBERRY: 3200,
    Cake.CHOCOLATE: 3600,
    Cake.LEMON: 2400,
    Cake.PISTACHIO: 3400,
    Cake.CARROT: 2600,
    Cake.BLUEBERRY: 2900,
}
