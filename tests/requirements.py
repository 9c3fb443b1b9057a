"""The promises of the project, and the tests that check each promise.

`tests` are patterns of node ids below tests/: `folder/test_file.py::test_name`, `*` for anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence that users may rely on, and its tests."""

    says: str
    tests: tuple[str, ...]


PROMISES: dict[str, Promise] = {
    "loops-go-on": Promise(
        "No request blocks an event loop for 50 ms; code that does is counted and named.",
        (
            "handlers/test_loop_watch.py::*",
            "test_project_loop_steps.py::*",
            "handlers/test_long_texts.py::*",
            "handlers/test_long_records.py::*",
            "conductor_admin/test_loop_limits.py::*",
            "e2e/test_long_texts_beside.py::*",
        ),
    ),
    "one-command": Promise(
        "With Python 3.11, make and gcc, a fresh clone installs everything it needs, once.",
        (
            "test_project_clone.py::*",
            "test_project_install.py::test_a_machine_without_python*",
        ),
    ),
    "locked": Promise(
        "Every dependency has its reason, and is pinned in a hashed lock; torch is the CPU build beside it.",
        (
            "test_project_install.py::test_a_dependency_is_pinned*",
            "test_project_install.py::test_every_pin*",
            "test_project_install.py::test_no_two_locks*",
            "test_project_install.py::test_torch_is_the_cpu_build*",
            "test_project_install.py::test_what_is_installed*",
        ),
    ),
    "no-cuda-packages": Promise(
        "An installation for the CPU has no nvidia, cuda or triton package.",
        ("test_project_install.py::test_a_cpu_torch*",),
    ),
    "documents": Promise(
        "README, ARCHITECTURE, CONTRIBUTING and Makefile match the repository.",
        ("test_project_documents.py::*",),
    ),
    "layers": Promise(
        "Imports point one way, and core, gateway and engines load no inference library.",
        ("test_project_layers.py::*",),
    ),
    "settings-rows": Promise(
        "SETTINGS.md is read with all its columns, in any order, and with Markdown in its cells.",
        (
            "conductor_core/test_settings_rows.py::*",
            "conductor_core/test_model_refs.py::*",
            "conductor_core/test_quantities.py::*",
        ),
    ),
    "settings-mistakes": Promise(
        "All mistakes of a table are reported at once, with line, column and the expected value.",
        (
            "conductor_core/test_settings_mistakes.py::*",
            "conductor/test_cli_models.py::test_every_mistake*",
        ),
    ),
    "settings-any-text": Promise(
        "Any text gives a catalogue or a list of errors, never a traceback.",
        (
            "conductor_core/test_settings_properties.py::test_random_text",
            "conductor_core/test_settings_properties.py::test_the_real_file*",
        ),
    ),
    "planned-requests": Promise(
        "A body becomes one plan: row, set, engine, persona and session; each refusal names the field.",
        ("conductor_admin/test_planner.py::*",),
    ),
    "personas": Promise(
        "Personas and engine parameters are read from the page.",
        (
            "conductor_core/test_settings_personas.py::*",
            "conductor_core/test_engine_parameters.py::*",
        ),
    ),
    "worker-sets": Promise(
        "Rows of equal weights, runtime and device share one worker set.",
        (
            "conductor_core/test_sharing.py::*",
            "conductor_core/test_settings_properties.py::test_rows_share*",
        ),
    ),
    "placement": Promise(
        "A set is placed on a device with enough memory; otherwise its row has an error.",
        ("conductor_core/test_placement.py::*",),
    ),
    "examples": Promise(
        "The tables in examples/ fit the GPUs they are for.",
        ("conductor_core/test_examples.py::*",),
    ),
    "build-deterministic": Promise(
        "The same inputs give the same archive, whole or not at all, and a second build does nothing.",
        (
            "archives/test_archives_archive.py::test_equal_inputs*",
            "archives/test_archives_build.py::test_a_second_build*",
            "archives/test_archives_archive.py::test_nothing_half_written*",
        ),
    ),
    "build-checked": Promise(
        "Downloads are verified; pickle files and code are refused, and the error names them.",
        (
            "archives/test_archives_fetch.py::test_a_wheel_with_another_sha256*",
            "archives/test_archives_fetch.py::test_a_wheel_is_downloaded*",
            "archives/test_archives_safety.py::test_a_model_of_pickles*",
            "archives/test_archives_safety.py::test_auto_map*",
        ),
    ),
    "build-once": Promise(
        "Weights are made once, however many rows and processes need them.",
        (
            "archives/test_archives_prepare.py::test_weights_are_made_once",
            "archives/test_archives_prepare.py::test_a_second_process*",
        ),
    ),
    "weights-compared": Promise(
        "Weights are checked against their digests at each load and by `pull --verify`, which repairs them.",
        ("archives/test_archives_digests.py::*", "conductor/test_cli_models.py::test_pull_verify*"),
    ),
    "build-validated": Promise(
        "A damaged archive is refused, and the error names the fault.",
        ("archives/test_archives_validate.py::*",),
    ),
    "build-real": Promise(
        "The demo model is converted into what a worker loads.",
        ("archives/test_archives_real_model.py::*",),
    ),
    "build-like-archiver": Promise(
        "An archive has the members that torch-model-archiver makes.",
        ("archives/test_archives_archive.py::test_members_and_manifest*",),
    ),
    "five-precisions": Promise(
        "FP32, FP16, BF16, 8-bit and 4-bit rows all answer on a CPU.",
        ("e2e/test_budget.py::test_each_precision*",),
    ),
    "alone": Promise(
        "With TorchServe alone `/predictions` answers and streams as the gateway does.",
        (
            "contract/test_torchserve_alone_batch.py::test_a_call_is_answered*",
            "contract/test_torchserve_alone_batch.py::test_a_streamed_call*",
            "e2e/test_torchserve_alone.py::test_a_resident_row*",
        ),
    ),
    "alone-no-convoy": Promise(
        "In one batch short calls return before the long one.",
        ("contract/test_torchserve_alone_batch.py::test_seven_short*",),
    ),
    "alone-bad-call": Promise(
        "A bad call of a batch harms only itself.",
        ("contract/test_torchserve_alone_batch.py::test_a_bad_call*",),
    ),
    "alone-beside": Promise(
        "`conductor serve` and TorchServe alone run at the same time from one shell.",
        ("e2e/test_torchserve_alone.py::test_conductor_serve_runs_beside*",),
    ),
    "activated": Promise(
        "The activated environment names TorchServe's configuration and, where the machine has none, a Java.",
        (
            "test_project_install.py::test_activate*",
            "test_project_install.py::test_deactivate*",
            "test_project_clone.py::*",
        ),
    ),
    "worker-records": Promise(
        "A worker answers with records, the last of which is done or error.",
        (
            "handlers/test_worker_app.py::test_an_answer_is*",
            "handlers/test_worker_app.py::test_a_refusal*",
            "handlers/test_worker_app.py::test_the_first_delta*",
        ),
    ),
    "worker-cancel": Promise(
        "Closing the connection ends only that request, at the next step.",
        (
            "handlers/test_worker_app.py::test_a_client_that_leaves*",
            "contract/test_torchserve_alone_worker.py::test_a_client*",
            "contract/test_runtimes.py::test_cancel*",
        ),
    ),
    "neighbours": Promise(
        "A request that fills the KV cache, leaves it or is preempted harms no other request.",
        (
            "contract/test_runtimes_neighbours.py::*",
            "handlers/test_openvino_job.py::*",
            "handlers/test_openvino_places.py::*",
            "handlers/test_transformers_memory.py::test_who_was_put_back*",
            "archives/test_archives_headers.py::test_contexts*",
            "archives/test_archives_known.py::test_the_memory*",
        ),
    ),
    "runtime-entry": Promise(
        "A runtime is one entry, its own folder and its bench script; nothing else names it.",
        (
            "test_project_runtimes.py::*",
            "handlers/test_new_runtime.py::*",
            "handlers/test_transformers_memory.py::test_the_largest_cache*",
        ),
    ),
    "worker-imports": Promise(
        "A worker imports only what its runtime needs.",
        ("handlers/test_worker_imports.py::*",),
    ),
    "worker-parent": Promise(
        "A worker exits when its TorchServe has exited.",
        ("contract/test_torchserve_alone_worker.py::test_a_worker_ends*",),
    ),
    "worker-joined": Promise(
        "With many streams, pieces are joined; the first piece is sent at once.",
        ("handlers/test_worker_relay.py::*",),
    ),
    "runtime-greedy": Promise(
        "Greedy text through every layer equals the library called directly.",
        (
            "contract/test_runtimes.py::test_greedy*",
            "handlers/test_transformers_runtime.py::test_greedy*",
        ),
    ),
    "runtime-pieces": Promise(
        "Streamed pieces joined equal the whole text, whole characters only.",
        (
            "contract/test_runtimes.py::test_streamed_pieces*",
            "handlers/test_model.py::test_no_piece*",
        ),
    ),
    "runtime-usage": Promise(
        "Usage counts are the tokenizer's own.",
        ("contract/test_runtimes.py::test_usage*",),
    ),
    "runtime-overlong": Promise(
        "An overlong prompt is an error with both numbers.",
        ("contract/test_runtimes.py::test_an_overlong*",),
    ),
    "runtime-control": Promise(
        "Control tokens in user text stay text.",
        (
            "contract/test_runtimes.py::test_control*",
            "handlers/test_model.py::test_control*",
        ),
    ),
    "runtime-hostile": Promise(
        "After a hostile request its neighbour finishes and the next is answered.",
        ("contract/test_runtimes.py::test_a_hostile*",),
    ),
    "runtime-floor": Promise(
        "Each decoding parameter is applied, or refused by name.",
        (
            "contract/test_runtimes.py::test_each_parameter*",
            "contract/test_runtimes.py::test_a_json_schema*",
            "contract/test_runtimes.py::test_stop_strings*",
        ),
    ),
    "gateway-generate": Promise(
        "`/generate` answers and `/generate/stream` streams from the real model.",
        ("test_integration.py::*",),
    ),
    "gateway-routes": Promise(
        "Models, health, stats, ping and predictions answer as documented.",
        (
            "conductor_admin/*models*",
            "conductor_admin/*health*",
            "conductor_admin/*stats*",
            "conductor_admin/*ping*",
            "conductor_admin/*predictions*",
        ),
    ),
    "gateway-strict": Promise(
        "Every malformed body is 400 in the one error shape and never repeats the prompt.",
        ("conductor_admin/test_gateway_bodies.py::*", "test_integration.py::test_an_invalid_body*"),
    ),
    "gateway-killed-worker": Promise(
        "A worker killed in mid-answer gives an error record at once, and the next request succeeds.",
        (
            "test_integration.py::test_a_killed_worker*",
            "contract/test_gateway_real.py::*",
            "contract/test_torchserve_contract.py::*",
            "contract/test_torchserve_alone_worker.py::test_a_killed_worker*",
        ),
    ),
    "gateway-client-leaves": Promise(
        "A client that disconnects stops only its own generation, on every route and at every moment.",
        ("test_integration.py::test_a_client_that_leaves*", "conductor_admin/test_leaving.py::*"),
    ),
    "gateway-slow-readers": Promise(
        "A client that reads nothing is disconnected; until then it costs little memory and no other client.",
        (
            "conductor_admin/test_slow_readers.py::*",
            "conductor_mcp/test_mcp_tools.py::test_a_client_that_reads_no_progress*",
        ),
    ),
    "gateway-load": Promise(
        "Two hundred concurrent streams leave nothing behind: no task, file, memory or count.",
        ("conductor_admin/test_load_sanity.py::*",),
    ),
    "gateway-idle-streams": Promise(
        "A stream without output sends comments, so that no proxy closes it.",
        ("conductor_admin/test_idle_streams.py::*",),
    ),
    "facade": Promise(
        "Another HTTP protocol is one module of bodies and rendering, a route in the app and a scope.",
        ("conductor_admin/test_facade.py::*",),
    ),
    "openapi": Promise(
        "/openapi.json and the page /docs describe the inputs and all possible answers of every operation.",
        ("conductor_admin/test_openapi_fuzz.py::*", "conductor_admin/test_page.py::test_the_pages_and*"),
    ),
    "gateway-concurrent": Promise(
        "32 concurrent requests are all answered.",
        ("test_integration.py::test_thirty_two*",),
    ),
    "gateway-ends": Promise(
        "Ctrl-C and SIGTERM leave no process behind.",
        ("test_integration.py::test_a_signal_leaves*", "test_integration.py::test_a_killed_gateway*"),
    ),
    "gateway-start-errors": Promise(
        "A port in use or a missing Java is reported in one line that names the fix.",
        (
            "conductor/*port*",
            "conductor_admin/*java*",
        ),
    ),
    "gateway-closed": Promise(
        "A host beyond loopback is refused until there is a key; the error names the command for one.",
        ("*loopback*", "e2e/test_closed_gateway.py::*"),
    ),
    "keys": Promise(
        "Once there is a key, each route requires one, by its own line in one table; none is forgotten.",
        ("conductor_admin/test_keys_access.py::*", "conductor_admin/test_access_decisions.py::*"),
    ),
    "key-rules": Promise(
        "A key limits categories, rates and loads, and can expire; revoking it stops its requests at once.",
        ("conductor_admin/test_keys_rules.py::*",),
    ),
    "key-commands": Promise(
        "`conductor keys` works without a gateway; keys are kept as hashes, and shown once.",
        ("conductor/test_cli_keys.py::*",),
    ),
    "slow-clients": Promise(
        "Headers or a body that do not arrive or do not end are refused, and the connection is closed.",
        ("conductor_admin/test_connections.py::*",),
    ),
    "body-bounds": Promise(
        "Bodies are limited per route and in total, have a minimum speed, and never block the event loop.",
        (
            "conductor_admin/test_body_gate.py::*",
            "handlers/test_strict_json.py::*",
            "conductor_mcp/test_mcp_posted_frame.py::*",
            "conductor_admin/test_floods.py::*",
        ),
    ),
    "request-sources": Promise(
        "A request names one host, repeats no critical header, and comes from no page of another origin.",
        ("conductor_admin/test_guard_sources.py::*",),
    ),
    "connection-bounds": Promise(
        "Headers, trailers and chunks are bounded; no trailer is a header; closed connections are freed.",
        ("conductor_admin/test_connection_bounds.py::*",),
    ),
    "odd-names": Promise(
        "A hostile name of a category is unknown everywhere, and no text of a request begins a log line.",
        ("conductor_admin/test_odd_names.py::*",),
    ),
    "audit": Promise(
        "Operators' actions are recorded before and after; refusals cannot push a record out.",
        ("conductor_admin/test_audit_log.py::*", "conductor/test_cli_keys.py::*audit*"),
    ),
    "full-disk": Promise(
        "On a full disk no action is unrecorded, a key can be revoked, and each fault is a 507 or one line.",
        ("conductor_admin/test_full_disk.py::*", "conductor/test_cli_disk.py::*"),
    ),
    "odd-files": Promise(
        "A path that is not a regular file, or a file that is too large, is refused and never blocks.",
        ("conductor_core/test_files.py::*", "conductor_admin/test_settings_reload.py::*no_file*"),
    ),
    "nothing-written-down": Promise(
        "No file of the state folder contains text of a prompt or an answer, except the sessions database.",
        (
            "e2e/test_nothing_is_written_down.py::*",
            "handlers/test_openvino_schema.py::*",
            "handlers/test_tracebacks.py::*",
            "test_project_hygiene.py::test_no_model_shows*",
        ),
    ),
    "shares": Promise(
        "One key's flood leaves places for other keys and for administrators.",
        ("conductor_admin/test_shares.py::*", "conductor_mcp/test_mcp_sessions.py::*"),
    ),
    "fair-share": Promise(
        "A client that uses much of the processor waits while others are served; operators never wait.",
        ("conductor_admin/test_fair_share.py::*",),
    ),
    "gateway-logs": Promise(
        "Logs are JSON with a request id, and never contain a prompt.",
        ("test_integration.py::test_logs_are_json*",),
    ),
    "unread-output": Promise(
        "Unread output and a full disk cost log lines, which are counted, and never an answer.",
        ("conductor_admin/test_logs.py::*", "conductor/test_serve_unread_output.py::*"),
    ),
    "budget-on-demand": Promise(
        "A set is loaded by its first request, once for all waiting requests, or refused if it cannot fit.",
        (
            "conductor_admin/test_gateway_loads.py::test_fifty*",
            "conductor_admin/test_memory_loads.py::test_what_can_never_fit*",
            "conductor_admin/test_memory_loads.py::test_a_load_waits*",
            "conductor_admin/test_memory_loads.py::test_who_waits*",
        ),
    ),
    "lifecycle-writers": Promise(
        "Each part of a worker set has one writing module; docs/lifecycle.md has every transition.",
        ("test_project_lifecycle.py::*",),
    ),
    "lifecycle-figures": Promise(
        "A failed load has a cool-down and its cause, a set its idle time, a load the seconds that are left.",
        ("conductor_admin/test_set_state.py::*",),
    ),
    "lifecycle-walks": Promise(
        "No order of requests, commands, edits and failures leaves a set between two states.",
        ("conductor_admin/test_lifecycle_walks.py::*",),
    ),
    "lifecycle-contract": Promise(
        "Models come and go over the real TorchServe as they do over the fake one.",
        ("contract/test_lifecycle_contract.py::*",),
    ),
    "load-progress": Promise(
        "A client that waits for a model gets phase, percent, place in the queue, and seconds if known.",
        (
            "conductor_admin/test_load_progress.py::*",
            "conductor/test_cli_processes.py::*load*",
            "conductor/test_cli_processes.py::test_progress*",
        ),
    ),
    "budget-policy": Promise(
        "One pure policy assigns memory: no double load, no eviction of busy models, no starvation.",
        (
            "conductor_admin/test_memory_policy.py::*",
            "conductor_admin/test_memory_policy_machine.py::*",
            "e2e/test_budget.py::*",
        ),
    ),
    "budget-ledger": Promise(
        "Memory is declared, estimated and measured; peaks are learned, a cell that drifted is corrected.",
        (
            "conductor_admin/test_memory_ledger.py::*",
            "conductor_admin/test_memory_loads.py::test_measured_memory*",
        ),
    ),
    "budget-eviction": Promise(
        "The cheapest idle sets are evicted; resident, busy and loading ones are not; `yield` sets return.",
        (
            "conductor_admin/test_memory_loads.py::test_an_idle_set_makes*",
            "conductor_admin/test_memory_loads.py::test_resident*",
            "conductor_admin/test_memory_loads.py::test_a_set_that_yields*",
            "conductor_admin/test_memory_loads.py::test_an_out_of_memory*",
        ),
    ),
    "budget-idle": Promise(
        "Idle sets are unloaded after their timeout or a request's keep_alive; showing them changes nothing.",
        (
            "conductor_admin/test_memory_idle.py::*",
            "conductor_admin/test_memory_loads.py::test_an_idle_set_is_unloaded*",
            "conductor_admin/test_memory_loads.py::test_looking*",
        ),
    ),
    "budget-races": Promise(
        "The races that stopped other servers do not stop this one.",
        ("conductor_admin/*::test_race*",),
    ),
    "plan-alone": Promise(
        "`conductor plan` needs no gateway: mistakes exit 2, what never fits 1, the examples pass.",
        ("conductor/test_cli_plan.py::*",),
    ),
    "reload-plan": Promise(
        "The effect of an edit of SETTINGS.md can be shown first: rows, memory, sets never loaded together.",
        (
            "conductor_admin/test_settings_plan.py::*",
            "conductor_admin/test_settings_reload.py::test_the_plan*",
            "conductor/test_cli_plan.py::*",
        ),
    ),
    "memory-known": Promise(
        "The memory of a set is known before it is built: from its files, and from earlier measurements.",
        (
            "archives/test_archives_known.py::*",
            "conductor_admin/test_load_progress.py::test_models_show_at_once*",
            "conductor_admin/test_settings_plan.py::test_the_memory_of_each_set*",
        ),
    ),
    "reload-live": Promise(
        "A good edit is applied row by row while everything serves; a broken one changes nothing.",
        ("conductor_admin/test_settings_reload.py::*",),
    ),
    "faults": Promise(
        "Clock jumps, reused pids, killed and starved workers end nothing else and leave nothing behind.",
        ("conductor_admin/test_faults.py::*",),
    ),
    "hung-workers": Promise(
        "A worker that hangs is reported, killed and replaced, a busy one is not; every wait has a limit.",
        ("conductor_admin/test_liveness.py::*", "conductor_admin/test_hung_workers.py::*"),
    ),
    "faults-real": Promise(
        "Workers killed, hanging or starved, TorchServe or the gateway killed: the wanted models return.",
        (
            "e2e/test_faults_workers.py::*",
            "e2e/test_faults_gateway.py::*",
            "e2e/test_hung_workers_real.py::*",
        ),
    ),
    "torchserve-closed": Promise(
        "Only the gateway can use its TorchServe: each call needs a key, which is renewed in time.",
        (
            "conductor_admin/test_torchserve_token.py::*",
            "conductor_admin/test_start.py::test_torchserve_listens*",
            "contract/test_torchserve_contract.py::test_keys*",
            "e2e/test_torchserve_closed.py::test_another_user*",
            "e2e/test_torchserve_closed.py::test_the_calls*",
        ),
    ),
    "alone-open": Promise(
        "TorchServe alone is open to every user of the machine as far as the README says, and no further.",
        ("e2e/test_torchserve_alone.py::test_another_user*",),
    ),
    "torchserve-replaced": Promise(
        "A TorchServe that hangs is reported in /health and replaced; loaded models serve until then.",
        (
            "conductor_admin/test_torchserve_process.py::*",
            "e2e/test_torchserve_closed.py::test_a_stopped*",
            "e2e/test_torchserve_closed.py::test_a_torchserve_without*",
        ),
    ),
    "torchserve-ends": Promise(
        "When a gateway ends, however it is killed, TorchServe and the workers end too.",
        (
            "conductor_admin/test_torchserve_process.py::test_the_end*",
            "e2e/test_torchserve_closed.py::test_a_gateway*",
            "test_integration.py::test_a_signal*",
        ),
    ),
    "worker-environment": Promise(
        "TorchServe and its workers inherit the variables that they need and no secret.",
        (
            "conductor_admin/test_start.py::test_foreign_variables*",
            "e2e/test_torchserve_closed.py::test_no_process*",
        ),
    ),
    "worker-logs": Promise(
        "Logs of workers and TorchServe are few and small, and hold no text that a library was given.",
        ("handlers/test_library_log.py::*",),
    ),
    "reload-successor": Promise(
        "If a replacement fails to load, the old model keeps serving; the failure is shown, and retried.",
        ("conductor_admin/test_settings_successors.py::*",),
    ),
    "translation": Promise(
        "A translation loses no sentence and no line; languages go by any name; NLLB gets its own codes.",
        (
            "engines/test_engine_translation.py::*",
            "handlers/test_nllb.py::*",
            "test_engines.py::test_translation",
        ),
    ),
    "quotes-and-citations": Promise(
        "Quotations and citations of an answer are checked against the given document, passages or sources.",
        (
            "engines/test_engine_legal_analysis.py::*",
            "engines/test_engine_scientific_research.py::*",
            "engines/test_engine_documents.py::*quote*",
        ),
    ),
    "bound-answers": Promise(
        "A classification is one of the labels; an extraction matches its schema or is null.",
        ("engines/test_engine_labels.py::*",),
    ),
    "cli-run": Promise(
        "`conductor run` streams or says how to start the gateway; its chat knows Ctrl-C and Ctrl-D.",
        (
            "conductor/test_cli_run.py::test_the_answer*",
            "conductor/test_cli_run.py::test_no_gateway*",
            "conductor/test_cli_run.py::test_verbose*",
            "conductor/test_cli_run_chat.py::test_ctrl_c_stops*",
        ),
    ),
    "cli-models": Promise(
        "`list`, `show` and `ps` show rows, parameters and loaded models.",
        ("conductor/test_cli_models.py::*", "conductor/test_cli_processes.py::test_ps*"),
    ),
    "cli-doctor": Promise(
        "`conductor doctor` shows every finding with the command that fixes it.",
        (
            "conductor/test_doctor.py::test_each_finding*",
            "conductor/test_doctor.py::test_install*",
        ),
    ),
    "bench": Promise(
        "`conductor bench` compares the gateway with the library in alternating rounds.",
        ("conductor/*bench*",),
    ),
    "maths": Promise(
        "No wrong mathematical answer is called true and no right one false, and no text is ever executed.",
        ("engines/test_engine_maths.py::*", "e2e/test_code_and_maths.py::*sum*"),
    ),
    "code": Promise(
        "Generated code is extracted from the answer and parsed, and an error is reported with its line.",
        ("engines/test_engine_code_generation.py::*", "e2e/test_code_and_maths.py::*generated*"),
    ),
    "completion": Promise(
        "Code is filled into the middle, ends with its block, and is cached for a user who types on.",
        (
            "engines/test_engine_code_completion.py::*",
            "handlers/test_bare_prompts.py::*",
            "e2e/test_code_and_maths.py::*completion*",
        ),
    ),
    "linear-time": Promise(
        "No pattern and no function over text of users or models takes more than linear time.",
        (
            "test_project_patterns.py::*",
            "test_project_text_time.py::*",
            "engines/test_engine_text_seams.py::*",
        ),
    ),
    "checker": Promise(
        "A check that does not end is stopped and harms no other request; clients take turns.",
        (
            "handlers/test_checker.py::*",
            "handlers/test_fair_queue.py::*",
            "conductor_admin/test_check_route.py::*",
        ),
    ),
    "sandbox": Promise(
        "A check made by an attacker reaches no network, no file of the user, no process and no variable.",
        ("handlers/test_sandbox.py::*", "conductor/test_doctor.py::*sandbox*"),
    ),
    "sessions": Promise(
        "A conversation is kept turn by turn, belongs to its key, and loses one turn at most to a kill.",
        (
            "conductor_admin/test_sessions.py::*",
            "conductor_admin/test_session_store.py::*",
            "e2e/test_kept_sessions.py::*",
            "conductor/test_cli_sessions.py::*",
        ),
    ),
    "history": Promise(
        "A history beyond the context loses its oldest turns, as findings report; no message is cut.",
        ("handlers/test_conversation.py::*", "e2e/test_kept_sessions.py::*beyond*"),
    ),
    "logprobs": Promise(
        "Log-probabilities are the model's own, aligned with the text through stop strings and half "
        "characters, and refused by name where a runtime or an engine cannot give them.",
        (
            "contract/test_runtimes_logprobs.py::*",
            "handlers/test_answer_text.py::*",
            "handlers/test_generation_ways.py::*logprobs*",
        ),
    ),
    "tool-prompts": Promise(
        "Tools reach every model, by its own chat template or in words, and calls are found in what it "
        "writes however the stream is cut.",
        (
            "handlers/test_tool_prompts.py::*",
            "handlers/test_tool_calls.py::*",
            "handlers/test_generation_ways.py::test_tools*",
        ),
    ),
    "bare-model": Promise(
        "A model can be asked without an engine: a conversation by its template alone, a text or token "
        "ids as they are.",
        (
            "contract/test_runtimes_logprobs.py::test_a_bare*",
            "contract/test_runtimes_logprobs.py::test_bare*",
            "handlers/test_generation_ways.py::*bare*",
        ),
    ),
    "openai": Promise(
        "OpenAI's clients are answered in their own form, whole and streamed, with errors they understand.",
        (
            "conductor_admin/test_openai_chat.py::*",
            "conductor_admin/test_openai_completions.py::*",
            "conductor_admin/test_openai_embeddings.py::*",
            "conductor_admin/test_openai_models.py::*",
            "conductor_admin/test_openai_responses.py::*",
            "e2e/test_openai.py::*",
        ),
    ),
    "openai-fields": Promise(
        "No known field is silently ignored: it is honoured or refused; unknown fields are named.",
        (
            "conductor_admin/test_openai_chat.py::*refused*",
            "conductor_admin/test_openai_chat.py::test_harmless*",
            "conductor_admin/test_openai_completions.py::*refused*",
            "conductor_admin/test_openai_responses.py::*refused*",
            "e2e/test_openai.py::*refuses*",
        ),
    ),
    "tools": Promise(
        "Tools are called by choice, by force or by name; arguments are streamed as they are written.",
        ("conductor_admin/test_openai_tools.py::*", "e2e/test_openai.py::test_a_tool*"),
    ),
    "portable": Promise(
        "Nothing in the repository belongs to one machine or one package registry.",
        ("test_project_hygiene.py::*",),
    ),
    "mcp": Promise(
        "MCP clients of both eras get typed tools, structured answers, progress, and cancel.",
        ("conductor_mcp/test_mcp_tools.py::*", "conductor_mcp/test_mcp_reading.py::*"),
    ),
    "mcp-access": Promise(
        "The first key closes `/mcp` at once; a tool asks for its scope, a session belongs to its key.",
        ("conductor_mcp/test_mcp_access.py::*",),
    ),
    "mcp-texts": Promise(
        "`handle_mcp_request` answers a JSON-RPC text as it is, batches and errors too.",
        (
            "conductor_mcp/test_mcp_texts.py::*",
            "conductor_mcp/test_mcp_shared_gateway.py::test_the_seed_text*",
        ),
    ),
    "mcp-shared": Promise(
        "Any number of `conductor mcp` share one gateway, which ends with the last, killed ones included.",
        ("conductor_mcp/test_mcp_shared_gateway.py::*",),
    ),
    "data-analysis": Promise(
        "Figures and chart of a table are computed, never guessed; a number nobody computed is flagged.",
        ("engines/test_engine_data_analysis.py::*", "e2e/test_data_and_embedding.py::test_a_table*"),
    ),
    "embedding": Promise(
        "Vectors equal those of sentence-transformers, normalised; a truncated text is reported.",
        (
            "handlers/test_embedding_runtime.py::*",
            "handlers/test_sentence_modules.py::*",
            "archives/test_archives_embedding.py::*",
            "e2e/test_data_and_embedding.py::test_vectors*",
        ),
    ),
    "metrics": Promise(
        "`/metrics` counts what happens under vLLM's names, changes nothing, and no client makes a label.",
        ("conductor_admin/test_metrics.py::*", "test_integration.py::test_an_answer_is_counted_and_traced"),
    ),
    "traces": Promise(
        "`/requests/{id}` shows its own key why a request was slow, and contains no text of it.",
        (
            "conductor_admin/test_requests.py::*",
            "conductor_mcp/test_mcp_traces.py::*",
            "conductor/test_cli_requests.py::*",
            "test_integration.py::test_an_answer_is_counted_and_traced",
        ),
    ),
    "spans": Promise(
        "With the extra `otel` each generation is one span, below its client's or the MCP SDK's own.",
        ("conductor_admin/test_spans.py::*", "conductor_mcp/test_mcp_spans.py::*"),
    ),
    "board": Promise(
        "Every metric and label of the Grafana board is in `/metrics`.",
        ("conductor_admin/test_board.py::*",),
    ),
    "marian": Promise(
        "Marian and M2M100 without a tokenizer.json are converted at build, or refused with the reason.",
        ("archives/test_archives_translation.py::*",),
    ),
    "engines-alike": Promise(
        "For every engine /generate and /check find the same, any option and text is a finding or a 400 that "
        "names the option and its choices, and a text made to take long is checked within bounds.",
        ("engines/test_engines_property.py::*",),
    ),
    "engines-say-no": Promise(
        "Every check says no to a bad text and not to a good one, and one that was not done claims nothing.",
        (
            "engines/test_engines_say_no.py::*",
            "engines/test_engine_*.py::*told*",
            "handlers/test_conversation.py::test_an_engine_says*",
        ),
    ),
    "engines-described": Promise(
        "docs/engines.md and the OpenAPI document have every option and finding of every engine.",
        ("engines/test_engines_page.py::*", "conductor_admin/test_engine_schemas.py::*"),
    ),
    "engines-listed": Promise(
        "Every engine is in the README, has questions on the page, and is found by `auto` (embedding apart).",
        ("engines/test_engines_listed.py::*",),
    ),
    "one-copy": Promise(
        "With every row of the default SETTINGS.md in use, one copy of each of its two models is in memory.",
        ("e2e/test_every_row.py::*",),
    ),
    "hot-path": Promise(
        "A warm request takes a short path through the gateway: a bounded number of calls and modules.",
        ("conductor_admin/test_hot_path.py::*",),
    ),
    "page": Promise(
        "`/` is a page that asks, streams and shows what was checked, with nothing from any other server.",
        ("conductor_admin/test_page.py::*",),
    ),
}
