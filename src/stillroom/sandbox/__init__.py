"""Sandbox studies: worlds whose truth is known, learners of several kinds, and the theory beside every measurement."""
