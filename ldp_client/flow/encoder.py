"""The public encoder that a hospital installs: a card, frozen weights, and what they make of an X-ray.

A bundle is a folder with two files. `card.json` says what the weights are and carries their SHA-256;
`weights.safetensors` holds the flow's tensors (`flow.*`) and the bottleneck's (`bottleneck.mean`,
`bottleneck.projection`). The encoder's digest is the SHA-256 of `card.json`, which holds the card's canonical bytes and
nothing else, so it fixes every weight and `sha256sum card.json` shows it; campaigns and policies name it.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from ldp_client.errors import EncoderError, FormatError, ParameterError
from ldp_client.flow.bottleneck import KINDS, Bottleneck
from ldp_client.flow.glow import Glow, Shape
from ldp_client.flow.inference import FrozenGlow
from ldp_client.flow.preprocess import prepare
from ldp_client.wire.canonical import Digest, Wire, canonical_bytes, parse

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
MAX_CARD_BYTES = 64 * 1024
MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
BATCH = 64
"""Images per pass of the flow: bounds the memory."""

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
DecimalText = Annotated[str, Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}$")]


class EncoderCard(Wire):
    """What an encoder is, where it comes from, and the digest of its weights. No floats: its bytes are canonical."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    data_family: Text
    """Which photographs it was trained on; encoders and test sets of one family must not be crossed."""
    source: Text
    training_images: Count
    held_out_images: Count
    content: Annotated[int, Field(ge=1, le=1024)]
    """Side of the image in pixels, before padding."""
    size: Annotated[int, Field(ge=2, le=1024)]
    channels: Literal[1]
    levels: Annotated[int, Field(ge=1, le=8)]
    steps: Annotated[int, Field(ge=1, le=64)]
    width: Annotated[int, Field(ge=1, le=1024)]
    bits_per_dim: DecimalText
    """On the held-out public images, 8 bits, per pixel of the content."""
    bottleneck: Text
    dimension: Annotated[int, Field(ge=1, le=4096)]
    weights_sha256: Digest
    command: Text
    """The command that made this bundle."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hex."""
        return hashlib.sha256(canonical_bytes(self)).hexdigest()

    @property
    def shape(self) -> Shape:
        """The flow's sizes. Raises ParameterError for a size that is not a multiple of 2**levels."""
        return Shape(self.size, self.levels, self.steps, self.width)


class Encoder:
    """A frozen flow and its bottleneck. Made by `Encoder.load`; nothing that it does changes its state.

    Example:
        >>> encoder = Encoder.load(shipped())
        >>> encoder.encode(torch.full((3, 1, encoder.size, encoder.size), 0.5)).shape
        (3, 16)
    """

    def __init__(
        self, card: EncoderCard, flow: Glow, bottleneck: Bottleneck, hidden: torch.dtype | None = None
    ) -> None:
        self.card = card
        self.flow = flow.eval().requires_grad_(False)
        self.frozen = FrozenGlow(self.flow, hidden)
        self.bottleneck = bottleneck

    @classmethod
    def load(cls, folder: Path, hidden: torch.dtype | None = None) -> Encoder:
        """Read and check a bundle.

        `hidden` is the type of the couplings' hidden layers, for those who measure what bfloat16 changes; a release
        uses the flow's own, which is the default.

        1. the card parses   2. the weights are not too large   3. their digest is the card's   4. they are safetensors
        5. names, shapes and types are the card's   6. values are finite and usable   7. ActNorms are initialised

        Raises EncoderError for the first of these that fails. Nothing is executed: safetensors holds numbers only.
        """
        # (1)
        card = read_card(folder)
        if card.bottleneck not in KINDS:
            raise EncoderError(
                f"asked to load encoder {card.name!r}, its card names the bottleneck {card.bottleneck!r}; "
                f"this version knows {', '.join(KINDS)}: update the software or use another encoder"
            )
        try:
            shape = card.shape
        except ParameterError as error:
            raise EncoderError(f"the card of encoder {card.name!r} describes no possible flow: {error}") from error
        # (2)
        data = _read_capped(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
        # (3)
        found = hashlib.sha256(data).hexdigest()
        if found != card.weights_sha256:
            raise EncoderError(
                f"the weights of encoder {card.name!r} have digest {found[:16]}..., its card says "
                f"{card.weights_sha256[:16]}...; they are altered or truncated: install the bundle again"
            )
        # (4)
        try:
            tensors = parse_safetensors(data)
        except (SafetensorError, KeyError) as error:  # KeyError: a number type that torch does not have
            raise EncoderError(
                f"the weights of encoder {card.name!r} are not a safetensors file; only that format is read"
            ) from error
        # (5) Without memory or randomness: the architecture is laid out on the meta device, then filled.
        with torch.device("meta"):
            flow = Glow(shape)
        _require_layout(card, flow, tensors)
        # (6)
        _require_usable(card, tensors)
        flow.load_state_dict(
            {name.removeprefix("flow."): t for name, t in tensors.items() if name.startswith("flow.")}, assign=True
        )
        bottleneck = Bottleneck(tensors["bottleneck.mean"].numpy(), tensors["bottleneck.projection"].numpy())
        return cls(card, flow, bottleneck, hidden)

    @property
    def digest(self) -> str:
        """The card's digest, which fixes the weights as well."""
        return self.card.digest

    @property
    def dimension(self) -> int:
        """k, the number of coordinates that `encode` returns."""
        return self.card.dimension

    @property
    def size(self) -> int:
        """Side of the input in pixels, padding included."""
        return self.card.size

    @property
    def content(self) -> int:
        """Side of the image inside the padding, in pixels."""
        return self.card.content

    def prepare(
        self,
        pixels: NDArray[np.uint8 | np.uint16],
        *,
        inverted: bool = False,
        window: tuple[float, float] | None = None,
        bits: int = 8,
    ) -> Tensor:
        """Stored pixels (H, W) to this encoder's input (1, size, size); see `preprocess.prepare`."""
        return prepare(pixels, inverted=inverted, window=window, bits=bits, content=self.content, size=self.size)

    def encode(self, images: Tensor) -> NDArray[np.float64]:
        """Prepared images (B, 1, size, size) to bottleneck coordinates (B, k), about unit variance on public X-rays.

        Values that are not finite come out as such and never raise: an error would tell about the image, and
        `privacy.clipping` replaces them. Raises ParameterError for another shape, which no image can cause.

        Convolutions add in float32, in an order that may depend on the batch size, the number of threads and the
        processor; results agree to about 1e-5, so on a grid of 2^-10 a coordinate can rarely fall to the other side
        of a rounding border. Privacy does not rest on this: the clip and the noise start from the integers.
        """
        return self.bottleneck(self.log_scale_map(images))

    def output(self, source: Literal["bottleneck", "latents"], images: Tensor) -> NDArray[np.float64]:
        """What a release reads the first of: coordinates (B, k), or all latents (B, size^2), the finest level first."""
        if source == "bottleneck":
            return self.encode(images)
        if not len(images):
            return np.empty((0, self.output_dimension(source)))
        return torch.cat([level.flatten(1) for level in self.latents(images)], dim=1).double().numpy()

    def output_dimension(self, source: Literal["bottleneck", "latents"]) -> int:
        """How many numbers `output` gives for each X-ray."""
        return self.dimension if source == "bottleneck" else self.card.channels * self.size**2

    def log_scale_map(self, images: Tensor) -> NDArray[np.float64]:
        """Prepared images (B, 1, size, size) to the whole map the bottleneck starts from, (B, L * K * 16)."""
        if not len(images):
            return np.empty((0, self.card.shape.map_dimension))
        with torch.inference_mode():
            maps = [self.frozen.log_scale_map(part).double().numpy() for part in torch.split(images, BATCH)]
        return np.concatenate(maps)

    def latents(self, images: Tensor) -> list[Tensor]:
        """Prepared images (B, 1, size, size) to the latents by level, the finest first, N(0, 1) on public X-rays."""
        with torch.inference_mode():
            parts = [self.frozen.encode(part)[0] for part in torch.split(images, BATCH)]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def decode(self, latents: list[Tensor]) -> Tensor:
        """Latents by level to images (B, 1, size, size)."""
        with torch.inference_mode():
            return self.flow.decode(latents)[0]


def shipped(name: str = "kermany28") -> Path:
    """Folder of an encoder that comes with this package. Raises EncoderError for a name that does not."""
    names = shipped_names()
    if name not in names:
        raise EncoderError(f"asked for the shipped encoder {name!r}; this package ships {', '.join(names) or 'none'}")
    return _shipped_folder() / name


def shipped_names() -> list[str]:
    """The encoders that come with this package."""
    return sorted(path.parent.name for path in _shipped_folder().glob(f"*/{CARD_FILE}"))


def _shipped_folder() -> Path:
    return Path(str(resources.files("ldp_client.flow"))) / "shipped"


def read_card(folder: Path) -> EncoderCard:
    """Read a bundle's card without its weights. Raises EncoderError when it is absent, too large or not a card."""
    data = _read_capped(folder / CARD_FILE, MAX_CARD_BYTES)
    try:
        return parse(EncoderCard, data, limit=MAX_CARD_BYTES)
    except FormatError as error:
        raise EncoderError(f"{CARD_FILE} is not an encoder's card: {error}") from error


def bundle_tensors(flow: Glow, bottleneck: Bottleneck) -> dict[str, Tensor]:
    """The tensors of a bundle by their names in `weights.safetensors`."""
    tensors = {f"flow.{name}": tensor.detach().contiguous() for name, tensor in flow.state_dict().items()}
    tensors["bottleneck.mean"] = torch.from_numpy(bottleneck.mean.copy())
    tensors["bottleneck.projection"] = torch.from_numpy(bottleneck.projection.copy())
    return tensors


def _read_capped(path: Path, cap: int) -> bytes:
    """Read a file of at most `cap` bytes; the limit holds even when the file grows while it is read."""
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except OSError as error:
        raise EncoderError(
            f"asked to load an encoder, {path.name} cannot be read; name a folder with {CARD_FILE} and {WEIGHTS_FILE}"
        ) from error
    if len(data) > cap:
        raise EncoderError(f"{path.name} is larger than the {cap} bytes an encoder may have; use a smaller encoder")
    return data


def _require_layout(card: EncoderCard, flow: Glow, tensors: dict[str, Tensor]) -> None:
    expected = {f"flow.{name}": (tuple(t.shape), t.dtype) for name, t in flow.state_dict().items()}
    expected["bottleneck.mean"] = ((card.shape.map_dimension,), torch.float64)
    expected["bottleneck.projection"] = ((card.dimension, card.shape.map_dimension), torch.float64)
    found = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise EncoderError(
            f"the weights of encoder {card.name!r} are not those of the flow its card describes: {len(wrong)} tensors "
            f"are missing, foreign or of another shape or type, first {wrong[0][:80]!r}; use the card they came with"
        )


def _require_usable(card: EncoderCard, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".initialised"):
            if int(tensor) != 1:  # (7)
                raise EncoderError(
                    f"encoder {card.name!r} was never initialised ({name}); pretrain it before it is published"
                )
        elif name.endswith(".permutation"):
            if not torch.equal(tensor.sort().values, torch.arange(len(tensor))):
                raise EncoderError(f"{name} of encoder {card.name!r} is no permutation; install the bundle again")
        elif name.endswith(".sign"):
            if not bool((tensor.abs() == 1).all()):
                raise EncoderError(
                    f"{name} of encoder {card.name!r} holds other values than 1 and -1; install it again"
                )
        elif not bool(torch.isfinite(tensor).all()):
            raise EncoderError(f"{name} of encoder {card.name!r} holds values that are not finite; install it again")
