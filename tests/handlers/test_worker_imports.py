"""A worker imports its own runtime's libraries only: each of the others costs seconds and memory."""

from __future__ import annotations

import subprocess
import sys

PRINT_MODULES = "import sys; {imports}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
WORKER = "import handlers.inference.generator, handlers.worker.process"


def imported(imports: str) -> set[str]:
    """Top-level modules of a new interpreter after `imports`."""
    command = [sys.executable, "-c", PRINT_MODULES.format(imports=imports)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_an_openvino_worker_imports_neither_torch_nor_transformers() -> None:
    modules = imported(f"{WORKER}, handlers.runtimes.openvino.runtime")
    assert "openvino_genai" in modules
    assert not modules & {"torch", "transformers", "llguidance", "bitsandbytes", "accelerate"}


def test_a_transformers_worker_does_not_import_openvino() -> None:
    modules = imported(f"{WORKER}, handlers.runtimes.transformers.causal")
    assert "transformers" in modules
    assert not modules & {"openvino", "openvino_genai"}


def test_engines_are_found_without_the_libraries_of_their_checks() -> None:
    modules = imported(
        "from handlers.engines import registry as r; list(map(r.engine_class, r.engine_names()))"
    )
    assert not modules & {"sympy", "math_verify", "tree_sitter", "lingua", "bibtexparser", "citeproc"}
