"""The demonstration behind ``make demo``: six scenes on a real server, over real sockets.

It knows the shop from outside only: by HTTP, by its database file and by its kitchen log.
"""
