"""The front door: chooses what to load, turns errors into messages and exit codes, and owns the signals.

`--version` loads nothing but this file, a completion little more, and what Helm calls for `mar://` no command line parser. Everything else
goes to `cli`.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import Error
    from .report import Report


def main(arguments: list[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit code (`docs/reference/exit-codes.md`).
    """
    match sys.argv[1:] if arguments is None else arguments:
        case ["--version"]:
            from . import __version__

            return _print(f"marfetch {__version__}")
        case ["getter", *rest]:
            from .helm.getter import main as getter

            return getter(rest)
        case ["__complete", *words]:
            from .completion import complete

            return _offer(complete(words))
        case words:
            return _run(words)


def _offer(candidates: str) -> int:
    """A shell is told what there is, and never of a failure."""
    try:
        print(candidates, flush=True)  # noqa: T201 - read by the shell's script
    except OSError:
        _forget_stdout()
    return 0


def _print(line: str) -> int:
    try:
        print(line, flush=True)  # noqa: T201 - the one line that needs nothing else
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        sys.stderr.write(f"error: stdout cannot be written: {error.strerror}\n")
        _forget_stdout()
        return 9
    return 0


def _forget_stdout() -> None:
    """Nothing more can be written there, not even by the interpreter when it ends."""
    import os

    if sys.stdout is not None:  # it may have been closed by whoever started us
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    import signal

    spoken = _Spoken(words)
    previous = signal.signal(signal.SIGTERM, spoken.terminate)
    try:
        return spoken.run()
    except KeyboardInterrupt:  # while it was still being loaded
        return spoken.ended_early()
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Spoken:
    """One command line: what goes wrong is said once, and becomes the exit code."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._terminated = False

    def terminate(self, *_: object) -> None:
        """SIGTERM: ends a command as Ctrl-C does, but with its own exit code."""
        self._terminated = True
        raise KeyboardInterrupt

    def ended_early(self) -> int:
        """The exit code of a command that was ended before it could say anything; a server that is told to end has done so."""
        if self._words[:1] == ["serve"]:
            return 0
        return 143 if self._terminated else 130

    def run(self) -> int:
        from .errors import Error, Interrupted
        from .files import storage_error
        from .report import ReaderGoneError

        try:
            try:
                return self._command()
            except Interrupted:
                return self._ended()
            except Error as error:
                return self._failed(error)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] == "marfetch":
                    raise
                # What shows errors may need the package too.
                sys.stderr.write(
                    f"error: the Python `{sys.executable}` lacks the package `{error.name}`\n"
                    f"hint: install marfetch with its packages into it: {sys.executable} -m pip install marfetch\n"
                )
                return 9
            except OSError as error:
                # What the operating system refuses (open files, memory, the disk) is no bug; the rest keeps its traceback.
                self._log(error)
                return self._failed(storage_error(error, str(error.filename or "a file")))
            except KeyboardInterrupt:
                return self._ended()
        except (ReaderGoneError, SystemExit):  # typer's parser leaves by SystemExit where its own output is not read
            _forget_stdout()
            return 0

    def _command(self) -> int:
        from .cli import run
        from .errors import InputError

        try:
            result = run(self._words)
        except Exception as error:
            # The exceptions of typer's command line parser, whose classes live in other places from one version to the next.
            message = getattr(error, "format_message", None)
            if message is None or getattr(error, "exit_code", None) != 2:
                raise
            text = str(message())
            if text.startswith("Usage:"):  # a command was left out
                sys.stderr.write(text + "\n")
                return 2
            context = getattr(error, "ctx", None)
            command = getattr(context, "command_path", "marfetch")
            raise InputError(text[:1].lower() + text[1:].rstrip("."), code="usage", hint=f"{command} --help") from None
        return result if isinstance(result, int) else 0

    def _failed(self, error: "Error") -> int:
        from .report import ReaderGoneError

        try:
            self._report().failed(error)
        except ReaderGoneError:
            _forget_stdout()
        except OSError:  # stdout takes nothing; what went wrong before is what counts
            _forget_stdout()
            self._report().error(error)
        return error.exit_code

    def _ended(self) -> int:
        from .errors import Interrupted, Terminated

        if self._words[:1] == ["serve"]:
            return 0
        if self._terminated:
            return self._failed(Terminated("ended by SIGTERM", code="terminated"))
        return self._failed(Interrupted("interrupted", code="interrupted"))

    def _report(self) -> "Report":
        from .cli import COMMANDS
        from .cli.options import current
        from .report import Report

        if current.report is not None:
            return current.report
        command = next((word for word in self._words if word in COMMANDS), "marfetch")
        return Report(command, as_json="--json" in self._words)

    @staticmethod
    def _log(error: OSError) -> None:
        import logging

        logging.getLogger("marfetch").debug("refused by the operating system", exc_info=error)


def program() -> None:
    """Run the command line of this process, and end it.

    Everything is closed and written when `main` returns; taking the interpreter down in good order would cost as much again as
    starting it, and change nothing. Nearly all that is made while loading stays, so that looking through it again and again finds nothing.
    """
    import gc
    import os

    gc.set_threshold(50_000, 20, 20)

    try:
        code = main()
    except KeyboardInterrupt:  # in the very last moment
        code = 130
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            pass
        except OSError:
            code = code or 9
    os._exit(code)


def getter() -> None:
    """Answer one call of Helm, and end: what `marfetch getter` does, as a program of its own for Helm on Windows."""
    sys.argv.insert(1, "getter")
    program()


if __name__ == "__main__":
    program()
