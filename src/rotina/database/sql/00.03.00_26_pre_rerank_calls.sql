-- Calls of rerankers are in the ledger too.

-- `not valid` spares a large ledger the scan: its rows have passed a narrower check.
alter table rotina.model_call
    drop constraint model_call_kind_check,
    add constraint model_call_kind_check check (kind in ('chat', 'embedding', 'rerank')) not valid;
