"""What people and clean-ups do to records."""
