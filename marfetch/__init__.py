"""marfetch: fetch the artifacts of the Microsoft Artifact Registry (MAR, `mcr.microsoft.com`).

Importing this package costs nothing and reaches no network. Start with `marfetch.reference.Reference`,
`marfetch.constraint.Constraint` and `marfetch.client.session.Session`; every failure is a `marfetch.errors.Error`.
"""

__version__ = "0.1.0"
