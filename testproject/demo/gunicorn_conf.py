"""How gunicorn serves the shop in the demonstration: several processes, several threads each."""

# The system picks a free port; the log says which.
bind = "127.0.0.1:0"
workers = 4
threads = 8
graceful_timeout = 3
# One line for each request that arrived; Shop.answered counts them.
accesslog = "-"
# The shop is stopped by its process id; a second way in would be a file in the home directory.
control_socket_disable = True
