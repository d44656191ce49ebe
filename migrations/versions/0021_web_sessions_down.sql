-- Back to before. Whoever is signed in has to use a token again; the tenant of the try-it box stays, with its usage.
drop function try_it_key();
drop function measured_speeds(timestamptz, integer);
drop index ix_usage_events_variant_id_started_at;
drop function use_signin_link(bytea);
drop function end_provider_sessions(text, text, text);
drop function end_web_session(bytea, text);
drop function choose_web_tenant(bytea, uuid);
drop function touch_web_sessions(bytea[], timestamptz);
drop function live_web_sessions(bytea[]);
drop function start_web_session(uuid, bytea, uuid, text, text[], text[], text[], uuid, text, bytea, timestamptz,
                                timestamptz, text);
update api_keys set revoked_at = coalesce(revoked_at, now()) where prefix = 'try_it';
drop table signin_links;
drop table web_sessions;
