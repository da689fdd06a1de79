"""Handle users' functions and objects, whose code may raise anything: call, show, inspect and import them safely."""
