"""How programs say who they are; apart from the views, which DRF's settings must not import."""

from rest_framework.authentication import TokenAuthentication


class BearerAuthentication(TokenAuthentication):
    """Tokens as RFC 6750 sends them: ``Authorization: Bearer <token>``."""

    keyword = "Bearer"
