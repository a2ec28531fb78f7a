"""The recall sandbox: how and when students learn to copy what stood after a trigger."""
