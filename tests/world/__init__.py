"""The world that tests put marfetch into: everything that more than one of them needs. It imports from no test."""
