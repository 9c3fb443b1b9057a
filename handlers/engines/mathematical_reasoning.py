"""Mathematics: solves step by step, checks the final answer, and tries once more if it is wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.checks.maths.answers import candidates
from handlers.engines.base import (
    Attempt,
    BaseLLMEngine,
    EngineOptions,
    EnginePrompt,
    Model,
    asked_last,
    read_options,
)
from handlers.wire import GenerateRequest, Message, Sampling

Context = Literal[
    "arithmetic",
    "algebra",
    "calculus",
    "statistics",
    "geometry",
    "linear_algebra",
    "number_theory",
    "discrete",
]
ADVICE: dict[Context, str] = {
    "arithmetic": "Keep the order of operations, and keep fractions exact until the end.",
    "algebra": "Name the unknowns, do the same to both sides, and put every solution back into the equation.",
    "calculus": "Name the rule of every step; an indefinite integral ends with + C.",
    "statistics": "Say which formula you use, and whether the data are a sample or the population.",
    "geometry": "State the figure's known lengths and angles and the theorem of every step; name the units.",
    "linear_algebra": "Write matrices row by row, as [[a, b], [c, d]], and show every row operation.",
    "number_theory": "Work with integers only, and show factorisations and remainders.",
    "discrete": "Say what is counted, and whether order and repetition matter.",
}
FORMATS = {
    "text": "End with one line: Final answer: <the answer alone>",
    "latex": "Write mathematics in LaTeX between \\( and \\). End with the answer alone in \\boxed{}.",
}


class MathsOptions(EngineOptions):
    """`options` of this engine."""

    context: Annotated[Context | None, Field(description="field of mathematics")] = None
    format: Annotated[Literal["text", "latex"], Field(description="notation of the answer")] = "text"
    expected: Annotated[
        str | None,
        Field(max_length=2_000, description="correct answer, if known, to check the model's answer against"),
    ] = None


class MathematicalReasoning(BaseLLMEngine):
    """Findings: `answer`, `latex`, `verified` (true, false, unknown), `reason`, `attempts`."""

    name: ClassVar[str] = "mathematical_reasoning"
    system_prompt: ClassVar[str] = (
        "You are a careful mathematician. Solve the problem step by step, one short step on each line, and "
        "check the result before you state it."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.2, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = MathsOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"attempts": 1}
    libraries: ClassVar[tuple[str, ...]] = ("handlers.checks.maths.verdict",)

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """Instructions for the given context and the form of the answer."""
        options = read_options(MathsOptions, request)
        parts = [
            self.system_prompt,
            ADVICE[options.context] if options.context else "",
            FORMATS[options.format],
        ]
        return " ".join(part for part in parts if part)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The final answer and SymPy's verdict on it."""
        # SymPy takes 40 MB, so only the checker process loads it: a worker imports this module without it.
        from handlers.checks.maths.verdict import VERDICTS, judge

        verdict = judge(asked_last(request), text, read_options(MathsOptions, request).expected)
        return {
            "answer": verdict.answer,
            "latex": verdict.latex,
            "verified": VERDICTS[verdict.holds],
            "reason": verdict.reason,
            **self.run_findings,
        }

    def unchecked(self, request: GenerateRequest, text: str, reason: str) -> dict[str, Any]:
        """The final answer as written, without a verdict."""
        found = candidates(text)
        answer = found[0] if found else None
        return {**self.unknown(reason), "answer": answer}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without an answer and a verdict."""
        no_answer = {"answer": None, "latex": None, "verified": "unknown", "reason": reason}
        return {**no_answer, **self.run_findings}

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """The answer.

        If it is wrong, a second attempt, whose prompt names the error but not the right answer.
        """
        prepared = await self.prepared(request)
        pieces: list[str] = []
        async with aclosing(model.stream(prepared.messages, prepared.sampling)) as stream:
            async for piece in stream:
                pieces.append(piece)
                yield piece
        text = "".join(pieces)
        findings = await self.conclude(request, text)
        if findings["verified"] != "false" or request.attempts < 2:
            return
        self.notes = {"attempts": 2}
        yield Attempt(2)
        again = _corrected(prepared, text, findings["answer"])
        async with aclosing(model.stream(again.messages, again.sampling)) as stream:
            async for piece in stream:
                yield piece


def _corrected(prepared: EnginePrompt, text: str, answer: str) -> EnginePrompt:
    correction = (
        f"The final answer {answer} is not correct. Find the mistake, work the problem again from the start, "
        "and end with the answer in the same form."
    )
    turns = [
        *prepared.messages,
        Message(role="assistant", content=text),
        Message(role="user", content=correction),
    ]
    return EnginePrompt(turns, prepared.sampling)
