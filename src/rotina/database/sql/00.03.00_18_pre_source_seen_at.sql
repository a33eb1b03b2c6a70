-- Two syncs of one source at once: what one has seen is not gone for the other, so that a document
-- keeps when a listing told of it last, by the clock that all share, and not which run.

alter table rotina.source_item
    add column seen_at timestamptz not null default clock_timestamp(),
    alter column seen_by drop not null;
