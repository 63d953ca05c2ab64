"""How gunicorn serves the provider: one process, since its moods live in memory."""

workers = 1
# Hanging requests keep theirs.
threads = 32
graceful_timeout = 1
# It is stopped by its process id; a second way in would be a file in the home directory.
control_socket_disable = True
