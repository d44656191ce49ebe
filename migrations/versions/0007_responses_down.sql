-- Back to before.

-- Responses
drop function beat_responses(uuid[]);
drop table responses;
