"""An n-gram model, the baseline beside a decoder's perplexity: absolute discounting, interpolated down to uniform."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

DISCOUNT = 0.75


class NGram:
    """Counts of all n-grams up to `order`.

    Args:
        tokens: the text to count, as token numbers.
        order: n.
        vocabulary: how many different tokens there are.
    """

    def __init__(self, tokens: Sequence[int], order: int, vocabulary: int):
        self.order, self.vocabulary = order, vocabulary
        self.following: list[dict[tuple, Counter]] = [defaultdict(Counter) for _ in range(order)]
        tokens = list(map(int, tokens))
        for length in range(order):
            table = self.following[length]
            for at in range(length, len(tokens)):
                table[tuple(tokens[at - length : at])][tokens[at]] += 1
        self.totals = [{context: sum(c.values()) for context, c in table.items()} for table in self.following]

    def probability(self, token: int, context: Sequence[int]) -> float:
        """P(token | the last order − 1 tokens of the context)."""
        chance = 1 / self.vocabulary
        for length in range(min(self.order - 1, len(context)) + 1):
            key = tuple(context[len(context) - length :])
            total = self.totals[length].get(key)
            if not total:
                break
            counts = self.following[length][key]
            kept = max(counts[token] - DISCOUNT, 0) / total
            chance = kept + DISCOUNT * len(counts) / total * chance
        return chance

    def perplexity(self, tokens: Sequence[int]) -> float:
        """exp of the mean negative log probability of each token after those before it."""
        tokens = list(map(int, tokens))
        logs = [
            math.log(self.probability(token, tokens[max(0, at - self.order + 1) : at]))
            for at, token in enumerate(tokens)
        ]
        return math.exp(-sum(logs) / len(logs))
