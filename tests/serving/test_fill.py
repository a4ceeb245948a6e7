"""fill: gaps get what the model itself finds likeliest; what it cannot see stays as it is."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest
import torch

from modelworks.core.run import RunFolder

pytest.importorskip("orjson")


def test_gaps_hold_the_likeliest_tokens(tmp_path: Path) -> None:
    from modelworks.serving import fill
    from modelworks.serving.bodies import Asked
    from modelworks.serving.engine import Options

    found = util.spec_from_file_location("tiny", Path(__file__).parent / "tiny.py")
    assert found and found.loader
    tiny = util.module_from_spec(found)
    found.loader.exec_module(tiny)
    engine = fill.open(RunFolder(tiny.make(tmp_path, "gaps")["gaps"]), Options("gaps"))
    told = engine.metadata["inputs"][0]
    assert told["mask"] == "[MASK]" and "[MASK]" in told["example"]
    late = "x" * 40 + "[MASK]"
    asked = ["The lov[MASK]ly fox", "The [MASK] fo[MASK]", "no gap", late, None]
    one, two, none, beyond, missing = engine.answer(Asked({"text": asked}, len(asked)))
    assert none == {"prediction": "no gap", "gaps": []}
    assert beyond == {"prediction": late, "gaps": []}
    assert missing["prediction"] is None and "text" in missing["error"]
    field, network = engine.predictor.inputs["text"], engine.predictor.network
    ids = torch.tensor([field.ids("The lov[MASK]ly fox", special=True)])
    with torch.inference_mode():
        share_V = network.head.logits(network.model({"text": ids}))[0, 7].softmax(-1)
    ordinary = torch.from_numpy(field.state["bytes"] > 0)
    share_V = torch.where(ordinary, share_V, 0) / share_V[ordinary].sum()
    best = field.decode([[int(share_V.argmax())]])[0]
    assert one["prediction"] == f"The lov{best}ly fox"
    assert one["gaps"][0][best] == pytest.approx(float(share_V.max()), abs=1e-5)
    assert len(two["gaps"]) == 2 and "[MASK]" not in two["prediction"]
