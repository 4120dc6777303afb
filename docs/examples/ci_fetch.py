"""Download a chart in a CI job, and say which exact version was used.

Run: python ci_fetch.py REPOSITORY RANGE DIRECTORY
"""

import sys

from marfetch import Client, Error


def main(repository: str, wanted: str, directory: str) -> int:
    try:
        with Client(timeout=300) as client:
            found = client.resolve(repository, version=wanted)
            (file,) = client.pull(found.reference, to=directory)
    except Error as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"{file.path} {found.version} {found.reference}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
