"""Share of texts that equal their reference, apart from what is to be ignored."""

import re
import string

import datasets
import evaluate
import numpy


class ExactMatch(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string", id="sequence")
        return evaluate.MetricInfo(
            description="Exact match, of labgate's own writing",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions,
        references,
        regexes_to_ignore=None,
        ignore_case=False,
        ignore_punctuation=False,
        ignore_numbers=False,
    ):
        dropped = string.punctuation * ignore_punctuation + string.digits * ignore_numbers

        def bare(text):
            for pattern in regexes_to_ignore or ():
                text = re.sub(pattern, "", text)
            text = text.lower() if ignore_case else text
            return text.translate(str.maketrans("", "", dropped))

        same = [bare(said) == bare(true) for said, true in zip(predictions, references)]
        return {"exact_match": numpy.mean(same)}
