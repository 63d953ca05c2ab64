"""The version of the shop that this process was started with."""

import os

from .versions import VERSIONS

urlpatterns = VERSIONS[os.environ.get("SHOP_VERSION", "first")].urlpatterns
