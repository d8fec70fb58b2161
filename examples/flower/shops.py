"""The two apps of a federation, for `flwr run`."""

from daogou.learn.flower import client_app, server_app

server = server_app()
client = client_app()
