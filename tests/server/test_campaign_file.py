"""campaign.toml: every mechanism, and what is said of a key that it has no use for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldp_client.errors import ConfigurationError, ParameterError
from ldp_client.flow.encoder import Encoder, shipped
from ldp_client.privacy.loss import PrivacyLoss
from server.cli.campaign import read_campaign

BASE = """[campaign]
name = "pneumonia"
purpose = "find pneumonia"
encoder = "shipped:kermany28"
labels = ["normal", "pneumonia"]
unit = "patient"
ends = "2030-12-31"
epsilon = "2"
"""


def written(folder: Path, lines: str) -> Path:
    file = folder / "campaign.toml"
    file.write_text(BASE + lines)
    return file


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("", "joint_discrete_laplace"),
        ('radius = "2"\nlabel_code = "one_hot"\nconstant = "1/4"\n', "joint_discrete_laplace"),
        ('mechanism = "joint_codebook"\n', "joint_codebook"),
        ('mechanism = "joint_codebook"\ncodewords = 64\nconstant = "1/2"\n', "joint_codebook"),
        ('mechanism = "latent"\nlabel_epsilon = "1"\n', "latent"),
        ('mechanism = "dp_glow"\nlabel_epsilon = "1"\nbound = "2"\n', "dp_glow"),
    ],
)
def test_every_mechanism_can_be_asked_for(tmp_path: Path, lines: str, kind: str) -> None:
    campaign = read_campaign(written(tmp_path, lines))
    encoder = Encoder.load(shipped())
    assert campaign.release.kind == kind
    assert campaign.loss_per_record == PrivacyLoss.of(2)
    assert campaign.release.input_dimension == (32 * 32 if kind == "dp_glow" else encoder.dimension)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("codewords = 64\n", r"codewords: the mechanism joint_discrete_laplace takes radius, label_code, constant"),
        ('mechanism = "joint_codebook"\nradius = "1"\n', r"radius: the mechanism joint_codebook takes codewords"),
        ('mechanism = "latent"\n', r"label_epsilon: say how much of epsilon 2 the label takes of its own"),
        ('mechanism = "gaussian"\n', r"mechanism"),
        ('lable_code = "simplex"\n', r"lable_code"),
    ],
)
def test_a_key_that_cannot_be_meant_is_refused(tmp_path: Path, lines: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        read_campaign(written(tmp_path, lines))


def test_a_label_that_takes_all_of_epsilon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="leaves nothing for the X-ray"):
        read_campaign(written(tmp_path, 'mechanism = "latent"\nlabel_epsilon = "2"\n'))
