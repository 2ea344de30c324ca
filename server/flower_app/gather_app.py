"""The bundle that `flwr run` wants: it only names the installed package."""

from server.centre import open_centre
from server.gather import server_app

app = server_app(open_centre)
