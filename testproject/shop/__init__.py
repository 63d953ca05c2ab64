"""The cake shop's one app."""
