"""Teachers tuned from a base model: on worked problems, and by reinforcement."""
