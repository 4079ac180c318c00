"""Overlap of words and of common sub-sequences with a reference, or the best of several."""

import datasets
import evaluate
from rouge_score import rouge_scorer, scoring


class Split:
    """A function that cuts a text into words, as rouge_score wants it."""

    def __init__(self, cut):
        self.tokenize = cut


class Rouge(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string", id="sequence")
        several = datasets.Features({"predictions": text, "references": datasets.Sequence(text)})
        one = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(
            description="ROUGE, of labgate's own writing",
            citation="",
            inputs_description="",
            features=[several, one],
        )

    def _compute(
        self,
        predictions,
        references,
        rouge_types=None,
        use_aggregator=True,
        use_stemmer=False,
        tokenizer=None,
    ):
        kinds = rouge_types or ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        split = Split(tokenizer) if tokenizer is not None else None
        scorer = rouge_scorer.RougeScorer(rouge_types=kinds, use_stemmer=use_stemmer, tokenizer=split)
        score = scorer.score_multi if isinstance(references[0], list) else scorer.score
        scores = [score(true, said) for true, said in zip(references, predictions)]
        if not use_aggregator:
            return {kind: [one[kind].fmeasure for one in scores] for kind in scores[0]}
        aggregator = scoring.BootstrapAggregator()
        for one in scores:
            aggregator.add_scores(one)
        return {kind: found.mid.fmeasure for kind, found in aggregator.aggregate().items()}
