"""The program: choose what to load, turn errors into messages and exit codes, and handle signals.

`--version` loads only this file. Shell completion and the `mar://` getter start without the command line parser. Everything else goes to
`cli`.
"""

import sys

_GRACE_PERIOD = 3.0  # seconds after the first signal; a further signal after that ends the process at once
_RERAISE_DELAY = 0.001  # seconds
_LONGEST_MESSAGE = 300  # characters of an internal error's message; the traceback has the whole text
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import Error
    from .render.report import Report


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code (`docs/reference/exit-codes.md`)."""
    match sys.argv[1:] if arguments is None else arguments:
        case ["--version"]:
            from . import __version__

            return _print(f"marfetch {__version__}")
        case ["getter", *rest]:
            from .helm.getter import main as getter

            return getter(rest)
        case ["__complete", *words]:
            from .completion.complete import complete

            return _print_candidates(complete(words))
        case words:
            return _run(words, is_last=arguments is None)


def _print_candidates(candidates: str) -> int:
    """Print completion candidates. Hide failures, because a message would disturb the command line that the user is typing."""
    try:
        print(candidates, flush=True)  # noqa: T201 - the shell script reads it
    except OSError:
        _discard_stdout()
    return 0


def _print(line: str) -> int:
    try:
        print(line, flush=True)  # noqa: T201 - avoids loading `Report`
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        sys.stderr.write(f"error: cannot write to stdout: {error.strerror}\n")
        _discard_stdout()
        return 9
    return 0


def _write_traceback(error: BaseException) -> None:
    """Write the traceback of a bug to stderr, without secrets and control characters."""
    import contextlib
    import traceback

    from .text import hidden, printable

    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed
        for line in "".join(traceback.format_exception(error)).splitlines():
            sys.stderr.write(f"{printable(hidden(line))}\n")


def _unexpected(error: BaseException) -> "Error":
    """Return the error to report for an unexpected exception. If the exception is a bug, write its traceback to stderr."""
    from .threads import resource_error

    refused = resource_error(error)
    if refused is None:
        _write_traceback(error)
    return refused or _internal(error)


def _internal(error: BaseException) -> "Error":
    from .errors import InternalError
    from .text import hidden

    kind = type(error).__name__
    text = hidden(str(error))[:_LONGEST_MESSAGE]
    return InternalError(f"internal error: {kind}{f': {text}' if text else ''}", code="internal", type=kind)


def _discard_stdout() -> None:
    """Point stdout at the null device, so that the interpreter's final flush cannot fail."""
    import os

    if sys.stdout is not None:  # the parent process may have closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str], *, is_last: bool) -> int:
    """Run a command with its own signal handlers.

    Args:
        is_last: whether the process ends after this command; if so, the previous signal handlers are not restored.
    """
    import signal

    command = CommandRun(words)
    numbers = [signal.SIGTERM]
    # Keep ignoring signals that `nohup` or `&` in a script made the process ignore.
    numbers += [one for one in (signal.SIGINT, getattr(signal, "SIGHUP", None)) if one and signal.getsignal(one) is not signal.SIG_IGN]
    previous = {number: signal.getsignal(number) for number in numbers}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = command.reraise
        for number in numbers:
            signal.signal(number, command.interrupt)
        return command.run()
    except KeyboardInterrupt:  # a signal arrived while modules were being loaded
        return command.signal_exit_code()
    finally:
        command.is_done = True
        _clean_up(is_last=is_last)
        if not is_last:
            sys.unraisablehook = hook
            for number, handler in previous.items():
                signal.signal(number, handler)


def _clean_up(*, is_last: bool) -> None:
    from .files import AT_LAST

    for clean_up in AT_LAST:
        clean_up(is_last)


class CommandRun:
    """One run of a command line: report its failure once and turn it into the exit code."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._signal = ""
        self._signaled_at = 0.0
        self.is_done = False
        """Whether the command has finished; later signals are then ignored."""

    def interrupt(self, number: int, _: object) -> None:
        """Handle SIGINT, SIGTERM or SIGHUP: stop the command and let it clean up.

        Further signals do not interrupt the cleanup. Once the cleanup has taken longer than the grace period, the next signal ends the
        process at once. The next run then removes leftover files.
        """
        import signal
        import time

        if self.is_done:
            return
        if not self._signal:
            self._signal, self._signaled_at = signal.Signals(number).name, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._signaled_at > _GRACE_PERIOD:
            import os

            os._exit(self.signal_exit_code())

    def reraise(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Raise a signal's KeyboardInterrupt again after a short delay: Python drops exceptions that are raised in a finalizer."""
        import signal

        if not (issubclass(unraisable.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer")):
            sys.__unraisablehook__(unraisable)
            return
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, _RERAISE_DELAY)

    def signal_exit_code(self) -> int:
        """Return the exit code after a signal; for `serve`, a signal is the normal way to stop."""
        if self._words[:1] == ["serve"]:
            return 0
        return 143 if self._signal in ("SIGTERM", "SIGHUP") else 130

    def run(self) -> int:
        from .errors import Error, Interrupted
        from .files import storage_error

        try:
            try:
                return self._command()
            except Interrupted:
                return self._interrupted()
            except Error as error:
                return self._failed(error)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] == "marfetch":
                    raise
                # Written without `Report`, which may need the missing package itself.
                sys.stderr.write(
                    f"error: the Python `{sys.executable}` lacks the package `{error.name}`\n"
                    f"hint: reinstall marfetch with its dependencies: {sys.executable} -m pip install marfetch\n"
                )
                return 9
            except OSError as error:
                # A refusal by the operating system (open files, memory, the disk) is not a bug, so no traceback is shown.
                import logging

                logging.getLogger("marfetch").debug("refused by the operating system", exc_info=error)
                # A FileNotFoundError without a file name means that the current directory was deleted.
                nameless = "the current directory" if isinstance(error, FileNotFoundError) else "a file"
                return self._failed(storage_error(error, str(error.filename or nameless)))
            except KeyboardInterrupt:
                return self._interrupted()
            except Exception as error:
                if self._signal:
                    return self._interrupted()  # the interrupted code turned the KeyboardInterrupt into another exception
                return self._failed(_unexpected(error))
        except SystemExit:  # typer exits like this when the reader of its help text has gone
            _discard_stdout()
            return 0

    def _command(self) -> int:
        from .cli import run
        from .errors import InputError

        try:
            result = run(self._words)
        except Exception as error:
            # Recognize typer's usage errors by their attributes, because their classes move between versions.
            message = getattr(error, "format_message", None)
            if message is None or getattr(error, "exit_code", None) != 2:
                raise
            text = str(message())
            if text.startswith("Usage:"):  # no command was given
                sys.stderr.write(text + "\n")
                return 2
            similar = getattr(error, "possibilities", None)
            if similar:
                text = f"{text.partition(' (')[0].partition(' Did you mean')[0].rstrip('.')}. Did you mean '{similar[0]}'?"
            context = getattr(error, "ctx", None)
            command = getattr(context, "command_path", "marfetch")
            raise InputError(text[:1].lower() + text[1:].rstrip("."), code="usage", hint=f"{command} --help") from None
        if self._signal and result == 130:  # a signal while typer was parsing the command line
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0

    def _failed(self, error: "Error") -> int:
        try:
            self._report().failed(error)
        except OSError:  # stdout cannot be written; report the original error on stderr only
            _discard_stdout()
            self._report().error(error)
        return error.exit_code

    def _interrupted(self) -> int:
        from .errors import Interrupted, Terminated

        _clean_up(is_last=False)
        if self._words[:1] == ["serve"]:
            return 0
        if self.signal_exit_code() == 143:
            return self._failed(Terminated(f"ended by {self._signal}", code="terminated"))
        return self._failed(Interrupted("interrupted", code="interrupted"))

    def _report(self) -> "Report":
        from .cli import report_of

        return report_of(self._words)


def program() -> None:
    """Run the command line of this process, then exit without the interpreter's shutdown.

    All files are closed and written when `main` returns. A regular shutdown would take as long as the start.
    """
    import gc
    import os

    gc.set_threshold(200_000, 10, 10)  # one pull creates 60,000 objects and keeps most of them, so do not collect before it is done
    if os.environ.get("TF_BUILD") or os.environ.get("GITHUB_ACTIONS"):  # check this before the import, because only CI jobs need `report`
        from .render.report import guard_output

        guard_output()
    try:
        code = main()
    except KeyboardInterrupt:  # a signal after the command had finished
        code = 130
    except BaseException as error:  # the exit code of an uncaught exception would be 1, which means "the answer is no"
        code = _last_resort(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            pass
        except OSError:
            # Lost data on stdout is a failure; lost messages on stderr are not.
            code = code or (9 if stream is sys.stdout else 0)
    os._exit(code)


def _last_resort(error: BaseException) -> int:
    """Report an exception outside a command, where even the modules that report errors may be missing, and return the exit code."""
    try:
        failure = _unexpected(error)
        sys.stderr.write(f"error: {failure.message}\nhint: {failure.hint}\n")
    except BaseException:
        return 70
    return failure.exit_code


def getter() -> None:
    """Run `marfetch getter` as a separate program, which Helm needs on Windows."""
    sys.argv.insert(1, "getter")
    program()


if __name__ == "__main__":
    program()
