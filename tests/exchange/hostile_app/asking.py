"""Sends every node messages that make a stock Flower load the client code, and notes the replies."""

import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    asked = {}
    for node in grid.get_node_ids():
        for kind in ("train", "query.offer", "query.steal"):
            content = RecordDict({"c": ConfigRecord({"x": 1})})
            (message_id,) = grid.push_messages([Message(content, dst_node_id=node, message_type=kind, ttl=60)])
            asked[message_id] = f"{node} {kind}"
    replies = {}
    while asked:
        for reply in grid.pull_messages(list(asked)):
            name = asked.pop(reply.metadata.reply_to_message_id)
            replies[name] = reply.error.reason if reply.has_error() else "ran"
        time.sleep(0.2)
    target = Path(str(context.run_config["server-config"]))
    target.with_suffix(".part").write_text(json.dumps(replies))
    target.with_suffix(".part").rename(target)
