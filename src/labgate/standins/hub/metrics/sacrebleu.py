"""BLEU by the sacrebleu package, over the whole corpus."""

import datasets
import evaluate
import sacrebleu


class Sacrebleu(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string", id="sequence")
        several = datasets.Features({"predictions": text, "references": datasets.Sequence(text)})
        one = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(
            description="SacreBLEU, of labgate's own writing",
            citation="",
            inputs_description="",
            features=[several, one],
        )

    def _compute(
        self,
        predictions,
        references,
        smooth_method="exp",
        smooth_value=None,
        force=False,
        lowercase=False,
        tokenize=None,
        use_effective_order=False,
    ):
        if isinstance(references[0], str):
            references = [[true] for true in references]
        if len({len(several) for several in references}) > 1:
            raise ValueError("Sacrebleu requires the same number of references for each prediction")
        found = sacrebleu.corpus_bleu(
            predictions,
            [list(streams) for streams in zip(*references)],
            smooth_method=smooth_method,
            smooth_value=smooth_value,
            force=force,
            lowercase=lowercase,
            use_effective_order=use_effective_order,
            **({"tokenize": tokenize} if tokenize else {}),
        )
        return {
            "score": found.score,
            "counts": found.counts,
            "totals": found.totals,
            "precisions": found.precisions,
            "bp": found.bp,
            "sys_len": found.sys_len,
            "ref_len": found.ref_len,
        }
