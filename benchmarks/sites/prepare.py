"""Make the current contestant's database anew, with its tables and the customer.

``python -m benchmarks.sites.prepare`` does it for servers that are started later.
"""

from importlib import import_module

import django


def prepare() -> None:
    """Leave an empty database; Django must be set up."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test.utils import setup_databases

    from benchmarks.sites.orders.authentication import CUSTOMER

    setup_databases(verbosity=0, interactive=False)
    User.objects.create_user(CUSTOMER.username, pk=CUSTOMER.pk)
    # Some have no migrations.
    own = getattr(import_module(settings.ROOT_URLCONF), "create_tables", None)
    if own is not None:
        own()


if __name__ == "__main__":
    django.setup()
    prepare()
