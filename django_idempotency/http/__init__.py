"""What the package reads from requests and writes to responses."""
