"""The front door: chooses what to load, turns errors into messages and exit codes, and owns the signals.

`--version` loads nothing but this file, a completion little more, and what Helm calls for `mar://` no command line parser. Everything else
goes to `cli`.
"""

import sys

_PATIENCE = 3.0  # seconds from the first signal until another one ends the process at once
_MOMENT = 0.001  # seconds
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import Error
    from .render.report import Report


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
            from .completion.complete import complete

            return _offer(complete(words))
        case words:
            return _run(words, is_last=arguments is None)


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


def _run(words: list[str], *, is_last: bool) -> int:
    """Run a command.

    Args:
        is_last: the process ends with it, so that no signal has anything to end after it.
    """
    import signal

    spoken = CommandRun(words)
    numbers = [signal.SIGTERM]
    # What started us may have told us to outlive these (`nohup`, a script's `&`).
    numbers += [one for one in (signal.SIGINT, getattr(signal, "SIGHUP", None)) if one and signal.getsignal(one) is not signal.SIG_IGN]
    previous = {number: signal.getsignal(number) for number in numbers}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = spoken.ignored
        for number in numbers:
            signal.signal(number, spoken.end)
        return spoken.run()
    except KeyboardInterrupt:  # while it was still being loaded
        return spoken.ended_early()
    finally:
        spoken.is_over = True
        _tidy(is_last=is_last)
        if not is_last:
            sys.unraisablehook = hook
            for number, handler in previous.items():
                signal.signal(number, handler)


def _tidy(*, is_last: bool) -> None:
    """What is to be done when the command is over."""
    from .files import AT_LAST

    for one in AT_LAST:
        one(is_last)


class CommandRun:
    """One command line: what goes wrong is said once, and becomes the exit code."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._signal = ""
        self._ended_at = 0.0
        self.is_over = False
        """Whether the command is done: a signal has nothing to end any more."""

    def end(self, number: int, _: object) -> None:
        """SIGINT, SIGTERM or SIGHUP: the command is given up, and takes away what it has begun.

        Another signal does not disturb that, as it would if it were raised in the middle of it; only where it takes too long, the
        process ends at once. The next run takes away then what this one could not.
        """
        import signal
        import time

        if self.is_over:
            return
        if not self._signal:
            self._signal, self._ended_at = signal.Signals(number).name, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._ended_at > _PATIENCE:
            import os

            os._exit(self.ended_early())

    def ignored(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Python ignores what is raised in a finalizer, where a signal may come as everywhere: then it is to be raised a moment later."""
        import signal

        if not (self._signal and issubclass(ignored.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer")):
            sys.__unraisablehook__(ignored)
            return
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, _MOMENT)

    @staticmethod
    def _raise(*_: object) -> None:
        raise KeyboardInterrupt

    def ended_early(self) -> int:
        """The exit code of a command that was ended before it could say anything; a server that is told to end has done so."""
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
                # Of what is not there, only the directory that it was started in has no name.
                nameless = "the current directory" if isinstance(error, FileNotFoundError) else "a file"
                return self._failed(storage_error(error, str(error.filename or nameless)))
            except KeyboardInterrupt:
                return self._ended()
            except Exception:
                if not self._signal:
                    raise
                return self._ended()  # the signal met code that makes another exception of whatever is raised in it
        except SystemExit:  # typer's parser leaves by SystemExit where its own output is not read
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
        if self._signal and result == 130:  # what typer makes of a signal that came while it was reading the command line
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0

    def _failed(self, error: "Error") -> int:
        try:
            self._report().failed(error)
        except OSError:  # stdout takes nothing; what went wrong before is what counts
            _forget_stdout()
            self._report().error(error)
        return error.exit_code

    def _ended(self) -> int:
        from .errors import Interrupted, Terminated

        _tidy(is_last=False)
        if self._words[:1] == ["serve"]:
            return 0
        if self.ended_early() == 143:
            return self._failed(Terminated(f"ended by {self._signal}", code="terminated"))
        return self._failed(Interrupted("interrupted", code="interrupted"))

    def _report(self) -> "Report":
        from .cli import report_of

        return report_of(self._words)

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
            # Data that is lost is a failure; what cannot be said of what was done is none.
            code = code or (9 if stream is sys.stdout else 0)
    os._exit(code)


def getter() -> None:
    """Answer one call of Helm, and end: what `marfetch getter` does, as a program of its own for Helm on Windows."""
    sys.argv.insert(1, "getter")
    program()


if __name__ == "__main__":
    program()
