"""Run tasks in processes of this host: the default backend.

Imports flow down:

- ``backend``: the whole pool; ``connection``: one worker.
- ``inbox``, ``outbox``: answers in, calls out; ``sent_constants``: what a worker was sent once.
- ``channel``: a worker's sockets; ``copy_threads``: big copies off the loop.
- ``template``: the process that workers are forked from; ``worker``: what runs in them.
- ``logs``: their log records, on the way back.
- ``codec``: calls and answers as bytes; ``shared``: memory that both sides have.

Beside them: ``main_script`` (where workers find ``__main__``), ``fork_safety`` (what a forked server lets go of).
"""
