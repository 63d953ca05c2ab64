"""The doors: they find a view's policy and cover the call of its handler."""
