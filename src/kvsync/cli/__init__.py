"""The commands: argv to settings to a call."""
