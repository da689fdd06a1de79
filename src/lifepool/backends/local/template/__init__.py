"""Fork workers from a clean process: the server's side of it, and the program that runs in it."""
