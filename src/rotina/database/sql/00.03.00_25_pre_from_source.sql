-- Whether a source brought a document, or a person: only the former goes when no source lists it.
alter table rotina.document add column from_source boolean not null default false;

-- What sources have stored until now. The part has no policy, and is the table's only one.
alter table rotina.source no force row level security;
alter table rotina.source_item no force row level security;
update rotina.document_part d set from_source = true
from rotina.source s join rotina.source_item i on i.source_id = s.id
where s.collection_id = d.collection_id and i.uri = d.uri and i.outcome <> 'failed';
alter table rotina.source force row level security;
alter table rotina.source_item force row level security;
