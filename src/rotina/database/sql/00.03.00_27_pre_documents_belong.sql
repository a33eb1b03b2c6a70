-- A document is of a collection of its tenant. A foreign key asks so row by row, which was a tenth of
-- what storing many took; whoever stores has locked the collection, so once a statement is enough.

do $$
declare
    own name := (
        select conname from pg_constraint
        where conrelid = 'rotina.document'::regclass and contype = 'f'
    );
begin
    execute format('alter table rotina.document drop constraint %I', own);
end
$$;

create function rotina.documents_belong() returns trigger
language plpgsql as $$
begin
    if exists (
        select from (select distinct collection_id, tenant from come) d
        where not exists (
            select from rotina.collection c where c.id = d.collection_id and c.tenant = d.tenant
        )
    ) then
        raise exception 'a document of a collection that is not its tenant''s'
            using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$$;
create trigger documents_belong after insert on rotina.document
    referencing new table as come for each statement execute function rotina.documents_belong();
