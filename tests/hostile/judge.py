"""What is a finding, what was accepted, and why that is harmless."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from .worker import GIGABYTES, Outcome

REFUSALS = (1, 2)
# Links that the user named, or in a folder of images or a package that the user named, are the user's.
FOLLOWED = r"pictures: link|(key|package, .*): place: (link out|device)"

# (command, kind of change, why it may be accepted); the first that fits counts
_NOT_READ = "the command does not read that file, and verify names it"
_TEXT = "for people or of an earlier verification, not believed by verify; a forger of sums writes what he wants there"
_YARDSTICK = "the network that was trained is known from this file alone: the measured fold is a number against it"
_TRAIN = "an image of the other split, or one that is read as it is: other pixels, other results on them"
_OTHER_ARRAYS = "arrays of another type or of other values are other data; what zip itself repairs is not damaged"
_OTHER_NETWORK = "another network, or a field that the command does not use"
_SHOWS = "not read, or shown as it is: a page compares a file with its own golden vectors, and verify names the rest"
HARMLESS: tuple[tuple[str, str, str], ...] = (
    ("inspect", r"sums, (README|run\.py|report|parity|sample|reference|.*test_data_set_0)", _NOT_READ),
    ("bench", r"sums, (README|run\.py|report|parity|sample|reference/folded|.*test_data_set_0)", _NOT_READ),
    ("report", r"sums, (README|run\.py|report|sample|reference|q|.*test_data_set_0)", _NOT_READ),
    ("verify", r"new sums, (README|run\.py|report|parity|sample)", _TEXT),
    (".*", r"sums: (order|twice)$", "neither the order of the lines nor the same line again says anything"),
    ("inspect|report|bench", r"sums: |old sums, SHA256SUMS", _NOT_READ),
    ("verify", r"sums: remove (parity|report)", "verify writes it anew, with its line"),
    ("inspect", r"old sums, (qdq|qoperator)/model\.onnx.*link inside", _NOT_READ),
    ("inspect", r"^ONNX file: |new sums, .*(model\.onnx|swapped)", "it lists what a file says, and promises nothing"),
    ("bench", r"new sums, .*(onnx|swapped)", "it times what is there, and promises nothing; verify names it"),
    (
        "inspect|report|bench",
        r"new sums, manifest\.json: (json|bytes)",
        "as the schema has it; verify names what contradicts",
    ),
    ("report", r"new sums, (parity\.json: (json|bytes)|swapped)", "as the schema has it; verify writes it anew"),
    ("report", r"old sums, swapped: .*onnx", _NOT_READ),
    ("inspect|bench|report", r"sums, swapped: (input|output|folded|manifest|parity|trained)", _NOT_READ),
    ("verify", r"new sums, manifest\.json: json: add", "a key that no version knows is not read"),
    (
        "verify",
        r"new sums, swapped: input_0\.pb and input_0\.pb|swapped: output_0\.pb and output_0\.pb",
        "the same bytes",
    ),
    ("verify", r"new sums, reference/trained\.onnx: onnx: (values|attribute|shape|repeat|dims|type)", _YARDSTICK),
    ("verify", r"new sums, (qdq|qoperator)/test_data_set_0/.*: bytes", "golden vectors that still belong together"),
    (
        "verify",
        r"new sums, (reference|q).*: onnx: repeat|new sums, .*onnx: bytes: double",
        "the same network, said twice",
    ),
    ("verify", r"new sums, reference/.*: bytes", "names and notes of torch's exporter, which nothing reads"),
    ("verify|drift", r"pictures: (one pixel|mode|names|long name|wide|bytes|bomb|text|link)", _TRAIN),
    ("verify|drift", r"npz: (bytes|type|shape|number|labels|names|nested|no array)", _OTHER_ARRAYS),
    ("drift|folds|export", r"checkpoint: ", _OTHER_NETWORK),
    (
        "page",
        r"sums, (README|run\.py|example|report|parity|sample/[po]|manifest\.schema|reference|q|SHA256SUMS)",
        _SHOWS,
    ),
    ("page", r"new sums, (manifest|sample|swapped)|sums: |old sums, swapped", _SHOWS),
    ("page", r"package, ", "a package that the user names is taken as it is, with whatever browsers make of it"),
    ("sign", r"new sums, |sums: (order|twice)", "the sums fit: it signs what is there, and verify judges it"),
    ("sign", r"key: (bytes|place: link inside)", "the first line of a key is a comment; a link leads to the key"),
)


def judged(outcome: Outcome) -> str | None:
    """What is wrong about an outcome; None if nothing is."""
    if isinstance(outcome.code, str):
        return outcome.code
    if outcome.code == 70 or "Traceback" in outcome.text:
        return "exit 70"
    if outcome.gigabytes > GIGABYTES:
        return f"{outcome.gigabytes} GB"
    if outcome.foreign and not re.match(FOLLOWED, outcome.kind):
        return f"opened {outcome.foreign[0]}"
    if outcome.code in REFUSALS and not re.search(r"^(error|FAILED|Usage): ", outcome.text, re.MULTILINE):
        return "a refusal without a line"
    if outcome.code not in (0, *REFUSALS):
        return f"exit {outcome.code}"
    if outcome.code == 0 and reason(outcome) is None:
        return "accepted"
    return None


def reason(outcome: Outcome) -> str | None:
    """Why it is harmless that a case was accepted."""
    for command, kind, why in HARMLESS:
        if re.fullmatch(command, outcome.command) and re.search(kind, outcome.kind):
            return why
    return None


def print_result(outcomes: Sequence[Outcome], changed: Sequence[str]) -> int:
    """The counts, the list of what was accepted, and 1 if anything was found."""
    codes = Counter(str(outcome.code) for outcome in outcomes)
    commands = Counter(outcome.command for outcome in outcomes)
    print(f"\n{len(outcomes)} cases: {', '.join(f'{name} {count}' for name, count in commands.most_common())}")
    print(f"exit codes: {', '.join(f'{code}: {count}' for code, count in sorted(codes.items()))}")
    slowest, largest = max(o.seconds for o in outcomes), max(o.gigabytes for o in outcomes)
    print(f"slowest {slowest:.1f} s, most memory of a process {largest:.1f} GB")
    accepted: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if outcome.code == 0:
            accepted[reason(outcome) or "UNEXPLAINED"][f"{outcome.command}: {outcome.kind}"] += 1
    print("\naccepted:")
    for why, kinds in sorted(accepted.items()):
        print(f"  {sum(kinds.values())}: {why}")
        for kind, count in kinds.most_common(8 if why != "UNEXPLAINED" else 40):
            print(f"      {count} {kind}")
    found = Counter(problem for outcome in outcomes if (problem := judged(outcome)))
    print(f"\nfound: {dict(found) or 'nothing'}")
    if changed:
        print(f"changed outside: {', '.join(changed)}")
    return 1 if found or changed else 0
