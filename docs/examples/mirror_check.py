"""Check that a mirror has what MAR has: the newest versions in a range, with the same digests.

Run: python mirror_check.py MIRROR RANGE REPOSITORY...

MIRROR is the address of the mirror, such as https://registry.example.com. The exit code is 1 if a version is missing or differs.
"""

import sys

from marfetch import Client, Error
from marfetch.errors import NotFoundError


def main(mirror: str, wanted: str, *repositories: str) -> int:
    differences = 0
    try:
        with Client() as official, Client(endpoint=mirror) as copy:
            for repository in repositories:
                expected = official.resolve(repository, version=wanted)
                try:
                    found = copy.resolve(f"{repository}:{expected.tag}").digest
                except NotFoundError:
                    found = "missing"
                state = "ok" if found == expected.digest else "differs"
                differences += state != "ok"
                print(f"{state} {repository}:{expected.tag} {expected.digest} {found}")
    except Error as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return error.exit_code
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
