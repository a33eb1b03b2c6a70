-- What searched words through the GIN index and PostgreSQL's statistics.
drop function rotina.chunk_hits(uuid, text[], uuid[], integer, real);
drop function rotina.common_lexemes(uuid);
drop function rotina.words_like(uuid, text[], real);

-- All code numbers chunks by now.
drop trigger chunk_numbered on rotina.chunk;
drop function rotina.number_chunk();
