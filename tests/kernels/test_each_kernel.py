"""Each kernel against what is read entry by entry (check_tables.c), or computed by the formula with the C library
(check_pairs.c, check_depthwise.c, check_conv.c, check_winograd.c): natively, under sanitizers and emulated.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from lsq_export.kernels import SOURCE, find_compiler

FOLDER = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
OBJECTS = tempfile.TemporaryDirectory(prefix="kernels-")
ARM = "aarch64-linux-gnu-gcc"
CHECKS = {  # codes, each kernel
    "check_tables.c": 14_773_072,
    "check_pairs.c": 6_165_792,
    "check_depthwise.c": 196_879,
    "check_conv.c": 626_267,
    "check_winograd.c": 276_706,
}


def without(name: str) -> set[str]:
    """Kernels that have none of what is checked."""
    none = {"check_depthwise.c": {"portable"}, "check_conv.c": {"portable", "avx2", "neon"}}
    return {**none, "check_winograd.c": {"portable", "avx2", "neon", "amx"}}.get(name, set())


def native() -> list[str]:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    return compiler


@cache
def compiled(compiler: tuple[str, ...], flags: tuple[str, ...], file: Path) -> Path:
    """Its object file. Warnings are errors."""
    out = Path(OBJECTS.name) / f"{len(os.listdir(OBJECTS.name))}.o"
    words = [*compiler, *STRICT, *flags, f"-I{file.parent}", "-c", "-o", str(out), str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def program(
    compiler: Sequence[str], directory: Path, name: str, *flags: str, source: Path = SOURCE, broken: str = ""
) -> Path:
    """The check of that name, and the kernels, compiled once but for those that read `broken`, a file of `source`."""
    out, flags = directory / "check", flags or ("-O3",)
    kernels = [file for file in sorted(SOURCE.glob("*.c")) if "operator" not in file.name and file.name != "lookup.c"]
    others = [source / file.name if broken in (file.name, "") or broken.endswith(".h") else file for file in kernels]
    objects = [str(compiled(tuple(compiler), flags, file)) for file in others]
    words = [*compiler, *STRICT, *flags, f"-I{source}", "-o", str(out), str(FOLDER / name), *objects, "-lm"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "cannot find" in done.stderr:  # libraries of sanitizers, or of Arm
        pytest.skip(done.stderr.strip().splitlines()[0])
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module", params=CHECKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def check(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it is built for users."""
    return program(native(), tmp_path_factory.mktemp("check"), name)


def run(*command: str | Path) -> dict[str, str]:
    """{kernel: what the check says of it}, where all is well."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ") for line in done.stdout.splitlines() if not line.endswith(": it has none"))


def ran(shown: dict[str, str]) -> set[str]:
    """The kernels that ran."""
    found = {name for name, said in shown.items() if said in [f"0 of {every} differ" for every in CHECKS.values()]}
    assert all(said == "this processor cannot run it" for name, said in shown.items() if name not in found), shown
    return found


def some_ran(name: str, check: Path) -> bool:
    """Whether a kernel ran. A check that the portable one takes part in needs one; others skip processors without."""
    found = ran(run(check))
    if not found and "portable" in without(name):
        pytest.skip("this processor has no kernel for it")
    return bool(found)


def test_no_element_differs(name: str, check: Path) -> None:
    assert some_ran(name, check)


@pytest.mark.slow
def test_sanitizers_find_nothing(name: str, tmp_path: Path) -> None:
    assert some_ran(name, program(native(), tmp_path, name, *SANITIZED))


BROKEN = {
    "check_tables.c": [
        ("table.c", "out[i] = table[in[i] ^ flip]", "out[i] = table[in[i] ^ flip] + (i == 150)"),
        ("table.c", "i < count; ++i) out[i]", "i < count + (count == 77); ++i) out[i]"),
        ("table_x86.c", "set1_epi8(16)", "set1_epi8(15)"),
        ("entries_x86.h", "_mm512_permutex2var_epi8(quarters[2], index, quarters[3])", "low"),
    ],
    "check_pairs.c": [
        ("pair.c", "if (cut != 0 && !(bits & 1))", "if (cut != 0 && bits == 1)"),  # rounds to double first
        ("rounding.h", "x += 12582912.0F", "x += 12582913.0F"),
        (
            "pair_x86.c",
            "_mm256_fmadd_ps(second, _mm256_set1_ps(s->b_ratio)",
            "_mm256_fmadd_ps(_mm256_set1_ps(s->b_ratio), first",
        ),
        (
            "pair_x86.c",
            "_mm512_add_ps(_mm512_mul_ps(product, _mm512_set1_ps(p->ratio)), _mm512_set1_ps(p->y_zero))",
            "_mm512_fmadd_ps(product, _mm512_set1_ps(p->ratio), _mm512_set1_ps(p->y_zero))",
        ),
        ("pair_x86.c", "memcpy(out + i, last, count - i)", "memcpy(out + i, last, count - i + 1)"),
        ("pair_x86.c", "_mm512_loadu_ps(inner + 16 * i)", "_mm512_loadu_ps(inner)"),
        ("pair_x86.c", "_mm512_cvtepi8_epi32(bytes)", "_mm512_cvtepu8_epi32(bytes)"),
        ("pair_x86.c", "_mm256_loadu_ps(inner + i)", "_mm256_loadu_ps(inner)"),
        ("pair.c", "exact_fma(first, s->a_ratio, inner[i])", "exact_fma(first, s->b_ratio, inner[i])"),
    ],
    "check_depthwise.c": [
        ("depthwise_pack.c", "|= w[code] =", "|= w[code] = 2 * "),
        ("rounding.h", "x > high ? high", "x > high + 1 ? high"),
        ("depthwise_x86.c", "_mm_unpackhi_epi8(w0, w1)", "_mm_unpacklo_epi8(w0, w1)"),
        ("depthwise_x86.c", "((__mmask64)1 << (count - at)) - 1", "((__mmask64)1 << (count - at)) - 2"),
    ],
    "check_conv.c": [
        ("conv_pack.c", "* QUAD + code % QUAD", "* QUAD + (code ^ 1) % QUAD"),
        ("layer.h", "(layer->x_zero + flip)", "(layer->x_zero - flip)"),
        ("conv_x86.c", "_mm512_xor_si512(_mm512_loadu_si512(in + i), flips)", "_mm512_loadu_si512(in + i)"),
        ("conv_x86.h", "_mm512_setr_epi32(0, 4, 8, 12, 1", "_mm512_setr_epi32(0, 4, 8, 12, 2"),
        ("conv_x86.h", "_mm512_set1_ps(c->high)", "_mm512_set1_ps(3e9F)"),
        ("conv_x86.h", "left < COLUMNS ? (1U << left) - 1", "left < COLUMNS ? (1U << left)"),
        ("entries_x86.h", "_mm512_permutex2var_epi8(quarters[2], index, quarters[3])", "low"),
        ("conv_x86.h", "at + (row) * stride", "at + (row) * block->end * 4"),
        ("conv_pack.c", "if (place >= span[1])", "if (span[1] == 0)"),
        ("conv_x86.c", "_tile_loadd(5, lower + at, stride)", "_tile_loadd(5, rows + at, stride)"),
        ("conv_x86.c", "if (number > begin) store_block", "if (number > begin + 1) store_block"),
    ],
    "check_winograd.c": [
        ("winograd_pack.c", "out[3] = 2 * v[2 * step]", "out[3] = v[2 * step]"),
        ("winograd_pack.c", "row == 2 && border & 2", "row == 2 && border & 4"),
        ("winograd_pack.c", "sum * (most + 1) > INT32_MAX", "sum > INT32_MAX"),
        ("winograd_pack.c", "u[place] > INT8_MAX", "u[place] > UINT8_MAX"),
        ("winograd_pack.c", "(uint32_t)(low - layer->x_zero)", "(uint32_t)layer->x_zero"),
        ("winograd_x86.c", "_mm512_sub_epi8(in[2], in[1])", "_mm512_sub_epi8(in[1], in[2])"),
        ("winograd_x86.c", "_mm512_movepi8_mask(all) == 0", "1"),
        ("winograd_x86.c", "tile->borders[i / SIDE][i % SIDE]", "tile->borders[i % SIDE][i / SIDE]"),
    ],
}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=[pytest.mark.slow] if number else [])
        for name, faults in BROKEN.items()
        for number, fault in enumerate(faults)
    ],
)
def test_the_check_finds_a_broken_kernel(name: str, fault: tuple[str, str, str], tmp_path: Path) -> None:
    file, was, broken = fault
    source = shutil.copytree(SOURCE, tmp_path / "source")
    text = (source / file).read_text(encoding="utf-8")
    assert was in text
    (source / file).write_text(text.replace(was, broken), encoding="utf-8")
    wide = any(word in was for word in ("mm512", "mask", "last"))
    wanted = "avx512vbmi" if wide else "avx2" if "x86" in file else "portable"
    if "conv" in name:
        wanted = "amx" if "_tile" in was or "number > begin" in was else "avx512vbmi"
    if "winograd" in name:
        wanted = "avx512vbmi"
    if "depthwise" in name and wanted == "portable":
        wanted = "avx2"  # whose ends are portable
    words = [program(native(), tmp_path, name, "-O1", "-Wno-unused", source=source, broken=file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if f"{wanted}: this processor cannot run it" in done.stdout:
        pytest.skip(f"this processor has no {wanted}")
    assert done.returncode in (1, 2) and f"{wanted}: 0 of" not in done.stdout


def emulator(machine: str) -> str:
    found = shutil.which(f"qemu-{machine}") or shutil.which(f"qemu-{machine}-static")
    if found is None:
        pytest.skip(f"there is no qemu-{machine} (Debian: qemu-user)")
    return found


@pytest.mark.slow
def test_arm_emulated(name: str, tmp_path: Path) -> None:
    if shutil.which(ARM) is None:
        pytest.skip(f"there is no {ARM} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)")
    qemu = emulator("aarch64")
    assert ran(run(qemu, program([ARM], tmp_path, name, "-O3", "-static"))) == {"neon", "portable"} - without(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "kernels"), [("Haswell", {"avx2", "portable"}), ("Nehalem", {"portable"})], ids=["avx2", "sse"]
)
def test_older_processors_emulated(processor: str, kernels: set[str], name: str, check: Path) -> None:
    """What a processor does not have is not run: the program would end with SIGILL."""
    if "avx2" not in run(check):
        pytest.skip("this is no x86-64 processor")
    qemu = emulator("x86_64")
    assert ran(run(qemu, "-cpu", processor, check)) == kernels - without(name)


def test_the_benchmark_compiles(tmp_path: Path) -> None:
    """`make bench-kernels`."""
    words = [*native(), *STRICT, "-fsyntax-only", f"-I{SOURCE}", str(FOLDER / "time_tables.c")]
    subprocess.run(words, check=True)
