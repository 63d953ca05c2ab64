import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "cake",
                    models.CharField(
                        choices=[
                            ("strawberry", "Strawberry cream"),
                            ("chocolate", "Chocolate torte"),
                            ("lemon", "Lemon drizzle"),
                            ("pistachio", "Pistachio rose"),
                            ("carrot", "Carrot & walnut"),
                            ("blueberry", "Blueberry cheese"),
                        ],
                        max_length=20,
                    ),
                ),
                ("icing", models.CharField(max_length=40, verbose_name="name in icing")),
                ("ticket", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("shop", "Order page"),
                            ("tunnel-without-key", "Tunnel, without a key"),
                            ("tunnel-with-key", "Tunnel, with a key"),
                            ("api", "API"),
                            ("delivery", "API, to the door"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("ordered", "Ordered"),
                            ("on-the-way", "On the way"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="on-the-way",
                        max_length=20,
                    ),
                ),
                ("visitor", models.UUIDField(blank=True, db_index=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("address", models.CharField(blank=True, max_length=200)),
                ("price", models.PositiveIntegerField(blank=True, editable=False, null=True)),
                ("charge", models.UUIDField(blank=True, editable=False, null=True)),
                ("pickup", models.UUIDField(blank=True, editable=False, null=True)),
                ("paid_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="orders",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
        migrations.CreateModel(
            name="Receipt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("recipient", models.CharField(max_length=254)),
                ("mail", models.UUIDField(blank=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "order",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="receipts",
                        to="shop.order",
                    ),
                ),
            ],
            options={
                "ordering": ["-pk"],
            },
        ),
    ]
