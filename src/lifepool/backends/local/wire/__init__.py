"""What server and worker agree on: how calls and answers become bytes. Imports nothing heavy: workers load it."""
