"""Offers marfetch's read-only commands to coding agents as tools of the Model Context Protocol."""
