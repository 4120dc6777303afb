"""Why MAR cannot be reached from here: what was seen, what it means, what to do, and what to tell the people of the firewall."""
