"""Sampling: completions of prompts by any causal model, in this process or through vLLM."""
