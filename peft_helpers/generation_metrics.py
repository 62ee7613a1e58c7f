"""Judging generated texts: BLEU and chrF by sacreBLEU, ROUGE-L by rouge-score, all from 0 to 1.

The slot error rate of meaning representations is in `meaning`.
"""

from __future__ import annotations

from collections.abc import Sequence

from peft_helpers.overlap import require_references


def _columns(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """sacreBLEU's order: one list a reference number, None where a text has fewer."""
    most = max(map(len, references))
    return [[each[i] if i < len(each) else None for each in references] for i in range(most)]


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 (Papineni et al. 2002) with sacreBLEU's tokenizer.

    Args:
        texts: N generated texts.
        references: for each, one or more.

    Raises:
        ValueError: unequal lengths, no texts, a text without reference.
    """
    import sacrebleu

    require_references(texts, references)
    return sacrebleu.corpus_bleu(list(texts), _columns(references)).score / 100


def chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus chrF2 (Popović 2015), sacreBLEU's. Arguments and errors as for `bleu`."""
    import sacrebleu

    require_references(texts, references)
    return sacrebleu.corpus_chrf(list(texts), _columns(references)).score / 100


def rouge_l(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L F-measure (Lin 2004) against the closest reference.

    Words are stemmed, unlike those of `overlap.rouge_l`. Arguments and errors as for `bleu`.
    """
    from rouge_score.rouge_scorer import RougeScorer

    require_references(texts, references)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    best = [
        max(scorer.score(reference, text)["rougeL"].fmeasure for reference in each)
        for text, each in zip(texts, references, strict=True)
    ]
    return sum(best) / len(best)
