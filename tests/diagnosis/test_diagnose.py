"""`ldp-client diagnose`: scores for readable X-rays, reasons for the others, and whose the classifier is."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import CENTRE, a_bundle, encoder

import ldp_client.cli.main as cli
from ldp_client.imaging.phantoms import phantoms
from ldp_client.imaging.png import png_bytes
from ldp_client.wire.canonical import canonical_bytes
from ldp_client.wire.exchange import CentreCard
from ldp_client.wire.signing import SigningKey
from tests.client.world import dicom_bytes


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle and X-rays, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    a_bundle(tmp_path / "classifier")
    pixels, _ = phantoms(2, 28, seed=5, pneumonia_share=0.5)
    (tmp_path / "one.png").write_bytes(png_bytes(pixels[0]))
    (tmp_path / "two.dcm").write_bytes(dicom_bytes(pixels[1], "PAT-1"))
    (tmp_path / "letter.pdf").write_bytes(b"%PDF")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    sys.argv = ["ldp-client", "diagnose", "--classifier", "classifier", *arguments]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def pin(place: Path, key: SigningKey) -> None:
    card = CentreCard(name="Aggregation centre", signing_key=key.public_key.hex(), sealing_key="ab" * 32)
    (place / "centre.json").write_bytes(canonical_bytes(card))


def test_png_and_dicom_get_the_score_of_each_label(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "one.png", "two.dcm", "--format", "json")
    (report,) = json.loads(out)
    assert code == 0
    assert [one["file"] for one in report["scored"]] == ["one.png", "two.dcm"]
    pixels, _ = phantoms(2, 28, seed=5, pneumonia_share=0.5)
    outputs = encoder().encode(torch.stack([encoder().prepare(image) for image in pixels]))
    expected = outputs[:, :2] @ [0.5, -0.25]
    for one, score in zip(report["scored"], expected, strict=True):
        assert one["scores"] == pytest.approx({"normal": -score, "pneumonia": score}, abs=1e-6)


def test_what_is_no_xray_is_listed_and_the_rest_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "letter.pdf", "one.png", "missing.png")
    assert code == 8
    assert "neither DICOM (with its preamble) nor PNG nor JPEG" in " ".join(out.split())
    assert out.index("one.png") < out.index("set aside") < out.index("letter.pdf") < out.index("missing.png")


def test_a_blank_picture_gets_no_score(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "black.png").write_bytes(png_bytes(np.zeros((28, 28), dtype=np.uint8)))
    code, out, _ = run(capsys, "black.png", "one.png", "--format", "json")
    (report,) = json.loads(out)
    assert code == 8
    assert [one["file"] for one in report["scored"]] == ["one.png"]
    assert report["set_aside"] == [{"file": "black.png", "reason": "unreadable"}]
    assert "pixels are all alike" in " ".join(run(capsys, "black.png")[1].split())


def test_nothing_is_sent_and_nothing_is_kept(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    before = sorted(path.name for path in place.rglob("*"))
    assert run(capsys, "one.png")[0] == 0
    assert sorted(path.name for path in place.rglob("*")) == before


def test_the_card_is_printed_and_is_enough(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--card")
    assert code == 0
    for words in ("2708 records", "epsilon 2 per record", "not a medical device", "it names the key"):
        assert words in out
    code, out, err = run(capsys, "--card", "--format", "json", "one.png")
    assert code == 0
    assert len(json.loads(out)[0]["scored"]) == 1
    assert "2708 records" in err


def test_with_a_pinned_centre_only_its_classifier_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin(place, CENTRE)
    code, out, _ = run(capsys, "one.png")
    assert code == 0
    assert "signed by Aggregation centre" in out
    pin(place, SigningKey(b"d" * 32))
    code, _, err = run(capsys, "one.png")
    assert code == 6
    assert "not signed by whom it should be" in err
    (place / "classifier" / "classifier.signed").unlink()
    code, _, err = run(capsys, "one.png")
    assert code == 6
    assert "the bundle has no classifier.signed" in err
    (place / "centre.json").unlink()
    code, out, _ = run(capsys, "one.png")
    assert code == 0
    assert "not signed, and no centre is pinned here" in out
    (place / "centre.json").write_text("{}")
    code, _, err = run(capsys, "one.png")
    assert code == 2
    assert "is not the centre's card" in err


def test_a_slip_in_the_sites_folder_does_not_leave_the_signature_unchecked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin(place, SigningKey(b"d" * 32))
    code, out, err = run(capsys, "one.png", "--state", str(place / "sight"))
    assert code == 2
    assert "is no folder, so nothing says which centre this site trusts" in " ".join(err.split())
    assert "one.png" not in out


def test_each_mistake_gets_its_own_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys)
    assert code == 2
    assert "name at least one file to score, or ask for the model card with --card" in err
    code, _, err = run(capsys, "one.png", "--encoder", "shipped:kermany64-groups")
    assert code == 6
    assert "Install that encoder's bundle and name it" in err
    code, _, err = run(capsys, "one.png", "--encoder", "nowhere")
    assert code == 6
    assert "asked to load an encoder" in err
    a_bundle(place / "foreign", encoder="a" * 64)
    code, _, err = run(capsys, "one.png", "--classifier", "foreign")
    assert code == 6
    assert "the encoder aaaaaaaaaaaa did not come with this package, which has kermany28" in err
    code, _, err = run(capsys, "one.png", "--classifier", "nothing")
    assert code == 6
    assert "asked to load a classifier" in err


def test_a_sites_own_encoder_is_taken_from_its_configuration(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "agent.toml").write_text(
        '[site]\nid = "north"\nname = "North"\n[encoder]\nbundle = "shipped:kermany64-groups"\n'
    )
    code, _, err = run(capsys, "one.png")
    assert code == 6
    assert "Install that encoder's bundle and name it" in err
    assert run(capsys, "one.png", "--encoder", "shipped:kermany28")[0] == 0
