"""Verifies Notary Project signatures and Helm provenance without running other programs.

The cryptography libraries are imported only if the user requests a verification.
"""
