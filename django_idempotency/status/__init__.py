"""The pages that show a client the state and the response of its accepted operation."""
