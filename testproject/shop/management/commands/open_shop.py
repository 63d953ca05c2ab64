"""Make the database ready for visitors."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Migrates, and makes the users ``demo`` (who may open the admin) and ``guest``."""

    help = "Migrate the shop's database and make its users demo/demo and guest/guest."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; a second time changes nothing."""
        call_command("migrate", verbosity=0, interactive=False)
        if not User.objects.filter(username="demo").exists():
            User.objects.create_superuser("demo", "demo@cakes.example", "demo")
        if not User.objects.filter(username="guest").exists():
            User.objects.create_user("guest", "guest@cakes.example", "guest")
