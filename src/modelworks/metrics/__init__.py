"""Streaming metrics with 95 % bootstrap intervals, in bounded memory: numpy alone.

meter = ClassificationMeter("label", ["no", "yes"])
meter.update({"prediction": codes_B, "probability": probability_BC}, {"label": truth_B, "row": row_B})
meter.result()      # {"accuracy": {"value": 0.91, "low": 0.90, "high": 0.92}, …}
"""

from modelworks.metrics.direction import higher_is_better

__all__ = ["higher_is_better"]
