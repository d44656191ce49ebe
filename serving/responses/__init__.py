"""`/v1/responses`: OpenAI's Responses API, told in the engines' chat language, with state of our own.

`request` is what is asked, `items` the pieces of a conversation, `chat` what the engine is sent instead, `answer` and
`dialect` how its answer is told; all of these are pure. `store` keeps, `background` runs without a client, `endpoint`
is the life of one request, and `sweep` removes what is over. The routes that read and delete are `serving/routes`.
"""
