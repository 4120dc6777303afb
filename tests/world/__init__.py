"""The test environment: everything that several test modules need. It imports no test module."""
