"""
The score: how many seconds until this candidate gives the first token.

    seconds = (tokens queued there + own tokens not cached + transfer of those on slower media) / prefill rate

An engine computes at least the last token anew, so of a match it can use (T - 1) // block size blocks. The record
decides how much of the match is believed, medium by medium: a partial one is a lower bound and counts whole, a stale
or unknown one counts in part. What our own picks have just put there is believed whole.
"""

from __future__ import annotations

from kvsync.routing.candidate import Candidate, CostOptions, Estimate
from kvsync.types import GPU, Match, Trust

_CPU_MEDIA = frozenset({"CPU", "CPU_PINNED"})


def estimate(candidate: Candidate, prompt_tokens: int, options: CostOptions) -> Estimate:
    """Say when the first token of a prompt of `prompt_tokens` would come from this candidate."""
    record_tokens = believed_tokens(candidate.match, prompt_tokens, options)
    own_tokens = usable_tokens(candidate.own_tokens, candidate.block_size, prompt_tokens)
    cached_tokens = max(record_tokens, own_tokens)
    # What an own pick uses has been brought to the GPU by it.
    transfer_tokens = record_tokens * _transfer_share(candidate.match, options) if record_tokens > own_tokens else 0.0
    queue = (candidate.load.queued_tokens + candidate.load.running * options.decode_tokens) / candidate.prefill_rate
    prefill = (prompt_tokens - cached_tokens) / candidate.prefill_rate
    transfer = transfer_tokens / candidate.prefill_rate
    return Estimate(candidate, queue + prefill + transfer, queue, prefill, transfer, cached_tokens)


def believed_tokens(match: Match, prompt_tokens: int, options: CostOptions) -> int:
    """How many tokens of a match to count on, in whole blocks."""
    if not match.blocks:
        return 0
    block_size = match.tokens // match.blocks
    usable_blocks = usable_tokens(match.tokens, block_size, prompt_tokens) // block_size
    return int(usable_blocks * belief(match, options)) * block_size


def belief(match: Match, options: CostOptions) -> float:
    """The share of a match to count on."""
    shares = {Trust.STALE: options.stale_belief, Trust.UNKNOWN: options.unknown_belief}
    share = shares.get(match.trust, 1.0)
    if match.trust_by_medium:  # what lies on a medium that is in order is not worth less for another one's trouble
        trusts = ((blocks, match.trust_by_medium[medium]) for medium, blocks in match.by_medium.items())
        share = sum(blocks * shares.get(trust, 1.0) for blocks, trust in trusts) / match.blocks
    return share if match.certain else share * options.uncertain_belief


def usable_tokens(cached_tokens: int, block_size: int, prompt_tokens: int) -> int:
    """How many cached tokens an engine can use: whole blocks, and never the prompt's last token."""
    return min(cached_tokens, max(prompt_tokens - 1, 0) // block_size * block_size)


def _transfer_share(match: Match, options: CostOptions) -> float:
    """The cost of using the match, as a share of computing it: 0 when all of it lies on the GPU."""
    cost = sum(blocks * _transfer_of(medium, options) for medium, blocks in match.by_medium.items())
    return cost / match.blocks


def _transfer_of(medium: str, options: CostOptions) -> float:
    if medium == GPU:
        return 0.0
    return options.transfer_cpu if medium in _CPU_MEDIA else options.transfer_default
