"""Images of a chat: found, fetched by us and never by an engine, and handed on as data."""
