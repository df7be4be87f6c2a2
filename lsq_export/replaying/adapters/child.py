"""Run a model in a runtime as the parent asks: `python child.py NAME`, with one JSON request on stdin.

    {"model": path, "names": of its outputs, "feeds": npz file ({input: [N, …]}), "batch": how many at a time,
     "results": npz file to write}
    -> one line on stdout: {"version": "1.32.0", "outputs": names} or {"version": …, "error": why}

NAME is the end of a file run_NAME.py here, which has two functions: `version()`, and
`opened(path, feeds, names)`, which takes the path, the first batch and the names of the outputs, and gives a function
from a batch {input: array} to {output: array}. Inputs whose number is no multiple of the batch are filled up with the
last one, and what comes out of that is left out.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def batches(feeds: Arrays, size: int) -> Iterator[Arrays]:
    """Batches of that size; the last one is filled up."""
    count = len(next(iter(feeds.values())))
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        yield {name: np.ascontiguousarray(value[rows]) for name, value in feeds.items()}


def outputs_of(run: Callable[[Arrays], Arrays], feeds: Arrays, size: int) -> Arrays:
    """{output: [N, …]}; an output that has no batch in front is that of the first batch."""
    count = len(next(iter(feeds.values())))
    parts = [{name: np.asarray(value) for name, value in run(batch).items()} for batch in batches(feeds, size)]
    joined = {}
    for name, first in parts[0].items():
        has_batch = first.ndim > 0 and len(first) == size
        joined[name] = np.concatenate([part[name] for part in parts])[:count] if has_batch else first
    return joined


def answer_to(adapter: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run one request."""
    with np.load(request["feeds"], allow_pickle=False) as file:
        feeds = dict(file)
    first = next(batches(feeds, request["batch"]))
    run = adapter.opened(request["model"], first, request["names"])
    results = outputs_of(run, feeds, request["batch"])
    names = list(results)  # an npz file cannot have every name
    arrays: dict[str, Any] = {f"output_{index}": results[name] for index, name in enumerate(names)}
    np.savez(request["results"], **arrays)
    return {"outputs": names}


def main() -> None:
    """Answer one request. What libraries print on stdout goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    known: dict[str, Any] = {}
    try:
        adapter = importlib.import_module(f"run_{sys.argv[1]}")
        known["version"] = adapter.version()
        known |= answer_to(adapter, json.load(sys.stdin))
    except ModuleNotFoundError as error:
        known["missing"] = error.name
    except BaseException as error:  # some runtimes end programs, others have errors of their own: one line of it
        known["error"] = f"{type(error).__name__}: {error}"
    answers.write(f"\n{json.dumps(known)}\n")
    answers.flush()


if __name__ == "__main__":
    main()
