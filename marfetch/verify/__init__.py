"""Whether what was fetched is what its publisher signed: Notary Project signatures and Helm provenance, checked here and by nobody else.

Nothing in here runs, and nothing of cryptography is loaded, unless somebody asks for a verification.
"""
