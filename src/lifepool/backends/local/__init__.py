"""Run tasks in processes of this host: the default backend.

Imports flow down: ``backend`` (the whole pool), ``connection`` (one worker), ``channel``, ``inbox`` and ``outbox``
(bytes out and in), ``codec`` (calls and answers as bytes), ``shared`` (memory that both sides have). ``template`` forks
workers, ``worker`` is what runs in them, ``logs`` brings their log records back.
"""
