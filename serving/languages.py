"""Every path that is answered by an engine, in whichever language. `app.py` gives each its application."""

from __future__ import annotations

from serving.messages.wire import COUNT_TOKENS, MESSAGES
from serving.responses.request import ENDPOINTS as RESPONSES
from serving.tokens.absent import ABSENT
from serving.tokens.tokenizer import DETOKENIZE, TOKENIZE
from serving.tokens.wire import ENDPOINTS

TOKEN_ENDPOINTS = (*ENDPOINTS, *RESPONSES, MESSAGES, COUNT_TOKENS, *ABSENT, TOKENIZE, DETOKENIZE)
