"""Golden and bad vectors of everything that crosses the line: `python tests/vectors/build_vectors.py [FOLDER]`.

The golden files are the format: whoever changes one changes what older ledgers and exports mean. A bad vector is named
after its fault, and says with which words it must be refused. Keys and bytes here are fixed and protect nothing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldp_client.privacy.clipping import clip
from ldp_client.privacy.drawing import draw, prepare
from ldp_client.privacy.histogram import Histogram, count, histogram
from ldp_client.privacy.image_spec import CampaignRelease, ImageSpec, image, noised_release
from ldp_client.privacy.images import make_images
from ldp_client.privacy.laplace import DiscreteLaplace
from ldp_client.privacy.noise import discrete_laplace, shuffled
from ldp_client.privacy.release_design import dp_glow, joint_codebook, joint_laplace, latent
from ldp_client.wire.answer import pack_answer
from ldp_client.wire.campaign import (
    Approval,
    Campaign,
    EvaluationRule,
    Plan,
    Policy,
    campaign_id,
    plan_commitment,
    policy_id,
)
from ldp_client.wire.canonical import Wire, canonical_bytes
from ldp_client.wire.chain import (
    ZERO,
    Abandon,
    ApprovalEntry,
    Charge,
    Genesis,
    KeyRotation,
    LedgerEntry,
    PolicyEntry,
    Query,
    Seal,
    entry_body,
    subject_commitment,
    walk,
)
from ldp_client.wire.envelope import APPROVAL, CAMPAIGN, POLICY, ROTATION, close_envelope
from ldp_client.wire.evaluation import Evaluation, asked_id
from ldp_client.wire.exchange import (
    Batch,
    BatchHeader,
    CampaignAnswer,
    CampaignCode,
    CentralEntry,
    CentreCard,
    Checkpoint,
    Enrolment,
    Grant,
    Payload,
    Receipt,
    Refusal,
    RefusalCode,
    SiteCode,
    SiteState,
    Witness,
    header_id,
    sealed_digest,
)
from ldp_client.wire.record import codebook_seed, pack, record_digest
from ldp_client.wire.rotation import Rotation, rotate
from ldp_client.wire.signing import SealingKey, SigningKey, fingerprint, key_id

SITE, OFFICER, CENTRE = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
SEALING = SealingKey(bytes([4]) * 32)
NEW, STRANGER = (SigningKey(bytes([number]) * 32) for number in (5, 6))
LEDGER = hashlib.sha256(b"a ledger").hexdigest()
ENCODER = hashlib.sha256(b"an encoder").hexdigest()


class Stream:
    """A fixed byte source: SHA-256 of a label and a counter."""

    def __init__(self, label: str) -> None:
        self._label, self._block, self._rest = label.encode(), 0, b""

    def __call__(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._rest += hashlib.sha256(self._label + self._block.to_bytes(8, "big")).digest()
            self._block += 1
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


CAMPAIGN_DOCUMENT = Campaign(
    name="pneumonia-2026",
    purpose='Pneumonia on the chest X-ray: é, 肺, and a "quoted" word',
    encoder=ENCODER,
    release=joint_laplace(epsilon=2, classes=2, bottleneck_dimension=2, radius=1),
    label_names=("normal", "pneumonia"),
    unit="patient",
    cap=2,
    micro_epsilon_per_record=2_000_000,
    ends="2026-12-31",
)
POLICY_DOCUMENT = Policy(
    site="site-a",
    serial=1,
    encoders=(ENCODER,),
    mechanisms=("joint_discrete_laplace",),
    lifetime_micro_epsilon=4_000_000,
)
PLAN_DOCUMENT = Plan(
    campaign=campaign_id(CAMPAIGN_DOCUMENT),
    policy=policy_id(POLICY_DOCUMENT),
    unit="patient",
    records=10,
    units=8,
    units_at_cap=2,
    units_without_budget=0,
    quarantined=1,
    micro_epsilon_per_record=2_000_000,
    bound_micro_epsilon_per_unit=4_000_000,
)
APPROVAL_DOCUMENT = Approval(
    site="site-a",
    ledger_id=LEDGER,
    campaign=campaign_id(CAMPAIGN_DOCUMENT),
    policy=policy_id(POLICY_DOCUMENT),
    plan=plan_commitment(PLAN_DOCUMENT, bytes(32)),
    expires="2026-12-31",
)
STEPS = DiscreteLaplace(CAMPAIGN_DOCUMENT.release.laplace)(
    clip(np.array([[512, -300], [900, 900]], dtype=np.int64), CAMPAIGN_DOCUMENT.release.laplace.clip),
    Stream("record"),
)
RECORDS = pack(STEPS)
OTHER_RELEASES: dict[str, CampaignRelease] = {
    "codebook": joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2, constant="1/2"),
    "one_hot": joint_laplace(
        epsilon=2, classes=3, bottleneck_dimension=2, radius=1, label_code="one_hot", constant="1/4"
    ),
    "latent": latent(epsilon=2, label_epsilon=1, classes=3, bottleneck_dimension=2, radius=1),
    "dp_glow": dp_glow(epsilon=8, label_epsilon=2, classes=2, latents=4),
    "image": image(joint_codebook(epsilon=2, classes=2, bottleneck_dimension=2), side=3, candidates=4),
}
EVALUATION_DOCUMENT = Evaluation(
    name="pneumonia-2026-check",
    purpose="How well the shared classifier does on X-rays that were never released",
    encoder=ENCODER,
    classifier=b'{"a": "classifier"}',
    weights=bytes(range(8)),
    label_names=("normal", "pneumonia"),
    histogram=histogram(epsilon="1/2", classes=2, bins=4, cap=2),
    edges=("-0.5", "0", "0.75"),
    unit="patient",
    cap=2,
    micro_epsilon_per_unit=500_000,
    ends="2026-12-31",
)
COUNTED = {"units": [1, 1, 1, 2, 3], "labels": [0, 0, 0, 1, 1], "bins": [0, 1, 1, 3, 2]}
ANSWER = Histogram(EVALUATION_DOCUMENT.histogram)(
    count(
        EVALUATION_DOCUMENT.histogram,
        COUNTED["units"],
        np.array(COUNTED["labels"], dtype=np.int64),
        np.array(COUNTED["bins"], dtype=np.int64),
    ),
    Stream("answer"),
)
QUERY = Query(
    subjects=hashlib.sha256(b"a committed set").hexdigest(),
    campaign=asked_id(EVALUATION_DOCUMENT),
    approval=3,
    micro_epsilon=500_000,
)
ROTATION_DOCUMENT = Rotation(
    site="site-a",
    ledger_id=LEDGER,
    sequence=7,
    role="site",
    old_key=SITE.public_key.hex(),
    new_key=NEW.public_key.hex(),
)


@dataclass(frozen=True)
class Quadrants:
    """A painter without a flow: one of four grey levels, by the signs of the first two numbers of the estimate."""

    spec: ImageSpec

    def paint(self, estimates: NDArray[np.float64]) -> NDArray[np.uint8]:
        level = 1 + 2 * (estimates[:, 0] > 0) + (estimates[:, 1] > 0)
        return np.repeat(level.astype(np.uint8), self.spec.side**2).reshape(-1, self.spec.side, self.spec.side)


ENTRIES: dict[str, LedgerEntry] = {
    "genesis": Genesis(
        site="site-a",
        ledger_id=LEDGER,
        signing_key=SITE.public_key.hex(),
        officer_keys=(OFFICER.public_key.hex(),),
        secret_commitment=hashlib.sha256(b"a secret").hexdigest(),
    ),
    "policy": PolicyEntry(envelope=close_envelope(POLICY, canonical_bytes(POLICY_DOCUMENT), OFFICER)),
    "approval": ApprovalEntry(envelope=close_envelope(APPROVAL, canonical_bytes(APPROVAL_DOCUMENT), OFFICER)),
    "charge": Charge(
        subject=subject_commitment(b"a patient key", bytes(32)),
        campaign=campaign_id(CAMPAIGN_DOCUMENT),
        approval=3,
        micro_epsilon=2_000_000,
    ),
    "seal": Seal(charge=4, record=record_digest(campaign_id(CAMPAIGN_DOCUMENT), 4, RECORDS[0])),
    "abandon": Abandon(charge=6),
    "key_rotation": rotate(ROTATION_DOCUMENT, OFFICER, NEW, SITE),
}
LOST = rotate(ROTATION_DOCUMENT, OFFICER, NEW, None)
BODIES = [entry_body(entry) for entry in ENTRIES.values()]
HEADS = walk(LEDGER, 1, ZERO, BODIES)
SEALED = b"sealed bytes stand here"
HEADER = BatchHeader(
    site="site-a",
    ledger_id=LEDGER,
    first=1,
    last=5,
    previous_head=ZERO,
    head=HEADS[4],
    records=1,
    sealed_digest=sealed_digest(SEALED),
    sealed_bytes=len(SEALED),
    day="2026-03-01",
)
DOCUMENTS: dict[str, Wire] = {
    "campaign": CAMPAIGN_DOCUMENT,
    "policy": POLICY_DOCUMENT,
    "policy_with_evaluations": POLICY_DOCUMENT.model_copy(
        update={"evaluations": EvaluationRule(share_percent=20, max_micro_epsilon=1_000_000)}
    ),
    "evaluation": EVALUATION_DOCUMENT,
    "plan": PLAN_DOCUMENT,
    "approval": APPROVAL_DOCUMENT,
    "enrolment": Enrolment(site="site-a", name="Hôpital A", genesis=ENTRIES["genesis"], node_key="ssh-key"),  # type: ignore[arg-type]
    "centre_card": CentreCard(name="Centre", signing_key=CENTRE.public_key.hex(), sealing_key=SEALING.public_key.hex()),
    "site_state": SiteState(
        site="site-a",
        ledger_id=LEDGER,
        sequence=5,
        head=HEADS[4],
        acknowledged=0,
        code=SiteCode.NEEDS_WITNESS,
        nonce="ab" * 32,
        campaigns=(CampaignAnswer(campaign=campaign_id(CAMPAIGN_DOCUMENT), code=CampaignCode.APPROVED),),
    ),
    "witness": Witness(nonce="ab" * 32, site="site-a", ledger_id=LEDGER, sequence=1, head=HEADS[0]),
    "header": HEADER,
    "batch": Batch(
        site="site-a",
        ledger_id=LEDGER,
        first=1,
        previous_head=ZERO,
        entries=tuple(BODIES[:5]),
        payloads=(Payload(seal=5, record=RECORDS[0]),),
    ),
    "grant": Grant(site="site-a", ledger_id=LEDGER, header=header_id(HEADER)),
    "receipt": Receipt(
        site="site-a",
        ledger_id=LEDGER,
        first=1,
        sequence=5,
        head=HEADS[4],
        header=header_id(HEADER),
        batch_digest=sealed_digest(SEALED),
        central_sequence=3,
        central_head="cd" * 32,
        refused=(Refusal(seal=5, code=RefusalCode.CONTENTS),),
    ),
    "central_entry": CentralEntry(
        kind="batch",
        site="site-a",
        ledger_id=LEDGER,
        first=1,
        sequence=5,
        head=HEADS[4],
        reference=sealed_digest(SEALED),
    ),
    "rotation": ROTATION_DOCUMENT,
    "checkpoint": Checkpoint(party="site-a", ledger_id=LEDGER, sequence=5, head=HEADS[4]),
}


def golden() -> dict[str, dict[str, Any]]:
    """Every golden vector by its file's stem."""
    vectors: dict[str, dict[str, Any]] = {}
    for name, document in DOCUMENTS.items():
        body = canonical_bytes(document)
        vectors[name] = {
            "kind": type(document).__name__,
            "bytes": body.decode(),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    for name, body in zip(ENTRIES, BODIES, strict=True):
        vectors[f"entry_{name}"] = {"kind": "LedgerEntry", "bytes": body.decode()}
    vectors["entry_key_rotation_old_key_lost"] = {"kind": "LedgerEntry", "bytes": entry_body(LOST).decode()}
    vectors["entry_query"] = {"kind": "LedgerEntry", "bytes": entry_body(QUERY).decode()}
    vectors["answer"] = {
        **COUNTED,
        "cap": EVALUATION_DOCUMENT.cap,
        "counts": ANSWER.counts.tolist(),
        "hex": pack_answer(ANSWER).hex(),
        "digest_at_query_4": record_digest(asked_id(EVALUATION_DOCUMENT), 4, pack_answer(ANSWER)),
    }
    vectors["identifiers"] = {
        "campaign": campaign_id(CAMPAIGN_DOCUMENT),
        "evaluation": asked_id(EVALUATION_DOCUMENT),
        "policy": policy_id(POLICY_DOCUMENT),
        "plan_commitment": plan_commitment(PLAN_DOCUMENT, bytes(32)),
        "header": header_id(HEADER),
        "site_key": key_id(SITE.public_key).hex(),
        "site_fingerprint": fingerprint(SITE.public_key),
        "subject": subject_commitment(b"a patient key", bytes(32)),
    }
    vectors["chain"] = {"ledger_id": LEDGER, "bodies": [body.decode() for body in BODIES], "heads": HEADS}
    vectors["envelope"] = {
        "payload_type": CAMPAIGN,
        "payload": canonical_bytes(CAMPAIGN_DOCUMENT).decode(),
        "secret": CENTRE.secret.hex(),
        "hex": close_envelope(CAMPAIGN, canonical_bytes(CAMPAIGN_DOCUMENT), CENTRE).hex(),
    }
    vectors["record"] = {
        "steps": STEPS.steps.tolist(),
        "hex": [record.hex() for record in RECORDS],
        "digest_at_charge_4": [record_digest(campaign_id(CAMPAIGN_DOCUMENT), 4, record) for record in RECORDS],
    }
    for name, release in OTHER_RELEASES.items():
        document = CAMPAIGN_DOCUMENT.model_copy(
            update={
                "release": release,
                "label_names": ("normal", "pneumonia", "effusion")[: release.classes],
                "micro_epsilon_per_record": release.loss.micro_epsilon,
            }
        )
        outputs = np.linspace(-1, 1, 2 * release.input_dimension).reshape(2, -1)
        seeds = [codebook_seed(campaign_id(document), "site-a", charge) for charge in (4, 6)]
        prepared = prepare(noised_release(release), outputs, np.array([0, 1], dtype=np.int64))
        drawn = draw(noised_release(release), prepared, seeds, Stream(name))
        made = make_images(Quadrants(release), drawn, Stream("labels")) if isinstance(release, ImageSpec) else drawn
        vectors[f"release_{name}"] = {
            "kind": "Campaign",
            "bytes": canonical_bytes(document).decode(),
            "outputs": outputs.tolist(),
            "labels": [0, 1],
            "charges": [4, 6],
            "records": [record.hex() for record in pack(made)],
        }
    vectors["draws"] = {
        "what": "from the byte stream SHA-256(scale | counter): the same bytes must give the same draws for ever",
        **{
            scale: discrete_laplace(Fraction(scale), 12, Stream(scale)).tolist()
            for scale in ("3/10", "1", "5/2", "1000/3", "12345.678")
        },
        "shuffled": shuffled(12, Stream("shuffled")).tolist(),
    }
    return vectors


def bad_rotations() -> dict[str, tuple[KeyRotation, str]]:
    """Rotations as entry 7 of the golden chain that must not be believed: what the entries before them say decides."""

    def other(**changes: Any) -> Rotation:
        return Rotation(**{**ROTATION_DOCUMENT.model_dump(), **changes})

    def signed(document: Wire, key: SigningKey) -> bytes:
        return close_envelope(ROTATION, canonical_bytes(document), key)

    good = ENTRIES["key_rotation"]
    if not isinstance(good, KeyRotation):
        raise TypeError("the golden rotation is another entry")
    stranger = other(new_key=STRANGER.public_key.hex())
    not_in_force = other(old_key=STRANGER.public_key.hex())
    signatures = {
        "signed_by_no_officer": (good.model_copy(update={"by_officer": good.by_new}), "is not an officer of this site"),
        "new_key_not_proved": (good.model_copy(update={"by_new": good.by_officer}), "signed by the new key; found"),
        "new_key_proved_for_another": (
            rotate(stranger, OFFICER, STRANGER, None).model_copy(
                update={"by_new": signed(ROTATION_DOCUMENT, STRANGER)}
            ),
            "the new key has signed another rotation",
        ),
        "old_key_signed_by_another": (
            good.model_copy(update={"by_old": good.by_officer}),
            "signed by the old key; found",
        ),
        "old_key_signed_another": (
            good.model_copy(update={"by_old": signed(stranger, SITE)}),
            "the old key has signed another rotation",
        ),
    }
    contents = {
        "of_another_place": (rotate(other(sequence=6), OFFICER, NEW, SITE), "another site, ledger or place"),
        "of_another_site": (rotate(other(site="site-b"), OFFICER, NEW, SITE), "another site, ledger or place"),
        "of_a_key_not_in_force": (rotate(not_in_force, OFFICER, NEW, STRANGER), "a key that is not in force"),
        "to_a_key_known_before": (
            rotate(other(new_key=OFFICER.public_key.hex()), OFFICER, OFFICER, SITE),
            "that this ledger has known before",
        ),
        "of_an_officer_who_is_none": (rotate(other(role="officer"), OFFICER, NEW, SITE), "a key that is not in force"),
    }
    return signatures | contents


UNREADABLE = "that this version can read"
NOT_CANONICAL = "but not its canonical bytes"


def bad() -> dict[str, dict[str, Any]]:
    """Every bad vector by its fault, with words of the refusal. `spaces` are appended before it is read."""
    campaign = canonical_bytes(CAMPAIGN_DOCUMENT).decode()
    charge = entry_body(ENTRIES["charge"]).decode()
    envelope = entry_body(ENTRIES["policy"]).decode()
    lost = entry_body(LOST).decode()
    rotation = canonical_bytes(ROTATION_DOCUMENT).decode()
    evaluation = canonical_bytes(EVALUATION_DOCUMENT).decode()
    reordered = json.dumps(dict(reversed(json.loads(campaign).items())), separators=(",", ":"), ensure_ascii=False)

    def changed(text: str, old: str, new: str) -> str:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in the vector")
        return text.replace(old, new)

    laplace = "at 'release.joint_discrete_laplace.laplace"
    campaigns = {
        "duplicate_key": (changed(campaign, '"cap":2,', '"cap":1,"cap":2,'), NOT_CANONICAL),
        "extra_key": (changed(campaign, '{"cap":2,', '{"Mrs Example":1,"cap":2,'), "first fault at 'the start'"),
        "missing_key": (changed(campaign, '"cap":2,', ""), "first fault at 'cap'"),
        "white_space": (changed(campaign, '"cap":2,', '"cap": 2,'), NOT_CANONICAL),
        "line_end": (campaign + "\n", NOT_CANONICAL),
        "byte_order_mark": ("\ufeff" + campaign, UNREADABLE),
        "reordered_keys": (reordered, NOT_CANONICAL),
        "escaped_character": (changed(campaign, "é", "\\u00e9"), NOT_CANONICAL),
        "lone_surrogate": (changed(campaign, "é", "\\ud800"), UNREADABLE),
        "float": (changed(campaign, '"cap":2,', '"cap":2.0,'), "first fault at 'cap'"),
        "exponent": (changed(campaign, '"cap":2,', '"cap":2e0,'), "first fault at 'cap'"),
        "nan": (changed(campaign, '"cap":2,', '"cap":NaN,'), "first fault at 'cap'"),
        "infinity": (changed(campaign, '"cap":2,', '"cap":Infinity,'), "first fault at 'cap'"),
        "number_as_text": (changed(campaign, '"cap":2,', '"cap":"2",'), "first fault at 'cap'"),
        "truth_as_number": (changed(campaign, '"cap":2,', '"cap":true,'), "first fault at 'cap'"),
        "null": (changed(campaign, '"cap":2,', '"cap":null,'), "first fault at 'cap'"),
        "wrong_version": (changed(campaign, '"schema_version":1', '"schema_version":2'), "at 'schema_version'"),
        "unknown_mechanism": (changed(campaign, '"joint_discrete_laplace"', '"gaussian"'), "at 'release'"),
        "sensitivity_as_a_field": (
            changed(campaign, '"radius_steps":1024', '"radius_steps":1024,"sensitivity_steps":1'),
            laplace + ".clip.l1'",
        ),
        "scale_not_reduced": (changed(campaign, '"1024/1"', '"2048/2"'), NOT_CANONICAL),
        "scale_as_decimal": (changed(campaign, '"1024/1"', '"1024.0"'), NOT_CANONICAL),
        "scale_with_exponent": (
            changed(campaign, '"1024/1"', '"1e999999999"'),
            laplace + ".scale'",
        ),
        "scale_zero": (changed(campaign, '"1024/1"', '"0/1"'), laplace + "'"),
        "scale_over_zero": (
            changed(campaign, '"1024/1"', '"1024/0"'),
            laplace + ".scale'",
        ),
        "loss_says_less": (changed(campaign, '"micro_epsilon_per_record":2000000', '"micro_epsilon_per_record":1'), ""),
        "upper_case_digest": (changed(campaign, ENCODER, ENCODER.upper()), "at 'encoder'"),
        "control_character": (changed(campaign, "é", "\\u001b[2J"), "at 'purpose'"),
        "right_to_left_override": (changed(campaign, "é", "\u202e"), "at 'purpose'"),
        "day_not_in_the_calendar": (changed(campaign, "2026-12-31", "2026-02-30"), "at 'ends'"),
        "truncated": (campaign[:-1], UNREADABLE),
        "empty": ("", UNREADABLE),
        "list": ("[" + campaign + "]", UNREADABLE),
        "deeply_nested": ("[" * 10_000, UNREADABLE),
    }
    entries = {
        "entry_unknown_kind": ('{"entry":{"charge":6,"kind":"refund"}}', "at 'entry'"),
        "entry_without_kind": ('{"entry":{"charge":6}}', "at 'entry'"),
        "entry_charge_of_nothing": (changed(charge, '"micro_epsilon":2000000', '"micro_epsilon":0'), "micro_epsilon"),
        "entry_charge_below_nothing": (
            changed(charge, '"micro_epsilon":2000000', '"micro_epsilon":-1'),
            "micro_epsilon",
        ),
        "entry_charge_beyond_every_budget": (
            changed(charge, '"micro_epsilon":2000000', '"micro_epsilon":' + "9" * 40),
            "micro_epsilon",
        ),
        "entry_sequence_beyond_64_bits": (changed(charge, '"approval":3', f'"approval":{2**63}'), "approval"),
        "entry_patient_name": (changed(charge, '"kind"', '"Mrs Example":1,"kind"'), "first fault at 'entry.charge')"),
        "entry_base64_of_another_alphabet": (_other_alphabet(envelope), NOT_CANONICAL),
        "entry_rotation_without_new_key": (
            changed(lost, f'"by_new":"{json.loads(lost)["entry"]["by_new"]}",', ""),
            "at 'entry.key_rotation.by_new'",
        ),
        "entry_rotation_without_officer": (
            changed(lost, json.loads(lost)["entry"]["by_officer"].join('""'), "null"),
            "at 'entry.key_rotation.by_officer'",
        ),
        "entry_base64_without_padding": (changed(envelope, '","kind"', '=","kind"'), ""),
    }
    evaluations = {
        "loss_says_less": (
            changed(evaluation, '"micro_epsilon_per_unit":500000', '"micro_epsilon_per_unit":1'),
            "first fault at 'the start'",
        ),
        "counts_for_another_cap": (
            changed(evaluation, '{"cap":2,"classifier"', '{"cap":3,"classifier"'),
            "first fault at 'the start'",
        ),
        "edges_not_ascending": (
            changed(evaluation, '["-0.5","0","0.75"]', '["-0.5","0.75","0"]'),
            "first fault at 'the start'",
        ),
        "edge_as_number": (changed(evaluation, '["-0.5","0","0.75"]', '["-0.5",0,"0.75"]'), "at 'edges"),
        "edge_without_end": (changed(evaluation, '"0.75"', '"0.' + "3" * 100 + '"'), "at 'edges"),
        "edge_missing": (changed(evaluation, '["-0.5","0","0.75"]', '["-0.5","0"]'), "first fault at 'the start'"),
        "same_label_twice": (
            changed(evaluation, '["normal","pneumonia"]', '["normal","normal"]'),
            "first fault at 'the start'",
        ),
        "without_classifier": (
            changed(evaluation, _text_of(evaluation, "classifier"), ""),
            "first fault at 'the start'",
        ),
        "sensitivity_as_a_field": (changed(evaluation, '"bins":4', '"bins":4,"sensitivity":1'), "at 'histogram"),
        "of_no_bins": (changed(evaluation, '"bins":4', '"bins":0'), "at 'histogram"),
    }
    query = entry_body(QUERY).decode()
    entries |= {
        "entry_query_of_nothing": (changed(query, '"micro_epsilon":500000', '"micro_epsilon":0'), "micro_epsilon"),
        "entry_query_without_set": (changed(query, f',"subjects":"{QUERY.subjects}"', ""), "at 'entry.query.subjects'"),
        "entry_query_that_counts_its_set": (
            changed(query, '"kind"', '"count":5,"kind"'),
            "first fault at 'entry.query')",
        ),
    }
    vectors: dict[str, dict[str, Any]] = {}
    for name, (text, error) in evaluations.items():
        vectors[f"bad_evaluation_{name}"] = {"kind": "Evaluation", "bytes": text, "error": error}
    for name, (text, error) in campaigns.items():
        vectors[f"bad_{name}"] = {"kind": "Campaign", "bytes": text, "error": error}
    for name, (text, error) in entries.items():
        vectors[f"bad_{name}"] = {"kind": "LedgerEntry", "bytes": text, "error": error}
    rotations = {
        "rotation_of_an_unknown_role": (changed(rotation, '"role":"site"', '"role":"centre"'), "at 'role'"),
        "rotation_at_no_place": (changed(rotation, '"sequence":7', '"sequence":0'), "at 'sequence'"),
        "rotation_to_a_short_key": (changed(rotation, NEW.public_key.hex(), NEW.public_key.hex()[:62]), "at 'new_key'"),
    }
    for name, (text, error) in rotations.items():
        vectors[f"bad_{name}"] = {"kind": "Rotation", "bytes": text, "error": error}
    for name, (entry, error) in bad_rotations().items():
        vectors[f"bad_rotation_{name}"] = {"kind": "KeyRotation", "bytes": entry_body(entry).decode(), "error": error}
    vectors["bad_too_large"] = {
        "kind": "Campaign",
        "bytes": campaign,
        "spaces": 1 << 20,
        "error": "has at most 1048576",
    }
    vectors["bad_entry_too_large"] = {
        "kind": "LedgerEntry",
        "bytes": charge,
        "spaces": 1 << 16,
        "error": "at most 65536",
    }
    for vector in vectors.values():
        # Lone surrogates and control characters are escapes inside these texts, never characters of the file.
        vector["bytes"].encode()
    return vectors


def _text_of(text: str, field: str) -> str:
    found: str = json.loads(text)[field]
    return found


def _other_alphabet(text: str) -> str:
    start = text.index('"envelope":"') + len('"envelope":"')
    end = text.index('"', start)
    other = text[start:end].translate(str.maketrans("-_+/", "+/-_"))
    if other == text[start:end]:
        raise ValueError("the vector needs a character in which the alphabets differ")
    return text[:start] + other + text[end:]


def main(folder: Path) -> None:
    """Write every vector into its file."""
    for name, vector in {**golden(), **bad()}.items():
        text = json.dumps(vector, sort_keys=True, indent=1, ensure_ascii=True) + "\n"
        (folder / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
