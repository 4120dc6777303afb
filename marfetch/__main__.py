"""The front door: chooses what to load, turns errors into messages and exit codes, and owns the signals.

`--version` loads nothing but this file. Everything else goes to `cli`.
"""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit code (`docs/reference/exit-codes.md`).
    """
    match sys.argv[1:] if arguments is None else arguments:
        case ["--version"]:
            from . import __version__

            print(f"marfetch {__version__}")  # noqa: T201 - the one line that needs nothing else
            return 0
        case words:
            return _run(words)


class _Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, but with its own exit code."""


def _run(words: list[str]) -> int:
    import signal

    terminated = False

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        code = _guarded(words)
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 143 if terminated else code


def _guarded(words: list[str]) -> int:
    import os

    from .cli import run
    from .cli.options import current
    from .errors import Error, InputError
    from .files import storage_error
    from .report import Report

    def report() -> Report:
        return current.report or Report(words[0] if words else "marfetch", as_json="--json" in words)

    try:
        result = run(words)
        if sys.stdout is not None:  # it may have been closed by whoever started us
            sys.stdout.flush()
    except Error as error:
        report().failed(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output has read enough. Nothing more can be written there, not even by the interpreter when it ends.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if sys.stdout is None or not _is_about_stdout(error):
            raise
        failure = storage_error(error, "stdout")
        report().error(failure)
        return failure.exit_code
    except Exception as error:
        # The exceptions of typer's command line parser, whose classes live in other places from one version to the next.
        message = getattr(error, "format_message", None)
        if message is None or getattr(error, "exit_code", None) != 2:
            raise
        text = str(message())
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "marfetch")
        usage = InputError(text[:1].lower() + text[1:].rstrip("."), code="usage", hint=f"{command} --help")
        report().failed(usage)
        return usage.exit_code
    return result if isinstance(result, int) else 0


def _is_about_stdout(error: OSError) -> bool:
    return error.filename is None


if __name__ == "__main__":
    sys.exit(main())
