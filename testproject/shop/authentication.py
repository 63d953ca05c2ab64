"""How programs say who they are. Apart from the views: the settings of DRF are read by its views."""

from rest_framework.authentication import TokenAuthentication


class BearerAuthentication(TokenAuthentication):
    """Tokens as RFC 6750 sends them: ``Authorization: Bearer <token>``."""

    keyword = "Bearer"
