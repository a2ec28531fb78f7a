"""The bigram sandbox: tables and small transformers on a world whose theory is known."""
