"""Turn calls and answers into bytes and back: pickling, buffers out of band, diagnosis."""
