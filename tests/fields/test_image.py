"""image: safe decoding against Pillow, statistics, and augmentation against what it should do to pixels."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pictures

from modelworks.core.errors import DataError
from modelworks.fields import _warp
from modelworks.fields.image import Image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)


def saved(pixels: np.ndarray | Pictures.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Pictures.Image) else Pictures.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def tensors(pixels: np.ndarray) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels))


def files(*data: bytes) -> pa.Array:
    return pa.array(data, pa.binary())


GREY = Image(size=(4, 4), channels=1).fit([tensors(PIXELS[..., 0])])
COLOUR = Image().fit([tensors(PIXELS)])


def test_tensors_files_structs_and_paths_are_one(tmp_path: Path) -> None:
    pngs = [saved(picture) for picture in PIXELS]
    for row, data in enumerate(pngs):
        (tmp_path / f"{row}.png").write_bytes(data)
    expected = PIXELS.transpose(0, 3, 1, 2)
    columns = [
        tensors(PIXELS),
        tensors(expected),
        tensors(PIXELS).slice(0),
        files(*pngs),
        pa.array([{"bytes": data, "path": None} for data in pngs]),
        pa.array([{"bytes": None, "path": f"{row}.png"} for row in range(30)]),
        pa.array([f"{row}.png" for row in range(30)]),
        pa.array(PIXELS.tolist()),
    ]
    for column in columns:
        field = Image().fit([column.slice(0, 11), column.slice(11)], tmp_path)
        assert field.layout.shape == (3, 8, 6)
        assert np.array_equal(field.encode(column, tmp_path).values, expected)
        assert np.array_equal(field.encode(column.slice(7, 3), tmp_path).values, expected[7:10])
        assert field.state["mean"] == pytest.approx(PIXELS.mean((0, 1, 2)))
        assert field.state["std"] == pytest.approx(PIXELS.std((0, 1, 2)))
        assert np.array_equal(field.decode(expected)[5], PIXELS[5])


def test_prepare_normalises_and_restore_undoes_it() -> None:
    stored = torch.from_numpy(COLOUR.encode(tensors(PIXELS)).values)
    prepared = COLOUR.prepare(stored)
    assert torch.allclose(prepared.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(prepared.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert torch.equal(COLOUR.restore(prepared), stored)
    grey = Image().fit([tensors(PIXELS[..., 0])])
    assert grey.prepare(torch.from_numpy(grey.encode(tensors(PIXELS[..., 0])).values)).std(
        correction=0
    ) == pytest.approx(1)


def test_sizes_and_channels_are_learned() -> None:
    def learned(*shapes: tuple[int, ...]) -> tuple[int, ...]:
        return (
            Image()
            .fit([files(*(saved(RNG.integers(0, 256, shape, np.uint8)) for shape in shapes))])
            .layout.shape
        )

    assert learned(*[(20, 30)] * 3) == (1, 20, 30)
    assert learned(*[(20, 30, 3)] * 9, (5, 5)) == (3, 20, 30)
    assert learned((90, 150), (100, 70), (200, 100)) == (1, 64, 64)
    assert learned((400, 300), (500, 300)) == (1, 224, 224)
    assert learned((10, 20), (12, 30), (14, 14)) == (1, 12, 12)
    grey_in_colours = files(saved(np.repeat(PIXELS[0, :, :, :1], 3, 2)))
    assert Image().fit([grey_in_colours]).layout.shape[0] == 1


def test_resizing() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    found = {
        way: Image(size=4, resize=way).fit([files(saved(wide))]).encode(files(saved(wide))).values[0]
        for way in ("stretch", "crop", "pad")
    }
    assert (found["crop"] == 200).all()
    assert (found["pad"][:, [0, 3]] == 0).all()
    assert found["pad"].max() > 150
    expected = np.asarray(Pictures.fromarray(wide).resize((4, 4), Pictures.Resampling.BILINEAR))[:, :, 0]
    assert np.array_equal(found["stretch"][0], expected)


def test_every_mode_of_pillow() -> None:
    ramp = np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4)
    clear = np.dstack([ramp] * 3 + [np.full((4, 4), 0, np.uint8)])
    palette = Pictures.fromarray(np.dstack([ramp] * 3)).convert("P", palette=Pictures.Palette.ADAPTIVE)
    turned = Pictures.Exif()
    turned[0x0112] = 6
    first, second = Pictures.fromarray(ramp), Pictures.fromarray(255 - ramp)
    cases = [
        (saved(ramp), ramp),
        (saved(ramp.astype(np.uint16) * 257), ramp),
        (saved((ramp.astype(np.uint16) * 257), "TIFF"), ramp),
        (saved(Pictures.fromarray(ramp.astype(np.float32)), "TIFF"), ramp),
        (saved(clear), np.full((4, 4), 255)),
        (saved(palette), ramp),
        (
            saved(Pictures.fromarray(ramp).convert("1")),
            np.asarray(Pictures.fromarray(ramp).convert("1")) * 255,
        ),
        (saved(ramp, exif=turned), np.rot90(ramp, -1)),
        (saved(first, "GIF", save_all=True, append_images=[second]), ramp),
        (saved(ramp, "BMP"), ramp),
        (saved(Pictures.fromarray(np.dstack([ramp] * 3)).convert("CMYK"), "TIFF"), ramp),
    ]
    found = GREY.encode(files(*(data for data, _ in cases)))
    assert found.bad == {}
    for row, (_, expected) in enumerate(cases):
        assert np.abs(found.values[row, 0].astype(int) - expected).max() <= 1, row


def test_bombs_and_broken_files_are_refused_quickly(tmp_path: Path) -> None:
    def bomb(width: int, height: int) -> bytes:
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = b"IDAT" + zlib.compress(b"\0" * 1000)

        def chunk(body):
            return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

        return b"\x89PNG\r\n\x1a\n" + chunk(header) + chunk(data) + chunk(b"IEND")

    good = saved(PIXELS[0], "JPEG")
    start = time.perf_counter()
    found = GREY.encode(
        files(bomb(9000, 9000), bomb(60_000, 60_000), bomb(100, 100), good[:300], b"%!PS-Adobe", b"", good)
    )
    assert time.perf_counter() - start < 1
    assert sorted(found.bad) == [0, 1, 2, 3, 4, 5]
    assert "megapixels" in found.bad[0]
    assert "megapixels" in found.bad[1]
    assert "broken picture" in found.bad[3]
    missing = COLOUR.encode(pa.array(["no.png", "", None, "\0", "."]), tmp_path)
    assert sorted(missing.bad) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="no readable picture"):
        Image().fit([files(b"x", b"y")])


def test_flipped_bytes_never_raise() -> None:
    datas = []
    for seed in range(120):
        random = np.random.default_rng(seed)
        data = bytearray(saved(PIXELS[0], ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"][seed % 6]))
        for at in random.integers(0, len(data), 4):
            data[at] = random.integers(256)
        datas.append(bytes(data))
    assert len(COLOUR.encode(files(*datas)).values) == 120


# ------------------------------------------------------------------------------------------- augmentation
def batch(rows: int = 16) -> torch.Tensor:
    return torch.from_numpy(PIXELS.transpose(0, 3, 1, 2)[:rows].copy())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ALL = {"flip": True, "rotate": 15, "shift": 0.1, "scale": 0.1, "crop_padding": 1, "jitter": 0.2, "erase": 0.5}


@pytest.mark.parametrize(
    "options", [{name: value} for name, value in ALL.items()] + [ALL, {**ALL, "rotate": 0, "scale": 0}]
)
@pytest.mark.parametrize("fill", ["black", "edge", "reflect"])
def test_augmentation_is_the_generators_alone(options: dict, fill: str) -> None:
    field = COLOUR.but(**options, fill=fill).with_state(COLOUR.state)
    stored = batch()
    before = stored.clone()
    torch.manual_seed(1)
    first = field.augment(stored, generator())
    torch.manual_seed(2)
    again = field.augment(stored, generator())
    assert torch.equal(first, again)
    assert torch.equal(stored, before)
    assert first.dtype == torch.uint8
    assert first.shape == stored.shape
    assert not torch.equal(first, stored)
    assert not torch.equal(field.augment(stored, generator(1)), first)
    assert torch.equal(COLOUR.augment(stored, generator()), stored)


def test_flip_and_crop_are_whole_pixels() -> None:
    stored = batch()
    flipped = COLOUR.but(flip=True).with_state(COLOUR.state).augment(stored, generator())
    ways = [torch.equal(new, old.flip(-1)) for new, old in zip(flipped, stored, strict=True)]
    assert all(way or torch.equal(new, old) for way, new, old in zip(ways, flipped, stored, strict=True))
    assert 0 < sum(ways) < 16
    padded = torch.nn.functional.pad(stored, (2, 2, 2, 2))
    crops = COLOUR.but(crop_padding=2).with_state(COLOUR.state).augment(stored, generator())
    for new, old in zip(crops, padded, strict=True):
        assert any(torch.equal(new, old[:, y : y + 8, x : x + 6]) for y in range(5) for x in range(5))


@pytest.mark.parametrize("fill", ["black", "edge", "reflect"])
def test_one_resampling_agrees_with_one_gather(fill: str) -> None:
    stored, zeros, ones = batch(), torch.zeros(16), torch.ones(16)
    dy = torch.randint(-2, 3, (16,), generator=generator(1))
    dx = torch.randint(-2, 3, (16,), generator=generator(2))
    flip = torch.arange(16) % 2 == 0
    gathered = _warp.move(stored, dy, dx, flip, fill).float()
    warped = _warp.warp(stored.float(), zeros, ones, dy.float(), dx.float(), flip, fill)
    # Reflection about the edge pixel's centre or its border: they agree where no pixel was invented.
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 4)) if fill == "reflect" else ...
    assert torch.allclose(gathered[inner], warped[inner], atol=1e-2)


def test_a_quarter_turn() -> None:
    square = torch.from_numpy(RNG.integers(0, 256, (2, 3, 8, 8)).astype(np.float32))
    zeros = torch.zeros(2)
    turned = _warp.warp(square, torch.full((2,), torch.pi / 2), torch.ones(2), zeros, zeros, None, "black")
    same = [torch.allclose(turned, torch.rot90(square, times, (2, 3)), atol=1e-2) for times in (1, -1)]
    assert any(same)
    wide = torch.ones(1, 1, 4, 8)  # a turn keeps lengths: 4 × 8 becomes 8 × 4, cut to the 4 × 8 frame
    one = torch.ones(1)
    turned = _warp.warp(wide, one * torch.pi / 2, one, one * 0, one * 0, None, "black")
    assert turned[0, 0, 0].round().tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_erase_paints_the_mean() -> None:
    field = COLOUR.but(erase=1.0).with_state(COLOUR.state)
    stored = batch().repeat(8, 1, 1, 1)
    painted = field.augment(stored, generator())
    colour = torch.tensor(COLOUR.state["mean"]).round().to(torch.uint8).view(1, 3, 1, 1)
    changed = (painted != stored).any(1, keepdim=True)
    assert (torch.where(changed, painted, colour) == colour).all()
    assert 0.02 < changed.float().mean() < 0.33


def test_jitter_keeps_grey_grey() -> None:
    grey = batch()[:, :1].expand(-1, 3, -1, -1).contiguous()
    jittered = COLOUR.but(jitter=0.5).with_state(COLOUR.state).augment(grey, generator()).int()
    assert (jittered - jittered[:, :1]).abs().max() <= 1


def test_mixup_and_cutmix_weigh_what_is_left() -> None:
    values = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 3, 8, 6).contiguous()
    for options in ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}):
        field = COLOUR.but(**options).with_state(COLOUR.state)
        mixed, partner, weight = field.mix(values, generator())
        assert partner is not None
        assert weight is not None
        assert sorted(partner.tolist()) == list(range(64))
        expected = weight * torch.arange(64) + (1 - weight) * partner
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-3)
        assert 0.3 < weight.mean() < 0.8
        again = field.mix(values, generator())
        assert torch.equal(again[0], mixed)
    assert COLOUR.mix(values, generator()) == (values, None, None)
