"""Run tasks in processes of this host: the default backend.

Imports flow down: ``backend`` (the whole pool), ``connection`` (one worker), ``inbox`` and ``outbox`` (answers in, calls
out), ``channel`` (a worker's sockets) and ``copy_threads`` (big copies off the loop), ``template`` (the process that
workers are forked from) and ``worker`` (what runs in them), ``logs`` (their log records, on the way back), ``codec``
(calls and answers as bytes), ``shared`` (memory that both sides have). Beside them: ``sent_constants`` (what a worker
was sent once), ``main_script`` (where workers find ``__main__``), ``fork_safety`` (what a forked server lets go of).
"""
