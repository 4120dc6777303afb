"""Evaluate Helm templates without Helm: Go's text/template, with the functions of Sprig and Helm that charts use. Nothing is executed."""
