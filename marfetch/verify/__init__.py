"""Verify Notary Project signatures and Helm provenance, in this process and without other programs.

The cryptography libraries are imported only if a verification is requested.
"""
