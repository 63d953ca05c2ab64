"""Measurements, side by side in one run; what the documentation claims comes from here."""
