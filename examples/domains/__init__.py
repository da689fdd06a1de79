"""The reference service: every domain name in a text, found in parallel (`examples.domains.app`)."""
