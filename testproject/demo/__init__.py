"""The demonstration behind ``make demo``: seven scenes on a real server, over real sockets.

It knows the shop from outside only: by HTTP, by its database file, by its kitchen log, and by what
its partners have in their ledger. A scene that needs a worker in the middle of something shuts a
gate (:mod:`testproject.shop.gates`) and waits until the worker stands there; no scene depends on
how fast the machine is.
"""
