"""The group `lsq-export`: commands whose modules are imported when they are asked for; errors as one line and a code.

| exit code | meaning                                                        |
|-----------|----------------------------------------------------------------|
| 0         | done and good                                                  |
| 1         | the work showed a failure (parity, a damaged bundle): which    |
| 2         | bad input: a QuantizationError or a wrong option               |
| 70        | an error of the program itself (EX_SOFTWARE)                   |
| 130       | Ctrl-C                                                         |
| 141       | the reader of the output has gone (`lsq-export inspect | head`) |
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import time
import traceback
from typing import Any, NoReturn

import click

from calib.errors import near, shown
from lsq_export import progress
from lsq_export.threads import spin_briefly

from .option_names import in_options
from .warning_lines import warnings_as_lines

LONGEST, ENDING = 1200, 300  # characters of the line of an error; the end has the advice
DEBUG_VARIABLE = "LSQ_EXPORT_DEBUG"
FAILED, BAD_INPUT, INTERNAL, INTERRUPTED, BROKEN_PIPE = 1, 2, 70, 130, 141

# One line each for `lsq-export --help`, which imports no command.
COMMANDS = {
    "demo": "Run the main job on real digits: train, export, verify, time.",
    "train": "Train a float model, then its low-bit form (LSQ+).",
    "check": "Say what of a network will be integer, before it is trained.",
    "export": "Fold a trained checkpoint; write a bundle of integer ONNX files.",
    "calibrate": "Quantize a float network, ONNX or PyTorch, without training.",
    "adopt": "Make a bundle of an ONNX file that another tool quantized.",
    "verify": "Check in ONNX Runtime that a bundle does what the model did.",
    "replay": "Run a bundle in real runtimes, and compare integers.",
    "sign": "Sign a bundle, in minisign's format.",
    "page": "Write a page that runs a bundle in the browser.",
    "interchange": "Write what was trained for other tools: QONNX, AIMET.",
    "inspect": "List every quantized tensor of ONNX files.",
    "lint": "Say what of any ONNX file a target cannot read.",
    "bench": "Time ONNX models against each other in one run.",
    "qat-speed": "Time a training step of QAT against float, and its memory.",
    "init-speed": "Time the initialization against an epoch of training.",
    "drift": "Find the quantizers that other data have left; re-initialize them.",
    "folds": "Compare what each fold of real offsets costs.",
    "report": "Write the HTML report of a bundle.",
    "targets": "List the deployment targets.",
    "kernels": "Say where the library of fast tables is, and how programs load it.",
}

DEVELOPERS = ("qat-speed", "init-speed")  # they measure lsq-export itself

TORCHRUN = "TORCHELASTIC_RUN_ID"  # torchrun sets this variable in the processes that it starts
PATIENCE = 20.0  # seconds; torchrun ends the wait as soon as the first rank has failed
DISTRIBUTED = ("train",)  # commands that share their work between the processes of torchrun


def silent_rank() -> bool:
    """Whether torchrun started this process, and it is not the first one: it prints nothing then."""
    return TORCHRUN in os.environ and os.environ.get("RANK", "0") != "0"


class OneLineErrors(click.Command):
    """A command whose errors are one line on stderr and an exit code (table above)."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Parse the command line and run; every error becomes one line on stderr and an exit code (table above)."""
        kwargs["standalone_mode"] = False
        try:
            with warnings_as_lines(silent=silent_rank()):
                code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(BAD_INPUT)
        except click.UsageError as error:
            of_option = isinstance(error, (click.NoSuchOption, click.MissingParameter, click.BadOptionUsage))
            hint = f" (see {error.ctx.command_path} --help)" if error.ctx and of_option else ""
            _fail(error, f"{error.format_message()}{hint}", BAD_INPUT)
        except click.ClickException as error:
            _fail(error, error.format_message(), BAD_INPUT)
        except click.Abort as error:
            _fail(error, str(error) or "interrupted", INTERRUPTED)
        except Exception as error:
            # `--help` must not wait for what calib may import
            from calib.errors import DamagedError, QuantizationError
            from calib.lazy import NEEDED, TORCH

            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                _fail(error, f"cannot write: {error.strerror}; free some space", BAD_INPUT)
            if isinstance(error, DamagedError):
                _fail(error, str(error), FAILED)
            if isinstance(error, QuantizationError):
                _fail(error, in_options(str(error)), BAD_INPUT)
            if isinstance(error, ModuleNotFoundError) and error.name in TORCH:
                _fail(error, f"this command {NEEDED}", BAD_INPUT)
            if (what := _of_the_machine(error)) is not None:
                _fail(error, what, BAD_INPUT)
            advice = f"an error of lsq-export itself: {DEBUG_VARIABLE}=1 shows the traceback"
            _fail(error, f"{type(error).__name__}: {error} ({advice})", INTERNAL)
        sys.exit(code if isinstance(code, int) else 0)


class LazyGroup(OneLineErrors, click.Group):
    """A group whose commands live in modules of their own: `lsq_export.cli.cmd_<name>` holds the function `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the pipeline."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".cmd_{cmd_name.replace('-', '_')}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list in `--help`, from COMMANDS alone."""
        for title, of_developers in (("Commands", False), ("For developers of lsq-export", True)):
            with formatter.section(title):
                formatter.write_dl([row for row in COMMANDS.items() if (row[0] in DEVELOPERS) == of_developers])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the known commands where one is misspelled."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}: use one of {', '.join(COMMANDS)}{near(args[0], COMMANDS)}")
        if silent_rank() and args[0] not in DISTRIBUTED:
            raise click.exceptions.Exit(0)  # the first rank does all of it; torchrun waits for that one
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        A broken pipe is caught here, before click makes it exit 1, which means a parity failure; and what ends programs
        without being an error. No command of ours does that, but under torchrun: the code of a network does.
        """
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            # Python flushes stdout at exit, which would fail again: give it somewhere to write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            if TORCHRUN in os.environ:
                raise
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise click.ClickException(
                f"the network's code ended the program ({what}): take that out of it; nothing was finished"
            ) from error
        return result


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    """Print `error: <message>` as one line on stderr and exit; LSQ_EXPORT_DEBUG shows the traceback first."""
    if silent_rank() and not getattr(error, "first_to_fail", False):
        time.sleep(PATIENCE)  # torchrun ends all processes with the first that fails: the first rank has to say why
        sys.exit(code)
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exception(type(error), error, error.__traceback__)
    line = shown(" ".join(message.split()))
    if len(line) > LONGEST:  # of a name or a value that somebody made long
        line = f"{line[: LONGEST - ENDING]} … {line[-ENDING:]}"
    click.echo(f"error: {line}", err=True)
    sys.exit(code)


def _of_the_machine(error: Exception) -> str | None:
    """In words, what neither the program nor one of its files is to blame for; None: something else."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"there is not enough memory for that ({error}): take fewer or smaller images at a time"
    return None


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the version of the installed package."""
    if value and not ctx.resilient_parsing:
        from lsq_export.version import VERSION

        click.echo(f"lsq-export {VERSION}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit."
)
def cli() -> None:
    """Train low-bit networks with learned step sizes and offsets (LSQ+) and export them to integer ONNX."""
    progress.start()


def main() -> None:
    """Entry point of the console script."""
    spin_briefly()  # before a command imports torch
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does it: a terminal may know fewer characters
    try:
        cli.main(prog_name="lsq-export")
    except SystemExit as exit_:
        if TORCHRUN not in os.environ:
            raise
        # All is written and the process group is gone. torch's own teardown of gloo aborts in one exit of five
        # ("terminate called without an active exception"), which torchrun takes for a failed training.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_.code if isinstance(exit_.code, int) else 0)
