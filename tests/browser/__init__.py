"""What a person does with a form, in Chromium: the ring ``browser``."""
