"""A centre that is a folder: offers are read from it, answers and batches are written into it."""

import hashlib
from pathlib import Path

from ldp_client.wire.document import DOWN_KINDS, Document
from server.gather import server_app


class FolderCentre:
    """keys/SITE (PEM), offer/SITE/KIND/*, answer/SITE/KIND/*, batch/SITE/NAME.

    A header's body is the name of its batch, and a stored batch is receipted. A site with a state `done` is.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def site_of(self, node_public_key: str) -> str | None:
        keys = {path.read_text(): path.name for path in (self._root / "keys").iterdir()}
        return keys.get(node_public_key)

    def offer(self, site: str) -> list[Document]:
        offered = [
            Document(kind, path.read_bytes())
            for kind in DOWN_KINDS
            for path in sorted((self._root / "offer" / site / kind).glob("*"))
        ]
        return offered + [
            Document("receipt", path.name.encode()) for path in sorted((self._root / "batch" / site).glob("*"))
        ]

    def answer(self, site: str, documents: list[Document]) -> None:
        for document in documents:
            self._write(f"answer/{site}/{document.kind}", document.body)

    def wanted(self, site: str) -> list[str]:
        headers = (self._root / "answer" / site / "header").glob("*")
        names = [path.read_text() for path in headers]
        return sorted(name for name in names if not (self._root / "batch" / site / name).exists())

    def submit(self, site: str, sealed: bytes) -> None:
        self._write(f"batch/{site}", sealed)

    def finished(self) -> bool:
        sites = [path.name for path in (self._root / "keys").iterdir()]
        done = hashlib.sha256(b"done").hexdigest()
        return all((self._root / "answer" / site / "state" / done).exists() for site in sites)

    def _write(self, folder: str, body: bytes) -> None:
        target = self._root / folder
        target.mkdir(parents=True, exist_ok=True)
        part = target.parent / f"{target.name}.part"
        part.write_bytes(body)
        part.rename(target / hashlib.sha256(body).hexdigest())


app = server_app(FolderCentre)
