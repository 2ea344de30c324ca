"""Every refusal of this software, in one tree. Bugs are not refusals and stay ordinary exceptions.

    LdpError                          exit 1
    ├── ParameterError                exit 2   a value that no mechanism, clip or loss can have
    ├── ConfigurationError            exit 2   a TOML file, an option or a key file that cannot be used
    ├── PolicyRefusedError            exit 3   the site's signed policy does not allow it
    ├── BudgetExceededError           exit 4   a unit's lifetime budget does not hold it
    ├── WaitingError                  exit 5   somebody else has to act first (approval, witness)
    ├── VerificationError             exit 6   bytes are not what they claim to be
    │   ├── FormatError                        not the canonical bytes of a known document
    │   ├── EnvelopeError                      signature, signer or seal is wrong
    │   │   ├── SealError                      sealed to another key, or altered
    │   │   └── SignerError                    a good signature, by another party than it must be
    │   ├── DigestError                        other bytes than their header announced
    │   ├── NotGrantedError                    a batch that nobody was given leave to send
    │   ├── ChainError                         an entry does not continue its ledger
    │   │   ├── OutOfOrderError                entries before it are still missing
    │   │   ├── CloneError                     another ledger id than the one enrolled
    │   │   ├── ForkError                      two histories under one ledger id
    │   │   └── RollbackError                  a ledger older than what the centre has seen of it
    │   ├── EncoderError                       weights or card are not a usable encoder
    │   ├── ClassifierError                    a bundle is not a usable classifier, or not for this encoder
    │   └── AuditError                         a mechanism gives away more than it claims, or an audit is blind
    ├── ExchangeError                 exit 7   connection or authentication failed
    └── QuarantinedError              exit 8   one input was set aside; the rest goes on

A message says what was asked, what was found and the way out. It never holds a pixel, a name, a date, a patient key or
free DICOM text: messages are logged, and logs travel.
"""

from __future__ import annotations

from typing import ClassVar


class LdpError(Exception):
    """A refusal. `exit_code` is what a command returns; `code` is what may cross the line."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "refused"


class ParameterError(LdpError, ValueError):
    """A parameter that no clip, mechanism or loss can have."""

    exit_code = 2
    code = "parameter"


class ConfigurationError(LdpError):
    """A file, an option or a key that cannot be used as it stands."""

    exit_code = 2
    code = "configuration"


class PolicyRefusedError(LdpError):
    """The site's signed policy does not allow what was asked."""

    exit_code = 3
    code = "policy_refused"


class BudgetExceededError(LdpError):
    """A release would take a unit past its lifetime budget. `way_out` completes the sentence."""

    exit_code = 4
    code = "budget_exceeded"

    def __init__(self, unit: str, requested: str, remaining: str, way_out: str | None = None) -> None:
        self.unit, self.requested, self.remaining = unit, requested, remaining
        way_out = way_out or f"lower the campaign's epsilon or leave this {unit} out"
        super().__init__(
            f"the release asks epsilon {requested} of a unit ({unit}) that has {remaining} left; {way_out}"
        )


class WaitingError(LdpError):
    """Nothing is wrong, but somebody else has to act first; the same command works later."""

    exit_code = 5
    code = "waiting"


class VerificationError(LdpError):
    """Bytes are not what they claim to be."""

    exit_code = 6
    code = "verification_failed"


class DamagedError(VerificationError):
    """The file that a ledger lies in does not read as it was written."""

    code = "damaged"

    def __init__(self, what: str = "the ledger's file is damaged") -> None:
        # Not with the database's own text: that may quote what it has read.
        super().__init__(
            f"{what}: it does not read as it was written. Stop what works with it, keep the file, and put the newest "
            "copy of it that this machine has in its place"
        )


class FormatError(VerificationError):
    """Not the canonical bytes of a document this version knows."""

    code = "parse"


class EnvelopeError(VerificationError):
    """A signature, a signer or a seal is wrong."""

    code = "signature"


class SealError(EnvelopeError):
    """Bytes that were sealed to another key, or altered on the way."""

    code = "seal"


class SignerError(EnvelopeError):
    """Well signed, but by another party than the one it must come from."""

    code = "signer"


class DigestError(VerificationError):
    """Other bytes than their signed header announced."""

    code = "digest"


class NotGrantedError(VerificationError):
    """A batch that nobody was given leave to send."""

    code = "not_granted"


class ChainError(VerificationError):
    """An entry does not continue its ledger."""

    code = "chain"


class OutOfOrderError(ChainError):
    """Entries before these are still missing; the same bytes are welcome later."""

    code = "out_of_order"


class CloneError(ChainError):
    """Another ledger id than the one that was enrolled."""

    code = "clone"


class ForkError(ChainError):
    """Two different histories under one ledger id."""

    code = "fork"


class RollbackError(ChainError):
    """A ledger is older than what the centre has already seen of it."""

    code = "rollback"


class EncoderError(VerificationError):
    """Weights or card are not a usable encoder."""

    code = "encoder"


class ClassifierError(VerificationError):
    """A bundle is not a usable classifier, or is one for another encoder."""

    code = "classifier"


class AuditError(VerificationError):
    """An audit measured that a mechanism gives away more than it claims, or did not notice a bug put in on purpose."""

    code = "audit"


class ExchangeError(LdpError):
    """A connection or an authentication failed."""

    exit_code = 7
    code = "exchange"


class QuarantinedError(LdpError):
    """One input was set aside, with an enumerated reason; the rest goes on."""

    exit_code = 8
    code = "quarantined"

    def __init__(self, reason: str, way_out: str) -> None:
        self.reason = reason
        super().__init__(f"set aside ({reason}): {way_out}")
