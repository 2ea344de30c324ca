"""Why one input is set aside. The rest of the data set goes on; what is set aside is never released.

The reasons are a closed list: a report counts them, and free text about a file (its name, its tags) never enters one.
"""

from __future__ import annotations

from enum import StrEnum

from ldp_client.errors import QuarantinedError


class Reason(StrEnum):
    """The closed list of reasons; docs/data.md says for each what exactly is looked at."""

    UNREADABLE = "unreadable"
    NOT_CHEST = "not_chest"
    NOT_FRONTAL = "not_frontal"
    NOT_RADIOGRAPH = "not_radiograph"
    SECONDARY_CAPTURE = "secondary_capture"
    BURNED_IN_ANNOTATION = "burned_in_annotation"
    MULTI_FRAME = "multi_frame"
    MISSING_LABEL = "missing_label"
    UNKNOWN_LABEL = "unknown_label"
    MISSING_PATIENT = "missing_patient"
    DUPLICATE = "duplicate"
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"


_WAY_OUT = {
    Reason.UNREADABLE: "export it again as DICOM (Explicit VR Little Endian), PNG or JPEG in 8 or 16 bit grey",
    Reason.NOT_CHEST: "leave it out, or correct BodyPartExamined at its source",
    Reason.NOT_FRONTAL: "only frontal views (PA, AP) are released; leave it out, or correct ViewPosition at its source",
    Reason.NOT_RADIOGRAPH: "only grey radiographs (CR, DX, RG) are released; leave it out",
    Reason.SECONDARY_CAPTURE: "take the original image from the archive instead of a capture of a screen",
    Reason.BURNED_IN_ANNOTATION: "text in the pixels may name the patient; take the image without it",
    Reason.MULTI_FRAME: "export the one frame that is meant as a file of its own",
    Reason.MISSING_LABEL: "add a row for it to the labels file, or take it out of the folder",
    Reason.UNKNOWN_LABEL: "use one of the campaign's label names, or take the row out",
    Reason.MISSING_PATIENT: "fill the patient column of its row, or PatientID in the DICOM file",
    Reason.DUPLICATE: "the same pixels are already in this data set; take one of the two files out",
    Reason.TOO_LARGE: "export it smaller; nothing above the limit is decoded",
    Reason.TOO_SMALL: "export it in its original size",
}


def set_aside(reason: Reason, found: str) -> QuarantinedError:
    """Return the error that sets one input aside, with what was found and the way out.

    Args:
        reason: from the closed list.
        found: what was found, as fixed words and numbers; never text out of the file.
    """
    return QuarantinedError(reason.value, f"{found}; {_WAY_OUT[reason]}")
