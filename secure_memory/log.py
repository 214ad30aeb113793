"""Operational logging: structlog events over the standard logger `secure_memory`.

Silent until the program configures logging: the standard logger has a NullHandler, and we never use structlog's default
configuration, which prints to standard output. An event has a name, ids and counts; never content, a key or a token.
The fields travel as the record's `extra`, so that any formatter, JSON or text, can show them.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

logging.getLogger("secure_memory").addHandler(logging.NullHandler())


class EventLogger:
    """The event logger of one module. structlog is imported at the first event: it costs 100 ms, and most runs have none."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _structlog(self) -> Any:
        import structlog

        return structlog.wrap_logger(
            logging.getLogger(self._name),
            wrapper_class=structlog.stdlib.BoundLogger,
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        )

    def warning(self, event: str, **fields: Any) -> None:
        """Something is worse than it should be, and work goes on."""
        self._structlog.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something an incident team wants to know."""
        self._structlog.error(event, **fields)


def get_logger(name: str) -> EventLogger:
    """The event logger of a module, below `secure_memory`."""
    return EventLogger(name)
