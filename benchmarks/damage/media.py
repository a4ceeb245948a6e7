"""Pictures and sounds: broken, lying, unusual ones among sound ones, in folders and in columns of paths."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from damage import DAMAGES, QUICK, Case, originals


def cases(dice: random.Random) -> Iterator[Case]:
    """All pictures and sounds."""
    yield from _pictures(dice)
    yield from _columns()
    yield from _sounds(dice)


def among(name: str, file: str, content: bytes, *, predict: bool = False, **more: object) -> Case:
    """One file among sixteen sound ones: trained on, or asked about."""
    sound = file.startswith("wavs")
    others = originals.sounds() if sound else originals.pictures()
    root = file.split("/")[0]
    if predict:
        argv = ["predict", "sounds" if sound else "pictures", root, "--output", "out.csv"]
        runs = ("sounds",) if sound else ("pictures",)
    else:
        argv, runs = ["train", root, *QUICK], ()
    return Case("media", name, argv, {**others, file: content}, runs=runs, rows=17, **{"expect": 0, **more})  # type: ignore[arg-type]


def _saved(mode: str, form: str, **options: object) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(originals.picture(0))).convert(mode).save(out, form, **options)
    return out.getvalue()


def _animated(form: str) -> bytes:
    from PIL import Image

    frames = [Image.open(io.BytesIO(originals.picture(n % 2, n))) for n in range(5)]
    return _saved("RGB", form, save_all=True, append_images=frames[1:])


def _pictures(dice: random.Random) -> Iterator[Case]:
    good = originals.picture(0, 99)
    jpeg = _saved("RGB", "JPEG")
    strange = {
        "no bytes": b"", "noise": dice.randbytes(2000), "text": b"hello\n" * 100, "half": good[: len(good) // 2],
        "header alone": good[:33], "50,000 × 50,000": originals.png(50_000, 50_000), "2³¹ × 2³¹": originals.png(2**31 - 1, 2**31 - 1),
        "no width": originals.png(0, 10), "lying size": originals.png(100, 100, data=b"\0" * 30),
        "zlib bomb": originals.png(7000, 7000, 8, 0, b"\0" * (7001 * 7000)), "bad kind": originals.png(10, 10, 8, 7, b"\0" * 400),
        "16 bits": _saved("I;16", "PNG"), "one bit": _saved("1", "PNG"), "palette": _saved("P", "PNG"), "alpha": _saved("RGBA", "PNG"),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "html": b"<html><script>alert(1)</script></html>",
    }  # fmt: skip
    for name, content in strange.items():
        yield among(f"png: {name}", "pics/dark/odd.png", content)
        yield among(f"png asked: {name}", "pics/dark/odd.png", content, predict=True)
    for name, content in {
        "CMYK": _saved("CMYK", "JPEG"),
        "half": jpeg[: len(jpeg) // 2],
        "marker flood": b"\xff\xd8" + b"\xff\xe0\0\x02" * 50_000,
        "as png": good,
    }.items():
        yield among(f"jpeg: {name}", "pics/dark/odd.jpg", content)
    yield among("gif: animated", "pics/dark/odd.gif", _animated("GIF"))
    yield among("webp: animated", "pics/dark/odd.webp", _animated("WEBP"))
    yield among("tiff: floats", "pics/dark/odd.tif", _saved("F", "TIFF"))
    yield among("tiff: directory loop", "pics/dark/odd.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0")
    yield among("ppm: giant", "pics/dark/odd.ppm", b"P6 99999999 99999999 255\n")
    yield among("not a picture", "pics/dark/readme.docx", b"PK\x03\x04")
    yield among("file in no class", "pics/odd.png", good)
    yield among("name with a newline", "pics/dark/a\nb.png", good)
    yield among("name of 200 characters", f"pics/dark/{'n' * 200}.png", good)
    for number in range(12):
        damage = DAMAGES[number % len(DAMAGES)]
        yield among(
            f"{damage.__name__} png {number}",
            "pics/light/odd.png",
            damage(good, dice),
            predict=number % 2 == 1,
        )
    yield Case(
        "media",
        "all pictures broken",
        ["train", "pics", *QUICK],
        dict.fromkeys(originals.pictures(), b"x"),
        expect=2,
        names=("pics", "picture"),
    )
    yield Case(
        "media",
        "one class",
        ["train", "pics", *QUICK],
        {n: c for n, c in originals.pictures().items() if "dark" in n},
        names=("pics", "label"),
    )
    yield Case(
        "media", "one picture", ["train", "pics", *QUICK], {"pics/dark/0.png": good}, names=("pics", "label")
    )
    yield Case(
        "media",
        "empty folder",
        ["train", "pics", *QUICK],
        prepare=lambda folder: (folder / "pics/dark").mkdir(parents=True),
        expect=2,
        names=("pics",),
    )
    yield Case(
        "media",
        "links that leave",
        ["train", "pics", *QUICK],
        originals.pictures(),
        prepare=_links,
        names=("pics",),
    )


def _links(folder: Path) -> None:
    (folder / "pics/dark/outside.png").symlink_to("/etc/passwd")
    (folder / "pics/dark/loop.png").symlink_to("loop.png")
    (folder / "pics/again").symlink_to(".")
    (folder / "pics/gone.png").symlink_to("nowhere.png")


def _columns() -> Iterator[Case]:
    """Paths in a table."""
    good = list(originals.pictures())
    for name, path in {
        "leaves the folder": "../../../../etc/passwd", "absolute": "/etc/passwd", "device": "/dev/zero", "endless device": "/dev/urandom",
        "folder": "pics", "gone": "pics/dark/nowhere.png", "nul": "a\0b.png", "long": "x" * 5000 + ".png", "home": "~/a.png",
        "address": "https://example.org/a.png", "blank": "", "process": "/proc/self/mem", "pipe": "pipe.png",
    }.items():  # fmt: skip
        lines = "".join(f"{file},{file.split('/')[1]}\n" for file in good) + f"{path},dark\n"
        table = f"photo,label\n{lines}".encode()
        argv = ["train", "t.csv", "--target=label", "--fields.photo.kind=image", *QUICK]
        yield Case(
            "media",
            f"path: {name}",
            argv,
            {**originals.pictures(), "t.csv": table},
            _pipe,
            rows=17,
            expect=0,
            names=("t.csv",),
        )


def _pipe(folder: Path) -> None:
    import os

    os.mkfifo(folder / "pipe.png")


def _sounds(dice: random.Random) -> Iterator[Case]:
    good = originals.sound(0, 99)
    data = good.index(b"data")

    def with_length(at: int, length: int) -> bytes:
        return good[:at] + struct.pack("<I", length) + good[at + 4 :]

    def with_format(**changes: int) -> bytes:
        names = ("code", "channels", "rate", "bytes", "block", "bits")
        values = dict(zip(names, struct.unpack_from("<HHIIHH", good, 20), strict=True)) | changes
        return good[:20] + struct.pack("<HHIIHH", *values.values()) + good[36:]

    strange = {
        "no bytes": b"", "header alone": good[:44], "half": good[: len(good) // 2], "noise": dice.randbytes(3000), "text": b"RIFFxxxxWAVE hello",
        "says 4 GB": with_length(data + 4, 2**32 - 1), "says nothing": with_length(data + 4, 0), "riff says 0": with_length(4, 0),
        "format of 4 GB": with_length(16, 2**32 - 1), "no channels": with_format(channels=0), "65,535 channels": with_format(channels=65535),
        "rate 0": with_format(rate=0), "rate 2³²": with_format(rate=2**32 - 1), "0 bits": with_format(bits=0), "7 bits": with_format(bits=7),
        "unknown code": with_format(code=0x1234), "floats of 16 bits": with_format(code=3), "24 bits": originals.sound(0, width=3),
        "8 bits": originals.sound(0, width=1), "32 bits": originals.sound(0, width=4), "stereo": originals.sound(0, channels=2),
        "one sample": originals.sound(0, seconds=1 / 8000), "no samples": originals.sound(0, seconds=0), "rate 1": originals.sound(0, rate=1, seconds=20),
        "rate 44,101": originals.sound(0, rate=44101), "rate 192,000": originals.sound(0, rate=192000), "a minute": originals.sound(0, seconds=60),
        "silence": good[:44] + bytes(len(good) - 44), "mp3 header": b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\0" * 50, "flac header": b"fLaC" + bytes(50),
    }  # fmt: skip
    for number, (name, content) in enumerate(strange.items()):
        yield among(f"wav: {name}", "wavs/low/odd.wav", content, predict=number % 3 == 0)
    for number in range(8):
        damage = DAMAGES[number % len(DAMAGES)]
        yield among(
            f"{damage.__name__} wav {number}",
            "wavs/high/odd.wav",
            damage(good, dice),
            predict=number % 2 == 1,
        )
    yield Case(
        "media",
        "all sounds broken",
        ["train", "wavs", *QUICK],
        dict.fromkeys(originals.sounds(), b"x"),
        expect=2,
        names=("wavs", "sound", "audio"),
    )
