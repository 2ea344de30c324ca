"""One X-ray's road, stop by stop: `python -m examples.one_xray FILE` (DICOM, PNG or JPEG).

A hospital and a centre stand in one temporary folder, with real keys and real ledgers. Only Flower is left out: it
would carry the same documents between two machines.
"""

import shutil
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from ldp_client.agent import Agent
from ldp_client.flow.installed import open_bundle
from ldp_client.imaging.files import read_xray
from ldp_client.officer import approve, put_into_force
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.site import create_site, enrolment
from ldp_client.supernode import create_node_key
from ldp_client.wire.campaign import Campaign, Policy, campaign_id
from ldp_client.wire.record import unpack
from ldp_client.wire.signing import create_signing_key
from server.centre import enrol, open_centre, publish
from server.config import initialise
from server.store.queries import budgets, records_of

LABELS = ("normal", "pneumonia")


def main(file: Path, folder: Path, opened: ExitStack) -> None:
    """Walk one file from its pixels to the centre's ledger."""
    # A centre asks for the first two of the encoder's coordinates at epsilon 2.
    encoder = open_bundle("shipped:kermany28", folder)
    centre = opened.enter_context(closing(open_centre(initialise(folder / "centre", "Centre"))))
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    campaign = Campaign(name="one", purpose="a walk", encoder=encoder.digest, release=release, label_names=LABELS,
                        unit="image", cap=1, micro_epsilon_per_record=2_000_000, ends="2099-12-31")  # fmt: skip
    publish(centre, campaign)
    # A hospital with one X-ray, whose officer agrees.
    officer = create_signing_key(folder / "officer.key")
    hospital = create_site(folder / "site", "north", "North Hospital", (officer.public_key,))
    site = opened.enter_context(closing(hospital))
    shutil.copy(folder / "centre" / "centre.json", site.folder)
    site.create_spool()
    (site.folder / "xrays").mkdir()
    shutil.copy(file, site.folder / "xrays")
    (site.folder / "xrays" / "labels.csv").write_text(f"file,label\n{file.name},pneumonia\n")
    policy = Policy(site="north", serial=1, encoders=(encoder.digest,), units=("image",),
                    lifetime_micro_epsilon=8_000_000)  # fmt: skip
    put_into_force(site, policy, officer)
    enrol(centre, enrolment(site, create_node_key(folder / "node").read_text()))
    # What the agent will see, before anything is lost.
    xray = read_xray(file, label="pneumonia", unit="image", secret=site.secret)
    tensor = encoder.prepare(xray.pixels, inverted=xray.inverted, window=xray.window, bits=xray.bits)
    print("1 pixels        ", xray.pixels.shape, xray.pixels.dtype, "mean", round(float(xray.pixels.mean()), 1))
    print("2 prepared      ", tuple(tensor.shape))
    print("3 encoder output", encoder.encode(torch.stack([tensor]))[0, :2].round(3).tolist())
    # The exchange: what the centre offers goes into the inbox, what the agent lays out goes to the centre.
    agent = Agent(site, encoder=encoder)
    approve(site, campaign, officer)
    while not centre.finished():
        site.inbox.mirror(centre.offer("north"))
        agent.step()
        centre.answer("north", site.outbox.documents())
        for name in centre.wanted("north"):
            centre.submit("north", site.outbox.batch(name) or b"")
    for row in site.ledger.rows():
        print("4 ledger entry  ", row.sequence, row.kind, "chained to", row.head[:16])
    with centre.database.snapshot() as connection:
        (record,), (budget,) = records_of(connection, campaign_id(campaign)), budgets(connection)
    integers = unpack(record.payload, release).tolist()
    print("5 sealed record ", len(record.payload), "bytes, the integers", integers)
    print("6 central row   ", f"{budget.records} record, epsilon {budget.spent} of {budget.agreed} spent per image")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m examples.one_xray FILE   (a chest X-ray as DICOM, PNG or JPEG)")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        main(Path(sys.argv[1]), Path(temporary), stack)
