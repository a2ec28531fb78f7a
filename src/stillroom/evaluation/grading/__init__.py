"""Grading of answers: the number that a text comes to, and programs that are run in a jail."""
