"""What happens to records outside of requests: release, expire, resolve, delete, erase."""
