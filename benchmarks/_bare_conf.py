"""gunicorn's configuration of the bare application: what web/gunicorn_conf.py sets, no more."""

workers = 1
worker_class = "gevent"
worker_connections = 10_000
keepalive = 5
loglevel = "warning"
control_socket_disable = True
