"""OIP: the Open Inference Protocol v2's tensors, JSON or raw, as a model's rows and back. Runs in the worker.

    {"inputs": [{"name": "age", "datatype": "FP64", "shape": [2], "data": [31, 44]}]}
    {"model_name": …, "outputs": [{"name": "prediction", "datatype": "BYTES", "shape": [2], "data": ["no", "yes"]}]}

Texts, categories and dates are BYTES, numbers any numeric type, pictures UINT8 pixels or BYTES of a file (base64 in
JSON, as it is in a raw tensor). The raw form is the protocol's binary extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from modelworks.serving.bodies import Asked, load
from modelworks.serving.describe import as_text
from modelworks.serving.engine import Options
from modelworks.serving.limits import Refused

DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_LENGTH = struct.Struct("<I")


def tensor_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """An input as the model's metadata tells it."""
    kind = described["kind"]
    if kind == "image":
        pixels = [-1, -1] if described["channels"] == 1 else [-1, -1, 3]
        return {"name": described["name"], "datatype": "UINT8", "shape": [-1, *pixels]}
    return {"name": described["name"], "datatype": "FP64" if kind == "number" else "BYTES", "shape": [-1]}


def read(metadata: Mapping[str, Any], body: bytes, head: int | None, options: Options) -> Asked:
    """An infer request; raises Refused. `head`: bytes of JSON, raw tensors follow."""
    if head is not None and not 0 <= head <= len(body):
        raise Refused(400, f"Inference-Header-Content-Length is {head}, the body has {len(body)} bytes")
    request = load(body[:head] if head is not None else body, options)
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, dict) for each in inputs):
        raise Refused(400, "wants {'inputs': [{'name', 'datatype', 'shape', 'data'}, …]}")
    kinds = {described["name"]: described["kind"] for described in metadata["inputs"]}
    columns: dict[str, list[Any]] = {}
    raw, rows = memoryview(body)[head:] if head is not None else memoryview(b""), None
    for each in inputs:
        name = each.get("name")
        if not isinstance(name, str) or name not in kinds:
            raise Refused(400, f"there is no input {str(name)[:80]!r}; the inputs are: {', '.join(kinds)}")
        if name in columns:
            raise Refused(400, f"the input {name!r} is there twice")
        size = _parameters(each).get("binary_data_size")
        part = b""
        if size is not None:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(raw):
                raise Refused(400, f"input {name!r}: binary_data_size is not among the bytes that are there")
            part, raw = bytes(raw[:size]), raw[size:]
        try:
            columns[name] = _column(kinds[name], each, part if size is not None else None, options)
        except ValueError as error:
            raise Refused(400, f"input {name!r}: {error}") from None
        if rows is not None and len(columns[name]) != rows:
            raise Refused(400, f"input {name!r} has {len(columns[name])} rows, others {rows}")
        rows = len(columns[name])
    if len(raw):
        raise Refused(400, f"{len(raw)} bytes follow the last tensor")
    assert rows is not None
    if rows > options.rows:
        raise Refused(413, f"{rows:,} rows; the most is {options.rows:,} a request")
    return Asked(columns, rows, echo=_wanted(metadata, request, options))


def _parameters(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tree.get("parameters") or {}
    if not isinstance(found, dict):
        raise Refused(400, "parameters want an object")
    return found


def _wanted(metadata: Mapping[str, Any], request: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What the answer has to look like: {"id", "outputs": {name: raw or not}}."""
    raw = bool(_parameters(request).get("binary_data_output", False))
    names = [output["name"] for output in metadata["outputs"]]
    asked = request.get("outputs")
    if asked is None or asked == []:
        wanted = dict.fromkeys(names, raw)
    else:
        if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
            raise Refused(400, "outputs want a list of objects")
        wanted = {}
        for each in asked:
            if each.get("name") not in names:
                raise Refused(
                    400, f"there is no output {str(each.get('name'))[:80]!r}; there are: {', '.join(names)}"
                )
            wanted[each["name"]] = bool(_parameters(each).get("binary_data", raw))
    number = request.get("id", "")
    if not isinstance(number, str):
        raise Refused(400, "id wants a string")
    return {"id": number[:1000], "outputs": wanted, "model": options.name}


# ------------------------------------------------------------------------------------------- tensors in
def _column(kind: str, tensor: Mapping[str, Any], raw: bytes | None, options: Options) -> list[Any]:
    """One value a row; raises ValueError with the reason."""
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if datatype != "BYTES" and datatype not in DATATYPES:
        raise ValueError(f"datatype {str(datatype)[:20]!r} is none of BYTES, {', '.join(DATATYPES)}")
    if (
        not isinstance(shape, list)
        or not shape
        or not all(
            isinstance(side, int) and not isinstance(side, bool) and 0 < side < 1 << 31 for side in shape
        )
    ):
        raise ValueError("shape wants a list of numbers from 1")
    count = math.prod(shape)
    if kind == "image" and datatype != "BYTES":
        return list(_pixels(tensor, datatype, shape, raw, options))
    if count != shape[0]:
        raise ValueError(f"shape {shape}: wants one value a row, [{shape[0]}] or [{shape[0]}, 1]")
    if raw is None:
        data = _flat(tensor.get("data"), count)
        if datatype == "BYTES" and not all(value is None or isinstance(value, str) for value in data):
            raise ValueError("BYTES want strings")
        if datatype != "BYTES" and not all(
            value is None or isinstance(value, (int, float)) for value in data
        ):
            raise ValueError(f"{datatype} wants numbers")
        return data
    if datatype != "BYTES":
        return _array(raw, datatype, count).tolist()
    return [value if kind in ("image", "audio") else _decoded(value) for value in _strings(raw, count)]


def _pixels(
    tensor: Mapping[str, Any], datatype: str, shape: list[int], raw: bytes | None, options: Options
) -> Any:
    if math.prod(shape) * 8 > options.decoded:
        raise ValueError(f"shape {shape} is more than the limit of {options.decoded >> 20} MB")
    if len(shape) not in (3, 4):
        raise ValueError(
            f"shape {shape}: pictures want [rows, height, width] or [rows, height, width, channels]"
        )
    if raw is not None:
        values = _array(raw, datatype, math.prod(shape))
    else:
        data = _flat(tensor.get("data"), math.prod(shape))
        try:
            return np.frombuffer(bytes(data), np.uint8).reshape(shape)
        except (TypeError, ValueError):
            pass
        try:
            values = np.asarray(data, np.float64)
        except (TypeError, ValueError):
            raise ValueError("pixels want whole numbers from 0 to 255") from None
    whole = np.nan_to_num(values).clip(0, 255).astype(np.uint8)
    if not np.array_equal(whole, values):
        raise ValueError("pixels want whole numbers from 0 to 255")
    return whole.reshape(shape)


def _flat(data: Any, count: int) -> list[Any]:
    """The values of `data`, flat or nested, which must be `count`."""
    if not isinstance(data, list):
        raise ValueError("data wants a list")
    while data and all(isinstance(each, list) for each in data):
        data = [value for each in data for value in each]
    if len(data) != count:
        raise ValueError(f"shape says {count:,} values, data has {len(data):,}")
    return data


def _array(raw: bytes, datatype: str, count: int) -> np.ndarray:
    dtype = np.dtype(DATATYPES[datatype])
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"shape says {count * dtype.itemsize:,} bytes, there are {len(raw):,}")
    return np.frombuffer(raw, dtype)


def _strings(raw: bytes, count: int) -> list[bytes]:
    found, start = [], 0
    while start < len(raw):
        if start + 4 > len(raw) or start + 4 + _LENGTH.unpack_from(raw, start)[0] > len(raw):
            raise ValueError("the raw BYTES are cut short")
        length = _LENGTH.unpack_from(raw, start)[0]
        found.append(raw[start + 4 : start + 4 + length])
        start += 4 + length
    if len(found) != count:
        raise ValueError(f"shape says {count:,} values, there are {len(found):,}")
    return found


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("BYTES that are no UTF-8") from None


# ------------------------------------------------------------------------------------------- tensors out
def write(
    metadata: Mapping[str, Any], asked: Asked, rows: list[dict[str, Any]]
) -> tuple[int, str, bytes, dict[str, Any]]:
    """(status, content type, body, more) of an answer; a row without one makes the whole a 400, as tensors have no
    place for a reason."""
    for number, row in enumerate(rows):
        if "error" in row:
            return 400, "application/json", orjson.dumps({"error": f"row {number}: {row['error']}"}), {}
    outputs, raws = [], []
    for name, raw in asked.echo["outputs"].items():
        told = next(output for output in metadata["outputs"] if output["name"] == name)
        if name == "probabilities":
            data: list[Any] = [value for row in rows for value in row["probabilities"].values()]
            shape = [len(rows), told["shape"][1]]
        else:
            data = [row["prediction"] for row in rows]
            shape = [len(rows), *told["shape"][1:]]
            if told["datatype"] == "BYTES":
                data = [as_text(value) for value in data]
        output = {"name": name, "datatype": told["datatype"], "shape": shape}
        if raw:
            part = _raw(data, told["datatype"])
            raws.append(part)
            output["parameters"] = {"binary_data_size": len(part)}
        else:
            output["data"] = np.asarray(data).reshape(-1).tolist() if len(shape) > 1 else data
        if "labels" in told:
            output.setdefault("parameters", {})["labels"] = ",".join(told["labels"])
        outputs.append(output)
    answer = {"model_name": asked.echo["model"], "model_version": "1", "outputs": outputs}
    if asked.echo["id"]:
        answer["id"] = asked.echo["id"]
    head = orjson.dumps(answer, default=str)
    if not raws:
        return 200, "application/json", head, {}
    return 200, "application/octet-stream", head + b"".join(raws), {"head": len(head)}


def _raw(data: list[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return np.asarray(data, np.dtype(DATATYPES[datatype])).tobytes()
    texts = [value.encode("utf-8") for value in data]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
