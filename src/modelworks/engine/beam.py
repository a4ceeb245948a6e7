"""Beam search for what the engine runs; the search itself is a layer, so that tasks can write too (layers/beam.py)."""

from __future__ import annotations

from modelworks.layers.beam import Hypothesis, beam_search

__all__ = ["Hypothesis", "beam_search"]
