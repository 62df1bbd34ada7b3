"""Layer 4: one file a verb, and the only place where parts are wired together."""
