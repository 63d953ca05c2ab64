"""The pages on which a client sees how far its operation came."""
