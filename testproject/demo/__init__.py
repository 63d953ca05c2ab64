"""The demonstration behind ``make demo``: seven scenes on a real server, over real sockets.

It knows the shop from outside only: by HTTP, by its database file, by its kitchen log, and by what
its partners have in their ledger.
"""
