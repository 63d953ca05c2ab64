import uuid

import django.core.serializers.json
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Call",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "service",
                    models.CharField(
                        choices=[
                            ("charges", "Charge"),
                            ("refunds", "Refund"),
                            ("pickups", "Pickup by the courier"),
                            ("cancellations", "Cancellation of a pickup"),
                            ("receipts", "Receipt by mail"),
                        ],
                        max_length=20,
                    ),
                ),
                ("key", models.CharField(blank=True, max_length=255)),
                ("mood", models.CharField(max_length=20)),
                ("arrived_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "service",
                    models.CharField(
                        choices=[
                            ("charges", "Charge"),
                            ("refunds", "Refund"),
                            ("pickups", "Pickup by the courier"),
                            ("cancellations", "Cancellation of a pickup"),
                            ("receipts", "Receipt by mail"),
                        ],
                        max_length=20,
                    ),
                ),
                ("key", models.CharField(blank=True, db_index=True, max_length=255)),
                (
                    "details",
                    models.JSONField(encoder=django.core.serializers.json.DjangoJSONEncoder),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "entries",
                "ordering": ["created_at"],
            },
        ),
    ]
