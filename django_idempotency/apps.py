"""The app's configuration."""

from django.apps import AppConfig
from django.core.signals import setting_changed
from django.utils.translation import gettext_lazy as _


class DjangoIdempotencyConfig(AppConfig):
    """Registers the checks, connects the exporters, and lets changed settings reach the caches."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the modules that register themselves, and connect the signals."""
        from . import checks, codecs, conf, policy  # noqa: F401
        from .durable import completer
        from .monitoring import counts, exporters

        setting_changed.connect(conf.forget_settings)
        setting_changed.connect(policy.forget_settings)
        setting_changed.connect(codecs.forget_settings)
        setting_changed.connect(completer.forget_settings)
        exporters.connect()
        counts.connect()
