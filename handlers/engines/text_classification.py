"""Text classification: the answer is one of the given labels, scored by the model's own probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.text.json_answers import read_json
from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, Model, read_options
from handlers.wire import GenerateRequest, Sampling, bad_option

NOTHING = "N/A"
"""A neutral text that labels are scored for too; the real text's score is compared with it."""
Label = Annotated[str, Field(min_length=1, max_length=200)]


class ClassOptions(EngineOptions):
    """`options` of this engine."""

    labels: Annotated[
        list[Label] | None,
        Field(
            min_length=2, max_length=200, description="labels to choose from; default: the model names one"
        ),
    ] = None
    multiple: Annotated[
        bool, Field(description="allow any number of labels; the answer is then a JSON list")
    ] = False


class TextClassification(BaseLLMEngine):
    """Scores the given labels; without labels the model names one of its own, and there are no scores."""

    name: ClassVar[str] = "text_classification"
    system_prompt: ClassVar[str] = "You classify texts. Answer with one short label and nothing else."
    defaults: ClassVar[Sampling] = Sampling(max_tokens=16, temperature=0.0)
    options_type: ClassVar[type[EngineOptions]] = ClassOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"scores": None}

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses labels that cannot be distinguished."""
        super().accept(request)
        options = read_options(ClassOptions, request)
        labels = options.labels or []
        if any(label != label.strip() for label in labels) or len(set(labels)) != len(labels):
            raise bad_option("labels", "expected distinct labels without leading or trailing white space")
        if options.multiple and not labels:
            raise bad_option("labels", "multiple requires labels")

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """The best label, or a JSON list of all labels with a probability above one half."""
        prepared = await self.prepared(request)
        options, text = read_options(ClassOptions, request), request.turns[-1].content
        if options.labels is None:
            async with aclosing(model.stream(prepared.messages, prepared.sampling)) as pieces:
                async for piece in pieces:
                    yield piece
        elif options.multiple:
            scores = await _each(model, text, options.labels)
            self.notes["scores"] = scores
            yield json.dumps([label for label, score in scores.items() if score > 0.5], ensure_ascii=False)
        else:
            scores = await _best(model, text, options.labels)
            self.notes["scores"] = scores
            yield max(scores, key=lambda label: scores[label])

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The label or labels, null if the answer names any other; only a generation has scores."""
        self.accept(request)
        options = read_options(ClassOptions, request)
        label: str | list[Any] = text.strip()
        if options.multiple:
            try:
                label = read_json(text)
            except ValueError:
                label = ""
            if not isinstance(label, list):
                return {"label": None, **self.run_findings, "warnings": ["the answer is not a JSON list"]}
        named = label if isinstance(label, list) else [label]
        wrong = [str(one) for one in named if options.labels is not None and one not in options.labels]
        warnings = [f"not one of the labels: {one}" for one in wrong]
        return {"label": None if wrong else label, **self.run_findings, "warnings": warnings}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without a label."""
        return {"label": None, **self.run_findings, "warnings": [reason]}


async def _best(model: Model, text: str, labels: list[str]) -> dict[str, float]:
    """Probabilities that sum to 1, after the score of each label for the neutral text was subtracted."""
    ends = [f" {label}" for label in labels]
    given = await model.score(_prompt(text, labels), ends)
    always = await model.score(_prompt(NOTHING, labels), ends)
    gains = [one - other for one, other in zip(given, always, strict=True)]
    top = max(gains)
    weights = [math.exp(gain - top) for gain in gains]
    return {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}


async def _each(model: Model, text: str, labels: list[str]) -> dict[str, float]:
    """The probability that a label applies, for each label independently."""
    scores = {}
    for label in labels:
        gains = []
        for asked in (text, NOTHING):
            yes, no = await model.score(f"Text: {asked}\nIs it about {label}? Answer:", [" yes", " no"])
            gains.append(yes - no)
        scores[label] = 1 / (1 + math.exp(min(700.0, gains[1] - gains[0])))
    return scores


def _prompt(text: str, labels: list[str]) -> str:
    return f"Labels: {'; '.join(labels)}\nText: {text}\nLabel:"
