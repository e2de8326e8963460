"""Tests of other projects that ask for what another process, or another backend than theirs, can't give; and why."""

import re
from collections.abc import Iterable, Mapping

import pytest

_SAME_PROCESS = "it looks at what a task did in this very process"
_SAME_OBJECT = "it wants the very object back that it put in, and not its equal"
_GENERATORS = "generators cannot be sent to another process"
_STORE = "it stores into an array of this process"

DASK = {
    "test_take_npartitions_warn": "it wants a warning that Dask gives where it computes in this process",
    "test_to_delayed_optimize_graph": _SAME_PROCESS,
    "test_from_delayed_iterator": _GENERATORS,
    "test_reductions_are_lazy": _GENERATORS,
    "test_repartition_partition_size_complex_dtypes": _SAME_OBJECT,
    "test_bag_with_single_callable": _SAME_OBJECT,
    "test_traverse_false": _SAME_OBJECT,
    "test_from_array_getitem": _SAME_OBJECT,
    "test_from_array_with_lock": "it holds a lock of this process",
    "test_memmap": _STORE,
    "test_store": _STORE,
    "test_store_compute_false": _STORE,
    "test_store_delayed_target": _STORE,
    "test_store_locks_count_calls": _STORE,
    "test_store_locks_dont_assume_threadsafe": _STORE,
    "test_store_locks_failure_lock_released": _STORE,
    "test_store_locks_no_lock": _STORE,
    "test_store_locks_one_lock_two_stores": _STORE,
    "test_store_method_return": _STORE,
    "test_store_multiprocessing_lock": _STORE,
    "test_store_regions": _STORE,
    "test_store_sources_unoptimized_nocompute": _STORE,
    "test_binary_operator_delegation": "it needs a fixture that Dask's package does not ship",
}

_MANAGER = "it shares a multiprocessing manager with workers, which only children of this process may use"
_LOKY = "it asks for loky's own class, messages or temporary files"
JOBLIB = {
    r"test_dispatch_multiprocessing\[.*loky.*": _MANAGER,
    r"test_initializer_context\[.*loky.*": _MANAGER,
    r"test_initializer_parallel\[.*loky.*": _MANAGER,
    "test_initializer_reused": _MANAGER,
    "test_initializer_not_reused": _MANAGER,
    r"test_backend_context_manager\[.*loky.*": _LOKY,
    "test_backend_hinting_and_constraints": _LOKY,
    r"test_nested_parallelism_limit\[.*loky.*": _LOKY,
    r"test_auto_memmap_on_arrays_from_generator\[.*loky.*": _LOKY,
    r"test_memmapping_leaks\[.*loky.*": _LOKY,
    "test_parallel_pickling": "it wants a PicklingError; the caller gets what his own __reduce__ raised",
    r"test_thread_bomb_mitigation\[.*loky.*": "its exception is too deep to be pickled; it lets loky fail as well",
    r"test_multiple_generator_call_separated_gc\[.*loky.*": "it wants an error where two loops share a pool; here each has its own",
    # Tests of which only some parameters do not apply.
    r"test_nested_parallel_warnings\[loky-multiprocessing-True\]": "only below loky itself is multiprocessing refused",
    r"test_nested_loop\[back_compat_backend-handoff\]": "joblib's own workers do not import our module",
}


def skip(items: Iterable[pytest.Item], reasons: Mapping[str, str]) -> None:
    """Have tests skipped whose names, with or without their parameters, match one of the patterns."""
    patterns = [(re.compile(rf"{pattern}(\[.*)?"), reason) for pattern, reason in reasons.items()]
    for item in items:
        reason = next((reason for pattern, reason in patterns if pattern.fullmatch(item.name)), None)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"does not apply: {reason}"))
