"""What can go wrong with a server."""


class ServerError(Exception):
    """A server could not do what was asked of it."""


class ServerUnavailableError(ServerError):
    """The server's programs cannot be had, or cannot run, on this machine."""


class ServerStartError(ServerError):
    """The server's programs ran, but the server did not come up."""
