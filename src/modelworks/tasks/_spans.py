"""Which spans of a text are cut out, and what is read and written then (T5, Raffel et al. 2020, section 3.1.4).

    read_BS, written_BT = corrupt(tokens_BN, sentinel_M, draw(), draw(), share=0.15, mean=3)

    text      a b c d e f g h i j
    read      a b <0> e f g <1> i j            each span becomes a sentinel of its own
    written   <0> c d <1> h <2>                what stood there, and one sentinel more as the end

Spans may stand anywhere, never side by side. All rows of a length hide the same number of tokens in the same number
of spans, so that shapes do not depend on chance. B rows, N tokens, K of them hidden in C spans, S = N − K + C tokens
read, T = K + C + 1 written.
"""

from __future__ import annotations

import torch
from torch import Tensor


def counts(tokens: int, share: float, mean: float) -> tuple[int, int]:
    """(hidden tokens K, spans C) of a row of so many tokens, at least 2."""
    hidden = min(max(round(tokens * share), 1), tokens - 1)
    return hidden, max(1, min(round(hidden / mean), hidden, tokens - hidden))


def parts(total: int, pieces: int, uniform_BN: Tensor) -> Tensor:
    """`total` things cut into so many pieces, none empty, every way as likely. int64 (B, C)."""
    cuts_BC = uniform_BN[:, : total - 1].topk(pieces - 1, 1, largest=False).indices.sort(1).values + 1
    rows = len(uniform_BN)
    ends_BC = torch.cat((cuts_BC, cuts_BC.new_full((rows, 1), total)), 1)
    return torch.cat((ends_BC[:, :1], ends_BC.diff(dim=1)), 1)


def corrupt(
    tokens_BN: Tensor, sentinel_M: Tensor, stay_BN: Tensor, go_BN: Tensor, *, share: float, mean: float
) -> tuple[Tensor, Tensor]:
    """(what is read (B, S), what is written (B, T)). `sentinel`: their ids, at least C + 1 of them. `stay` and `go`:
    uniform numbers, at least N a row, that say how long what stays and what goes is."""
    rows, tokens = tokens_BN.shape
    hidden, spans = counts(tokens, share, mean)
    # In turn: a stretch that stays, a span that goes, …, a stretch; the first and the last may be empty.
    stay_BC1, go_BC = parts(tokens - hidden + 2, spans + 1, stay_BN), parts(hidden, spans, go_BN)
    stay_BC1[:, 0] -= 1
    stay_BC1[:, -1] -= 1
    pairs_B2C = torch.stack((stay_BC1[:, :-1], go_BC), 2).flatten(1)
    place_BN = torch.arange(tokens, device=tokens_BN.device).expand(rows, -1).contiguous()
    stretch_BN = torch.searchsorted(pairs_B2C.cumsum(1), place_BN, right=True)
    gone_BN, span_BN = stretch_BN % 2 == 1, stretch_BN // 2
    first_BN = gone_BN.clone()
    first_BN[:, 1:] &= ~gone_BN[:, :-1]
    shown_BN = torch.where(first_BN, sentinel_M[span_BN], tokens_BN)
    read_BS = shown_BN[~gone_BN | first_BN].view(rows, tokens - hidden + spans)
    written_BT = tokens_BN.new_empty(rows, hidden + spans + 1)
    number_BC = torch.arange(spans, device=tokens_BN.device)
    start_BC = go_BC.cumsum(1) - go_BC + number_BC
    written_BT.scatter_(1, start_BC, sentinel_M[:spans].expand(rows, -1))
    span_BK = span_BN[gone_BN].view(rows, hidden)
    place_BK = torch.arange(1, hidden + 1, device=tokens_BN.device) + span_BK
    written_BT.scatter_(1, place_BK, tokens_BN[gone_BN].view(rows, hidden))
    written_BT[:, -1] = sentinel_M[spans]
    return read_BS, written_BT
