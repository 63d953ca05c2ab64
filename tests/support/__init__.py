"""What the rings of tests share: servers, stages, the runner."""
