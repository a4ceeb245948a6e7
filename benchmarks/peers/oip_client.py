"""The Open Inference Protocol by NVIDIA's own client, as its examples use it: JSON and raw tensors, sync and async.

python oip_client.py --port 8080 --pictures MODEL --rows MODEL
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import tritonclient.http as triton

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--pictures", required=True)
parser.add_argument("--rows", required=True)
args = parser.parse_args()
done = []


def check(name: str, condition: bool) -> None:
    assert condition, name
    done.append(name)


client = triton.InferenceServerClient(f"127.0.0.1:{args.port}", concurrency=4)
check("live", client.is_server_live())
check("ready", client.is_server_ready())
check("model ready", client.is_model_ready(args.pictures))
check("version ready", client.is_model_ready(args.pictures, "1"))
check("unknown model", not client.is_model_ready("no such model"))
check("server metadata", "binary_tensor_data" in client.get_server_metadata()["extensions"])
about = client.get_model_metadata(args.pictures)
check("model metadata", about["name"] == args.pictures and about["inputs"][0]["datatype"] == "UINT8")

pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
answers = []
for raw_in in (True, False):
    for raw_out in (True, False):
        tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels, binary_data=raw_in)
        wanted = [
            triton.InferRequestedOutput(n, binary_data=raw_out) for n in ("prediction", "probabilities")
        ]
        found = client.infer(args.pictures, [tensor], outputs=wanted, request_id="7")
        check(f"infer {raw_in} {raw_out}", found.get_response()["id"] == "7")
        answers.append(found.as_numpy("probabilities"))
        labels = [
            value.decode() if isinstance(value, bytes) else value for value in found.as_numpy("prediction")
        ]
        check("shapes", answers[-1].shape == (5, 10) and len(labels) == 5)
        check("the class is the likeliest", labels == [str(best) for best in answers[-1].argmax(1)])
check("raw and JSON agree", all(np.allclose(answers[0], each, atol=1e-6) for each in answers))
for encoding in ("gzip", "deflate"):
    found = client.infer(args.pictures, [tensor], request_compression_algorithm=encoding)
    check(encoding, np.allclose(found.as_numpy("probabilities"), answers[0], atol=1e-6))
waiting = [client.async_infer(args.pictures, [tensor]) for _ in range(8)]
check(
    "async",
    all(np.allclose(each.get_result().as_numpy("probabilities"), answers[0], atol=1e-6) for each in waiting),
)

tensors = []
for name, kind, values in (
    ("name", "BYTES", np.array([b"Mr Brown", "Miss Zoë".encode()], object)),
    ("class", "BYTES", np.array([b"1st", b"3rd"], object)),
    ("sex", "BYTES", np.array([b"male", b"female"], object)),
    ("age", "FP32", np.array([30, 4], np.float32)),
):
    tensors.append(triton.InferInput(name, [2], kind))
    tensors[-1].set_data_from_numpy(values)
found = client.infer(args.rows, tensors)
check("a table's rows", found.as_numpy("probabilities").shape == (2, 2))
try:
    client.infer(args.rows, tensors[:1] * 2)
except triton.InferenceServerException as error:
    check("an error tells why", "twice" in str(error))
print(json.dumps({"passed": len(done), "checks": sorted(set(done))}))
