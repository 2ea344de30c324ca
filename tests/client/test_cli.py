"""The commands as the hospital types them: what they print, how they refuse, and a site from its first key on."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ldp_client.cli.main import main
from ldp_client.flow.encoder import read_card, shipped
from ldp_client.ledger.store import ChargeRequest
from ldp_client.plan import lines
from ldp_client.privacy.release_design import joint_laplace
from ldp_client.site import open_site
from ldp_client.verify import verify_export
from ldp_client.wire.campaign import Plan, campaign_id
from ldp_client.wire.canonical import canonical_bytes, parse
from ldp_client.wire.chain import Genesis
from ldp_client.wire.envelope import ENROLMENT, OneKey, open_envelope
from ldp_client.wire.exchange import CentreCard, Enrolment
from ldp_client.wire.signing import fingerprint
from tests.client.world import CENTRE, OFFICER, SEALING, TODAY, World, make_campaign, pictures, write_xrays

NOUNS = ("site", "officer", "policy", "dataset", "campaign", "agent", "courier", "node")
NOUNS += ("budget", "audit", "patient", "ledger")
LDP_CLIENT = Path(sys.executable).parent / "ldp-client"


class Terminal:
    """Types commands into this process, in a folder with a site's `--state`."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self._monkeypatch, self._capsys = state, monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path, state: bool = True) -> int:
        """The exit code; what was printed is in `out` and `err`."""
        where = ["--state", str(self.state)] if state else []
        self._monkeypatch.setattr(sys, "argv", ["ldp-client", *map(str, arguments), *where])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)

    def refused(self, code: int, text: str, *arguments: str | Path, state: bool = True) -> None:
        """The command ends with this code and one sentence on standard error, and prints nothing else."""
        assert self(*arguments, state=state) == code, self.err
        assert self.err.startswith("ldp-client: ")
        assert text in self.err
        assert self.out == ""


@pytest.fixture
def ldp(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal beside a site to which a campaign was offered."""
    world.offer()
    key = world.folder / "officer.key"
    key.write_bytes(OFFICER.secret)
    key.chmod(0o600)
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal(world.folder, monkeypatch, capsys)


# --- help and usage


def test_help_names_every_noun_without_loading_any() -> None:
    code = "import sys; sys.argv = ['ldp-client', '--help']; from ldp_client.cli.main import main\ntry: main()\nexcept "
    code += "SystemExit: print(sorted({'torch', 'flwr', 'ldp_client.cli.agent'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert all(f"\n  {noun} " in ended.stdout for noun in NOUNS)
    assert ended.stdout.endswith("[]\n")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_help(ldp: Terminal, noun: str) -> None:
    assert ldp(noun, "--help", state=False) == 0
    assert "Usage: " in ldp.out
    # The audit is one command; every other noun has several.
    assert f" {noun} [OPTIONS]" + (" COMMAND" if noun != "audit" else "") in ldp.out
    assert ("Commands" in ldp.out) == (noun != "audit")


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("ledger", "nothing"), ("campaign", "show"), ("budget", "show", "--format", "xml")]
)
def test_usage_that_is_wrong_ends_with_two(ldp: Terminal, arguments: tuple[str, ...]) -> None:
    assert ldp(*arguments) == 2


def test_folder_without_a_site_is_refused(ldp: Terminal, tmp_path: Path) -> None:
    ldp.state = tmp_path
    for arguments in (("ledger", "head"), ("campaign", "list"), ("budget", "show"), ("agent", "run")):
        ldp.refused(2, "agent.toml cannot be read (No such file or directory)", *arguments)


def test_state_may_come_from_the_environment(ldp: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert ldp("ledger", "head", state=False) == 2
    monkeypatch.setenv("LDP_STATE", str(ldp.state))
    assert ldp("ledger", "head", state=False) == 0


def test_unknown_key_names_file_key_and_what_was_expected(ldp: Terminal) -> None:
    file = ldp.state / "agent.toml"
    file.write_text(file.read_text() + "\n[release]\nchunks = 5\n")
    ldp.refused(2, f"{file}: unknown key [release] chunks; expected one of: chunk, late_batch", "ledger", "head")


# --- site


def pin(card: Path, shown: str) -> tuple[str | Path, ...]:
    """`site pin` with what the centre read out."""
    return "site", "pin", card, "--fingerprint", shown


def test_site_is_made_pinned_and_introduced(ldp: Terminal, tmp_path: Path) -> None:
    ldp.state = tmp_path / "south"
    name = 'St. "Ö" \\ Klinik'
    assert ldp("site", "init", "--id", "south", "--name", name, "--officer-key", OFFICER.public_key.hex()) == 0
    assert "site south created" in ldp.out
    for secret in ("site.key", "secret.key"):
        assert (ldp.state / "keys" / secret).stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (ldp.state / "spool").iterdir()} == {"inbox", "outbox"}

    card = CentreCard(name="Centre", signing_key=CENTRE.public_key.hex(), sealing_key=SEALING.public_key.hex())
    (tmp_path / "card.json").write_bytes(canonical_bytes(card))
    shown = fingerprint(CENTRE.public_key)
    assert ldp("site", "pin", tmp_path / "card.json", "--fingerprint", shown.upper()) == 0
    assert ldp.out == f"pinned Centre, fingerprint {shown}\n"
    assert ldp("site", "pin", tmp_path / "card.json", "--fingerprint", shown.replace("-", "")) == 0

    (tmp_path / "node.pub").write_text("ecdsa-sha2-nistp384 AAAA\n")
    assert ldp("site", "enrol", "--node-key", tmp_path / "node.pub", "--out", tmp_path / "south.enrolment") == 0
    site = open_site(ldp.state)
    envelope = (tmp_path / "south.enrolment").read_bytes()
    enrolment = parse(Enrolment, open_envelope(envelope, ENROLMENT, OneKey("it", site.signer.public_key))[1])
    assert isinstance(enrolment.genesis, Genesis)
    assert (enrolment.genesis, enrolment.name) == (site.ledger.genesis, name)
    assert enrolment.node_key == "ecdsa-sha2-nistp384 AAAA"
    site.close()


@pytest.mark.parametrize(
    ("site", "name", "key", "text"),
    [
        ("North Hospital", "x", OFFICER.public_key.hex(), "a site's id is up to 63 of a-z, 0-9 and hyphens"),
        ("north", "two\nlines", OFFICER.public_key.hex(), "its name 1 to 100 characters of one line"),
        ("north", "", OFFICER.public_key.hex(), "its name 1 to 100 characters"),
        ("north", "x", "12", "an officer's public key is 64 hex digits"),
        ("north", "x", "z" * 64, "an officer's public key is 64 hex digits"),
    ],
)
def test_site_that_cannot_be_made_leaves_nothing(
    ldp: Terminal, tmp_path: Path, site: str, name: str, key: str, text: str
) -> None:
    ldp.state = tmp_path / "new"
    ldp.refused(2, text, "site", "init", "--id", site, "--name", name, "--officer-key", key)
    assert [path for path in ldp.state.rglob("*") if path.is_file()] == []


def test_site_is_not_made_twice(ldp: Terminal) -> None:
    arguments = ("--id", "north", "--name", "x", "--officer-key", OFFICER.public_key.hex())
    ldp.refused(2, "holds a site already; choose another folder", "site", "init", *arguments)


def test_centre_with_another_fingerprint_is_not_pinned(ldp: Terminal) -> None:
    card = ldp.state / "centre.json"
    other = canonical_bytes(CentreCard(name="Other", signing_key="0" * 64, sealing_key="1" * 64))
    (ldp.state / "other.json").write_bytes(other)
    ldp.refused(2, "not aaaa-bbbb; do not pin it", "site", "pin", card, "--fingerprint", "aaaa-bbbb")
    ldp.refused(2, "another centre is pinned already", *pin(ldp.state / "other.json", fingerprint(b"\0" * 32)))
    ldp.refused(2, "is not a centre's card", *pin(ldp.state / "agent.toml", "x"))
    ldp.refused(2, "cannot be read (No such file or directory)", *pin(ldp.state / "nothing.json", "x"))
    for private in (ldp.state / "keys" / "site.key", ldp.state / "agent.toml"):
        text = "a node's public key is one line that begins with ecdsa-sha2-nistp384; found something else"
        ldp.refused(2, text, "site", "enrol", "--node-key", private, "--out", "x")
        assert not Path("x").exists()
    ldp.refused(2, "cannot be used", "site", "enrol", "--node-key", "nothing.pub", "--out", "x")


# --- officer and policy


def test_officer_makes_a_key_that_is_never_overwritten(ldp: Terminal) -> None:
    assert ldp("officer", "key", "--out", "new.key", state=False) == 0
    public, shown = ldp.out.splitlines()
    assert shown == f"fingerprint {fingerprint(bytes.fromhex(public))}"
    assert Path("new.key").stat().st_mode & 0o777 == 0o600
    ldp.refused(2, "exists already and is not overwritten", "officer", "key", "--out", "new.key", state=False)


POLICY = '[policy]\nserial = 2\nencoders = ["{}"]\nlifetime_epsilon = "{}"\n'


def test_policy_is_signed_and_shown(ldp: Terminal) -> None:
    Path("policy.toml").write_text(POLICY.format("e" * 64, "7.5") + 'max_epsilon_per_record = "5"\n')
    assert ldp("policy", "sign", "policy.toml", "--officer-key", "officer.key") == 0
    assert ldp.out.startswith(
        "policy 2 is in force: at most epsilon 5 per record and 7.5 per unit ever; units: patient"
    )
    assert "approve their campaigns again\nwarning: more than epsilon 4 per record" in ldp.out
    assert ldp("policy", "show", "--format", "json") == 0
    assert json.loads(ldp.out) == [
        {
            "serial": 2,
            "encoders": "e" * 12,
            "mechanisms": "joint_discrete_laplace, joint_codebook",
            "units": "patient",
            "most_epsilon_per_record": "5",
            "lifetime_epsilon_per_unit": "7.5",
            "evaluations": "no evaluation is allowed",
        }
    ]
    assert ldp("policy", "show") == 0
    assert "lifetime epsilon per unit" in ldp.out


def test_policy_allows_the_mechanisms_that_it_names(ldp: Terminal) -> None:
    Path("policy.toml").write_text(POLICY.format("e" * 64, "8") + 'mechanisms = ["joint_codebook", "image"]\n')
    assert ldp("policy", "sign", "policy.toml", "--officer-key", "officer.key") == 0
    assert "mechanisms: joint_codebook, image" in ldp.out
    text = POLICY.format("e" * 64, "8").replace("serial = 2", "serial = 3") + 'mechanisms = ["pictures"]\n'
    Path("policy.toml").write_text(text)
    ldp.refused(
        2,
        "[policy.mechanisms] 0 is wrong: it must be one of",
        "policy",
        "sign",
        "policy.toml",
        "--officer-key",
        "officer.key",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POLICY.format("e" * 64, "8") + "budget = 3\n", "unknown key [policy] budget; expected one of: accept_epsilon"),
        (POLICY.format("abc", "8"), "policy.toml: the key [policy] encoders.0 is wrong: String should match pattern"),
        (POLICY.format("e" * 64, "much"), "epsilon must be a number such as 2, 0.5 or 1/3"),
        (POLICY.format("e" * 64, "8").replace('"8"', "8.5"), "the key [policy] lifetime_epsilon is wrong"),
        (POLICY.format("e" * 64, "9") + 'max_epsilon_per_record = "9"\n', "needs accept_epsilon_above_8 = true"),
        ("", "the key [policy] is missing"),
    ],
)
def test_policy_that_says_something_else_is_refused(ldp: Terminal, text: str, message: str) -> None:
    Path("policy.toml").write_text(text)
    ldp.refused(2, message, "policy", "sign", "policy.toml", "--officer-key", "officer.key")


def test_policy_with_an_old_serial_ends_with_three(ldp: Terminal) -> None:
    Path("policy.toml").write_text(POLICY.format("e" * 64, "8").replace("serial = 2", "serial = 1"))
    ldp.refused(3, "Raise the serial", "policy", "sign", "policy.toml", "--officer-key", "officer.key")


def test_policy_signed_by_another_key_ends_with_six(ldp: Terminal) -> None:
    Path("policy.toml").write_text(POLICY.format("e" * 64, "8"))
    other = ldp.state / "keys" / "site.key"
    ldp.refused(6, "the signer is not an officer of this site", "policy", "sign", "policy.toml", "--officer-key", other)


def test_key_that_others_can_read_is_refused(ldp: Terminal) -> None:
    Path("officer.key").chmod(0o644)
    command = ("campaign", "approve", "pneumonia", "--officer-key", "officer.key")
    ldp.refused(2, "only its owner can read: chmod 600", *command)


# --- campaign


def test_campaign_is_listed_shown_and_planned(ldp: Terminal, world: World) -> None:
    assert ldp("campaign", "list", "--format", "json") == 0
    (row,) = json.loads(ldp.out)
    assert row["campaign"] == "pneumonia"
    assert (row["epsilon_per_record"], row["unit"], row["answer"]) == ("2", "image", "offered")
    assert ldp("campaign", "show", row["id"]) == 0
    assert "epsilon 2 per record, at most 1 per image: epsilon 2 per image" in ldp.out
    assert "the unit is one image: nothing is promised about a person" in ldp.out
    assert "guessed right at best 88.1 % of the time instead of 50 %" in ldp.out
    assert "policy: allows it" in ldp.out
    assert ldp("campaign", "plan", "pneumonia", "--format", "json") == 0
    (plan,) = json.loads(ldp.out)
    assert (plan["records"], plan["units"], plan["quarantined"]) == (30, 30, 0)
    done = Plan(**{key: plan[key] for key in Plan.model_fields} | {"records": 0, "units": 0})
    assert lines(done, world.campaign)[0].startswith("nothing would be released: no X-ray is left here that can be")
    assert ldp("campaign", "plan", "pneumonia") == 0
    assert ldp.out.startswith("30 records of 30 images would be released; 0 files are set aside\n")
    assert "with 300 records and 2 coordinates the classifier would" in ldp.out  # ten times this site's
    assert "how many records all sites give together is not known here" in ldp.out
    assert ldp("campaign", "plan", "pneumonia", "--records", "5000") == 0
    assert "with 5,000 records and 2 coordinates the classifier would" in ldp.out
    assert "is not known here" not in ldp.out
    assert ldp("campaign", "plan", "pneumonia", "--records", "20", "--auc", "0.6", "--prevalence", "0.1,0.9") == 0
    assert "with 20 records and 2 coordinates the classifier would be at chance" in ldp.out
    assert ldp("campaign", "plan", "pneumonia", "--auc", "0.9", "--prevalence", "0.2,0.3,0.5") == 2
    assert ldp("campaign", "plan", "pneumonia", "--auc", "1.5") == 2
    assert ldp.out == ""
    assert world.site.ledger.counts(world.name) == (0, 0)  # free: nothing was drawn


def test_list_says_when_an_approval_no_longer_holds(ldp: Terminal, world: World) -> None:
    def listed() -> str:
        assert ldp("campaign", "list", "--format", "json") == 0
        return str(json.loads(ldp.out)[0]["answer"])

    world.approve()
    assert listed() == "approved"
    world.set_policy(serial=2)
    assert listed() == "approved under an earlier policy; approve again"
    world.approve(expires="2020-01-01")
    assert listed() == "approved; ended"


# --- what is set aside

NAME = "Mustermann^Erika [red]\x1b[31m.png"


@pytest.fixture
def aside(world: World, caplog: pytest.LogCaptureFixture) -> Iterator[dict[str, str]]:
    """Of the site's thirty X-rays one loses its row and one gets another label; a strange file is put beside them."""
    xrays = world.folder / "xrays"
    rows = (xrays / "labels.csv").read_text().splitlines()
    unlabelled, other = rows[1].split(",")[0], rows[2].split(",")[0]
    (xrays / NAME).write_bytes(b"no picture")
    (xrays / "labels.csv").write_text("\n".join([rows[0], f"{other},fracture", *rows[3:], f"{NAME},normal"]) + "\n")
    reasons = {unlabelled: "missing_label", other: "unknown_label", NAME: "unreadable"}
    caplog.set_level(logging.DEBUG)
    yield reasons
    assert not any(file in caplog.text for file in ("Mustermann", *reasons))


def listed(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["file"]: row["reason"] for row in rows}


def test_plan_lists_the_files_set_aside_and_ends_with_eight(ldp: Terminal, aside: dict[str, str]) -> None:
    assert ldp("campaign", "plan", "pneumonia", "--format", "json") == 8
    (plan,) = json.loads(ldp.out)
    assert (plan["records"], plan["quarantined"]) == (28, 3)
    assert listed(plan["set_aside"]) == aside
    assert ldp.err == ""
    assert ldp("campaign", "plan", "pneumonia") == 8
    assert ldp.out.startswith("28 records of 28 images would be released; 3 files are set aside\n")
    assert ldp.err == ""
    for file, reason in aside.items():
        shown = file.replace("\x1b", "\\x1b")
        assert re.search(rf"{re.escape(shown)} *\S {reason} ", ldp.out), ldp.out
    assert "\x1b" not in ldp.out


def test_data_set_is_checked_for_a_campaign_or_for_a_unit_and_labels(ldp: Terminal, aside: dict[str, str]) -> None:
    for way in (
        ("--campaign", "pneumonia"),
        ("--unit", "image", "--label", "normal", "--label", "pneumonia"),
    ):
        assert ldp("dataset", "check", *way, "--format", "json") == 8
        (found,) = json.loads(ldp.out)
        assert listed(found.pop("set_aside")) == aside
        counts = {"missing_label": 1, "unknown_label": 1, "unreadable": 1}
        assert found == {"xrays": 28, "units": 28, "unit": "image", "counts": counts}
        assert ldp("dataset", "check", *way) == 8
        assert ldp.out.startswith("28 X-rays of 28 images can be released; 3 are set aside\n")
        assert re.search(r"missing_label +\S 1 ", ldp.out)
        assert re.search(r"Mustermann\^Erika \[red\]\\x1b\[31m\.png +\S unreadable ", ldp.out)
        assert ldp.err == ""
    assert ldp("dataset", "check", "--unit", "image", "--label", "fracture") == 8
    assert ldp.out.startswith("1 X-rays of 1 images can be released; 30 are set aside\n")


def test_data_set_without_a_fault_ends_with_nought(ldp: Terminal, world: World) -> None:
    (world.folder / "centre.json").unlink()  # a check needs no centre
    assert ldp("dataset", "check", "--unit", "image", "--label", "normal", "--label", "pneumonia") == 0
    assert ldp.out == "30 X-rays of 30 images can be released; 0 are set aside\n"
    assert world.site.ledger.counts(world.name) == (0, 0)


def test_patients_are_counted_when_they_are_the_unit(ldp: Terminal, world: World) -> None:
    xrays = world.folder / "xrays"
    rows = (xrays / "labels.csv").read_text().splitlines()
    patients = [f"{row},P{index // 2}" for index, row in enumerate(rows[1:])]
    (xrays / "labels.csv").write_text("\n".join(["file,label,patient", *patients]) + "\n")
    assert ldp("dataset", "check", "--unit", "patient", "--label", "normal", "--label", "pneumonia") == 0
    assert ldp.out == "30 X-rays of 15 patients can be released; 0 are set aside\n"


@pytest.mark.parametrize(
    "options",
    [(), ("--unit", "image"), ("--label", "normal"), ("--campaign", "pneumonia", "--unit", "image")],
    ids=["nothing", "no label", "no unit", "both"],
)
def test_check_without_knowing_what_for_is_refused(ldp: Terminal, options: tuple[str, ...]) -> None:
    ldp.refused(2, "give --campaign NAME, or --unit and one --label for each label", "dataset", "check", *options)


def test_check_of_a_folder_that_is_not_there_is_refused(ldp: Terminal, world: World) -> None:
    (world.folder / "xrays" / "labels.csv").unlink()
    ldp.refused(2, "asked for the labels file", "dataset", "check", "--campaign", "pneumonia")
    ldp.refused(2, "0 campaigns are called 'other'", "dataset", "check", "--campaign", "other")


def test_campaign_is_approved_and_refused(ldp: Terminal, world: World) -> None:
    approve = ("campaign", "approve", "pneumonia", "--officer-key", "officer.key")
    assert ldp(*approve, "--expires", "2030-06-30") == 0
    assert "approved until 2030-06-30" in ldp.out
    standing = world.site.ledger.standing_approval(world.campaign, "2030-06-30")
    assert standing.approval.expires == "2030-06-30"
    assert ldp("campaign", "refuse", "pneumonia") == 0
    assert ldp("campaign", "list") == 0
    assert "refused" in ldp.out
    assert ldp(*approve) == 0
    assert world.site.ledger.decision(world.name) == "approved"
    ldp.refused(2, "such as 20", *approve, "--expires", "soon")


def test_approval_hides_the_plan_and_the_site_keeps_it(ldp: Terminal, world: World) -> None:
    for _ in range(2):
        assert ldp("campaign", "approve", "pneumonia", "--officer-key", "officer.key") == 0
    plans = world.site.ledger.documents("plan")
    assert len(plans) == 2  # the same plan, two salts
    assert plans[0][1][32:] == plans[1][1][32:] != b""
    cited = world.site.ledger.standing_approval(world.campaign, TODAY.isoformat()).approval.plan
    assert cited in {digest for digest, _ in plans}


def test_unknown_campaign_names_those_offered(ldp: Terminal, world: World) -> None:
    offered = f"0 campaigns are called 'other'; offered are: pneumonia ({campaign_id(world.campaign)[:12]})"
    ldp.refused(2, offered, "campaign", "show", "other")


def test_before_any_campaign_or_policy_the_exit_code_says_wait(ldp: Terminal, tmp_path: Path) -> None:
    card = ldp.state / "centre.json"
    ldp.state = tmp_path / "south"
    ldp("site", "init", "--id", "south", "--name", "South", "--officer-key", OFFICER.public_key.hex())
    ldp.refused(2, "no centre is pinned", "campaign", "list")
    assert ldp(*pin(card, fingerprint(CENTRE.public_key))) == 0
    ldp.refused(5, "no campaign has been offered to this site yet", "campaign", "show", "pneumonia")
    ldp.refused(5, "no policy is in force", "policy", "show")
    assert ldp("campaign", "list") == 0
    assert "nothing to show" in ldp.out


def test_campaign_that_the_policy_forbids_ends_with_three(ldp: Terminal, world: World) -> None:
    world.campaigns[0] = make_campaign(epsilon=5)
    world.offer()
    assert ldp("campaign", "list", "--format", "json") == 0
    which = str(campaign_id(world.campaign))[:12]
    ldp.refused(3, "the campaign asks epsilon 5", "campaign", "approve", which, "--officer-key", "officer.key")
    ldp.refused(3, "the campaign asks epsilon 5", "campaign", "plan", which)
    assert ldp("campaign", "show", which) == 0
    assert "warning: above epsilon 4 a record says a lot" in ldp.out
    assert "policy: the campaign asks epsilon 5 per record; the policy allows 2" in ldp.out


def test_campaign_that_the_lifetime_budget_no_longer_holds_ends_with_four(ldp: Terminal, world: World) -> None:
    world.set_policy(serial=2, lifetime_micro_epsilon=3_000_000)
    world.release()
    world.campaigns.append(make_campaign(name="second"))
    world.offer()
    text = "asks epsilon 2 of a unit (image) that has 1 left; after the campaigns charged before"
    ldp.refused(4, text, "campaign", "approve", "second", "--officer-key", "officer.key")


# --- budget and ledger


def test_budget_says_what_was_spent_and_what_is_left(ldp: Terminal, world: World) -> None:
    world.release()
    assert ldp("budget", "show", "--format", "json") == 0
    campaign, total = json.loads(ldp.out)
    assert (campaign["campaign"], campaign["records"], campaign["charges"]) == ("pneumonia", 30, 30)
    assert (campaign["epsilon_per_record"], campaign["bound_per_unit"]) == ("2", "2")
    assert total["bound_per_unit"] == "2 of 8, 6 left"
    assert total["unit"] == "most spent by one: 2"


def test_ledger_is_proved_and_handed_over(ldp: Terminal, world: World) -> None:
    world.release()
    assert ldp("ledger", "head") == 0
    head = world.site.ledger.head()
    assert ldp.out == f"entry {head.sequence}: {'-'.join(head.head[i : i + 4] for i in range(0, 16, 4))}\n"
    assert ldp("ledger", "verify") == 0
    assert "verified" in ldp.out
    assert ldp("ledger", "export", "--out", "export.jsonl") == 0
    assert verify_export(Path("export.jsonl")).sequence == head.sequence
    ldp.refused(2, "cannot be made (File exists); name a new file", "ledger", "export", "--out", "export.jsonl")


def test_ledger_that_was_tampered_with_ends_with_six(ldp: Terminal, world: World) -> None:
    world.release()
    connection = world.site.ledger._connection
    connection.execute("DROP TRIGGER entries_no_update")
    body = next(world.site.ledger.rows(4, 4)).body.replace(b"2000000", b"1000000")
    connection.execute("UPDATE entries SET body = ? WHERE sequence = 4", (body,))
    ldp.refused(6, "site north, entry 4", "ledger", "verify")


def test_open_charges_are_given_up_only_on_purpose(ldp: Terminal, world: World) -> None:
    world.approve()
    world.agent().step()
    request = ChargeRequest(b"u" * 32, b"x" * 32, b"s" * 32)
    world.site.ledger.charge(world.campaign, [request], TODAY.isoformat())
    ldp.refused(
        2, "1 open charges would be given up and stay spent; say so with --yes", "ledger", "abandon", "pneumonia"
    )
    assert ldp("ledger", "abandon", "pneumonia", "--yes") == 0
    assert ldp.out == "abandoned 1 charges\n"
    assert world.site.ledger.open_charges(world.name) == []
    assert world.site.ledger.largest_spent().micro_epsilon == 2_000_000


# --- the whole of it


def test_site_from_its_first_key_to_a_verified_ledger(ldp: Terminal, tmp_path: Path) -> None:
    """With the shipped encoder and the agent as a program of its own; the centre's part is played here."""
    card = ldp.state / "centre.json"
    ldp.state = tmp_path / "south"
    ldp("site", "init", "--id", "north", "--name", "South", "--officer-key", OFFICER.public_key.hex())
    assert ldp(*pin(card, fingerprint(CENTRE.public_key))) == 0
    images, labels = pictures(8)
    write_xrays(ldp.state / "xrays", images, labels, [f"{index}.png" for index in range(8)])
    encoder = read_card(shipped()).digest
    Path("policy.toml").write_text(POLICY.format(encoder, "8").replace("[policy]", '[policy]\nunits = ["image"]'))
    assert ldp("policy", "sign", "policy.toml", "--officer-key", "officer.key") == 0
    release = joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1)
    world = World(ldp.state, open_site(ldp.state), [make_campaign(encoder=encoder, release=release, ends="2999-12-31")])
    try:
        world.offer()
        assert ldp("campaign", "preview", "pneumonia") == 0
        assert ldp.out.count("as it would leave") == 4
        assert ldp("campaign", "approve", "pneumonia", "--officer-key", "officer.key") == 0
        agent = subprocess.Popen(
            [LDP_CLIENT, "agent", "run", "--interval", "0.05", "--state", ldp.state],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LDP_RELEASE__CHUNK": "3", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while world.site.ledger.acknowledged() < 3 + 2 * 8 and time.monotonic() < deadline:
                time.sleep(0.1)
                if any(document.kind == "state" for document in world.site.outbox.documents()):
                    world.round()
        finally:
            agent.send_signal(signal.SIGTERM)
            _, log = agent.communicate(timeout=30)
        assert agent.returncode == 0
        assert "site is needs_witness" in log
        kinds = "".join(row.kind[0] for row in world.site.ledger.rows(4))
        assert kinds == "cccsss" * 2 + "ccss"  # the environment's chunk of 3
    finally:
        world.site.close()
    assert ldp("ledger", "verify") == 0
    assert "north: 19 entries, 8 records, 0 open charges, 1 campaigns; epsilon per unit at most 2 of 8" in ldp.out
