"""The n-best file, in the layout of transformers' `nbest_predictions.json`."""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring

from tasks.core.prediction import Prediction

# Nine digits give a float32 back exactly; probabilities keep twelve. A format per candidate is about twice
# as fast as a JSON encoder.
_CANDIDATE = '{"text": %s, "probability": %.12g, "start_logit": %.9g, "end_logit": %.9g}'


def nbest_json(predictions: Mapping[str, Prediction]) -> str:
    """Return JSON text: question id to its candidates (text, probability, start_logit, end_logit), best first."""
    lists = []
    for question, prediction in predictions.items():
        entries = [
            _CANDIDATE % (encode_basestring(text), probability, start_logit, end_logit)
            for text, _, _, probability, start_logit, end_logit in prediction.nbest
        ]
        lists.append(f"{encode_basestring(question)}: [{', '.join(entries)}]")
    return "{" + ",\n ".join(lists) + "}\n"
