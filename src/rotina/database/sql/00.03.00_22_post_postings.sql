-- What searched words through the GIN index and PostgreSQL's statistics.
drop function rotina.chunk_hits(uuid, text[], uuid[], integer, real);
drop function rotina.common_lexemes(uuid);
drop function rotina.words_like(uuid, text[], real);
