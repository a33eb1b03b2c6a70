-- How long chunks are is a collection's own, and a document can be cut anew without its file.

alter table rotina.collection
    add column chunk_limit integer not null default 600,
    add column chunk_overlap integer not null default 50;

alter table rotina.document add column headings jsonb not null default '[]';
