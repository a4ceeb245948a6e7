"""Raw values → the arrays that the model takes, and its answers → raw values, by contract.json alone.

    contract = Contract("contract.json")
    feeds = contract.encode([{"age": 31, "city": "Oslo"}])      # name → array, as the model's inputs
    contract.decode(outputs)                                    # → {"prediction": […], …}

Needs numpy; subword tokens also the package tokenizers, picture files Pillow. Copy and change it as you like.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np


class Refused(ValueError):
    """A value that the model was not made for."""


class Contract:
    """contract.json in use."""

    def __init__(self, path):
        self.tree = json.loads(Path(path).read_text("utf-8"))
        self.inputs = {port["name"]: port for port in self.tree["inputs"]}
        self._tools = {}

    def encode(self, rows):
        """Rows (dicts by column) → a batch. Raises Refused."""
        feeds = {}
        for name, port in self.inputs.items():
            field = port.get("field")
            if field is None:
                continue  # NAME.length comes with NAME
            if field.get("encoding") is None:
                raise Refused(f"{name}: the contract says nothing of fields of kind {field['kind']}")
            make = globals()[f"encode_{field['kind']}"]
            values = [
                make(row.get(field["column"]), field["encoding"], self._tool(name, field)) for row in rows
            ]
            if f"{name}.length" in self.inputs or port["ragged"]:
                steps = max(map(len, values))
                batch = np.zeros((len(rows), steps, *np.shape(values[0])[1:]), port["dtype"])
                for at, value in enumerate(values):
                    batch[at, : len(value)] = value
                feeds[name] = batch
                if f"{name}.length" in self.inputs:
                    feeds[f"{name}.length"] = np.array([len(value) for value in values], np.int64)
            else:
                feeds[name] = np.stack([np.asarray(value) for value in values]).astype(port["dtype"])
        return feeds

    def decode(self, outputs):
        """What the model said (name → array) as people say it."""
        task, target = self.tree["task"], self.tree["target"]
        found = {name: np.asarray(value) for name, value in outputs.items()}
        encoding = target.get("encoding") or {}
        if task == "classify":
            answers = encoding["answers"]
            said = [answers[code] for code in found["prediction"]]
            return {"prediction": said, "probability": found["probability"].tolist(), "classes": answers}
        if task == "regress":
            return {name: decode_number(value, encoding) for name, value in found.items()}
        if task == "multilabel":
            names, least = encoding["names"], encoding["threshold"]
            share = found["probability"].tolist()
            said = [[name for name, p in zip(names, row, strict=True) if p >= least] for row in share]
            return {"prediction": said, "probability": share}
        if task == "tag":
            names = {code: tag for tag, code in encoding["tags"].items()}
            rows = found["prediction"].tolist()
            return {"prediction": [[names.get(code, "O") for code in row if code > 0] for row in rows]}
        return {name: value.tolist() for name, value in found.items()}

    def _tool(self, name, field):
        """What is made once for a field."""
        if name not in self._tools:
            self._tools[name] = tool(field.get("encoding") or {})
        return self._tools[name]


# ------------------------------------------------------------------------------------------- cells
NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?\.?\d*([eE][-+]?\d+)?%?")


def is_missing(value, told):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and value.strip().lower() in told["missing_texts"]


def number_of(value):
    """3, "3.5", "1,024", "12%"; None when it is no number."""
    if isinstance(value, (bool, int, float, np.number)):
        return float(value) if abs(float(value)) < 1e100 else None
    text = str(value).strip()
    if not text or len(text) > 40 or not NUMBER.fullmatch(text):
        return None
    try:
        found = float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return None
    return found / 100 if text.endswith("%") else found


def encode_number(value, told, _):
    missing = is_missing(value, told)
    number = None if missing else number_of(value)
    if number is None and not missing:
        if told["wrong"] == "refuse":
            raise Refused(f"wants a number, got {value!r}")
        missing = True
    if missing or number is None:
        if told["missing"] == "refuse":
            raise Refused("missing value")
        number = told["fill"]
    elif told["outside"]:
        low, high = told["limits"]
        if told["outside"] == "refuse" and not low <= number <= high:
            raise Refused(f"{number} is outside {low} … {high}")
        number = min(max(number, low), high)
    scaled = min(max(scale(number, told), -3e38), 3e38)
    return np.array([scaled, missing] if told["indicator"] else [scaled], np.float32)


def scale(number, told):
    if told["quantiles"]:
        marks = np.array(told["quantiles"])
        steps = np.linspace(0, 1, len(marks))
        share = 0.5 * (np.interp(number, marks, steps) - np.interp(-number, -marks[::-1], -steps[::-1]))
        return statistics.NormalDist().inv_cdf(min(max(float(share), 1e-7), 1 - 1e-7))
    if told["log"]:
        number = math.copysign(math.log1p(abs(number)), number)
    z = (number - told["center"]) / told["spread"]
    return z / math.hypot(1.0, z / told["bend"]) if told["bend"] else z


def decode_number(values, told):
    values = np.asarray(values, np.float64)
    if told["quantiles"]:
        normal = np.vectorize(statistics.NormalDist().cdf)(values)
        return np.interp(normal, np.linspace(0, 1, len(told["quantiles"])), told["quantiles"]).tolist()
    if told["bend"]:
        reach = told["bend"]
        values = np.clip(values, -reach * (1 - 1e-7), reach * (1 - 1e-7))
        values = values / np.sqrt((1 - values / reach) * (1 + values / reach))
    values = values * told["spread"] + told["center"]
    if told["log"]:
        values = np.sign(values) * np.expm1(np.minimum(np.abs(values), 230.0))
    return values.tolist()


def encode_category(value, told, _):
    if is_missing(value, told):
        code = told["missing"]
    else:
        code = told["codes"].get(category_text(value, told["type"]), told["unknown"])
    if code == "refuse":
        raise Refused(f"unknown label {value!r}")
    return np.int64(code)


def category_text(value, kind):
    """One text a value: the same for 3, 3.0 and "3"."""
    if isinstance(value, str):
        if kind == "bool":
            return value.strip().capitalize()
        value = (number_of(value) if kind in ("int", "float") else None) or value
        if isinstance(value, str):
            return value
    if kind == "bool" and value in (0, 1):
        return str(bool(value))
    if isinstance(value, float) and value == int(value) and abs(value) < 2**53:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def encode_date(value, told, _):
    """ISO 8601 texts and datetimes; times with an offset are turned to UTC."""
    seconds = None
    if not is_missing(value, told):
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
            at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
            seconds = (at - datetime(1970, 1, 1)) / timedelta(seconds=1)
        except ValueError:
            if told["wrong"] == "refuse":
                raise Refused(f"wants a date as 2024-05-31, got {value!r}") from None
    if seconds is None and told["missing"] == "refuse":
        raise Refused("missing date")
    row = [0.0] * (9 if told["clock"] else 7)
    if seconds is not None:
        day = datetime(1970, 1, 1) + timedelta(days=seconds // 86400)
        turns = [(day.month - 1) / 12, day.weekday() / 7, (day.day - 1) / 31]
        turns += [seconds % 86400 / 86400] if told["clock"] else []
        waves = [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]
        row = [(seconds - told["center"]) / told["spread"], *waves]
    return np.array([*row, seconds is None] if told["indicator"] else row, np.float32)


def encode_tags(value, told, _):
    if isinstance(value, str) and not is_missing(value, told):
        listed = (
            json.loads(value)
            if value.startswith("[") and value.endswith("]")
            else value.split(told["separator"])
        )
    else:
        listed = value if isinstance(value, (list, tuple)) else []
        if not isinstance(value, (list, tuple)) and told["missing"] == "refuse":
            raise Refused("missing tags")
    there = {str(one).strip() for one in listed if one is not None}
    return np.array([name in there for name in told["names"]], np.uint8)


# ------------------------------------------------------------------------------------------- texts
def tool(told):
    if told.get("tokenizer"):
        from tokenizers import Tokenizer

        made = Tokenizer.from_str(told["tokenizer"])
        made.no_padding()
        made.no_truncation()
        if told["tokens"] != "pieces":
            made.encode_special_tokens = not told.get("written_specials")
        return made
    first = told.get("first", 0)
    return {name: code for code, name in enumerate(told.get("vocabulary") or []) if code >= first}


def ids_of(text, told, made):
    if told["tokens"] == "byte":
        return [byte + told["first"] for byte in text.encode()]
    if told["tokens"] == "char":
        return [made.get(letter, told["unknown"]) for letter in text]
    if told["tokens"] == "word":
        return [
            made.get(word, told["unknown"]) for word in re.findall(told["pattern"], text.replace("\n", " "))
        ]
    return made.encode(text, add_special_tokens=False).ids


def encode_text(value, told, made):
    text = (
        "" if value is None else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    )
    text = text[: told["characters"]] if "characters" in told else text
    text = unicodedata.normalize("NFKC", text) if told["nfkc"] else text
    text = text.lower() if told["lowercase"] else text
    text = text.strip() if told["trim"] else text
    if told.get("written_specials") and not told.get("tokenizer"):
        parts = re.split(
            "(" + "|".join(map(re.escape, sorted(told["specials"], key=len, reverse=True))) + ")", text
        )
        ids = [
            i
            for p in parts
            for i in ([told["specials"][p]] if p in told["specials"] else ids_of(p, told, made))
        ]
    else:
        ids = ids_of(text, told, made)
    if not ids:
        if told["empty"] == "refuse":
            raise Refused("no text")
        ids = [told["empty"]]
    ids = [*ids, told["end"]] if told["end"] >= 0 else ids
    return np.array(ids[: told["length"]], np.int64)


encode_corpus = encode_text
encode_chat = encode_text
"""Of a conversation: what its template makes of the messages."""


def encode_words(value, told, made):
    """A list of words, or a text that is cut."""
    if isinstance(value, str):
        value = list(value) if told["cut"] == "char" else re.findall(told["pattern"], value)
    if not value:
        raise Refused("no words")
    words = [word.lower() for word in value] if told["lowercase"] else list(value)
    if told["tokens"] == "words":
        return np.array([made.get(word, told["unknown"]) for word in words][: told["length"]], np.int64)
    joins = set(told["joins"])
    unknown = next((c for name in ("<unk>", "[UNK]") if (c := made.token_to_id(name)) is not None), 0)
    ids = []
    for word in words:
        pieces = made.encode([word], is_pretokenized=True, add_special_tokens=False).ids or [unknown]
        first = unknown if pieces[0] in joins else pieces[0]
        ids += [first, *(piece for piece in pieces[1:] if piece in joins)]
    if told["wrap"]:
        ids = [made.token_to_id("[CLS]"), *ids, made.token_to_id("[SEP]")]
    return np.array(ids[: told["length"]], np.int64)


# ------------------------------------------------------------------------------------------- media
def encode_image(value, told, _):
    """uint8 pixels (H, W) or (H, W, 3) of the right size; or a picture file's path or bytes, through Pillow."""
    channels, (height, width) = told["channels"], told["size"]
    if isinstance(value, (str, bytes, Path)) or np.shape(value)[:2] != (height, width):
        value = picture(value, channels, (width, height), told["resize"])
    pixels = np.asarray(value, np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if pixels.shape != (height, width, channels):
        raise Refused(f"wants pixels {(height, width, channels)}, got {pixels.shape}")
    return pixels.transpose(2, 0, 1)


def picture(value, channels, size, resize):
    import io

    from PIL import Image, ImageOps

    if isinstance(value, (str, bytes, Path)):
        image = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
        image.draft(None, (2 * size[0], 2 * size[1]))
        image = ImageOps.exif_transpose(image)
    else:
        image = Image.fromarray(np.asarray(value, np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert("RGB").convert(mode)
    if image.size != size:
        smooth = Image.Resampling.BILINEAR
        if resize == "stretch":
            image = image.resize(size, smooth, reducing_gap=2.0)
        elif resize == "crop":
            image = ImageOps.fit(image, size, smooth)
        else:
            image = ImageOps.pad(image, size, smooth, color=0 if channels == 1 else (0, 0, 0))
    return np.asarray(image)


def encode_audio(value, told, _):
    """Samples of one channel at `rate`: int16, or floats from −1 to 1; or the path of such a WAV file (16 bits)."""
    if isinstance(value, (str, Path)):
        import wave

        with wave.open(str(value)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (told["rate"], 1, 2):
                raise Refused(f"wants 16 bits of one channel at {told['rate']} Hz")
            value = np.frombuffer(file.readframes(told["samples"]), "<i2")
    samples = np.asarray(value)
    if samples.dtype.kind == "f":
        samples = (samples * 32768).round().clip(-32768, 32767)
    samples = samples.astype(np.int16)[: told["samples"]]
    if not told["padded"]:
        return samples[:, None]
    return np.pad(samples, (0, told["samples"] - len(samples)))
