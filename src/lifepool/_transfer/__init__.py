"""Carry what travels between processes with a call: exceptions, context, constants, names."""
