-- Answers to questions that mean the same, by tenant; what is lost in a crash is asked again.

create unlogged table rotina.similar_answer (
    tenant text not null,
    -- All of the request but the text of its last message, and the numbers in that.
    context bytea not null,
    question bytea not null,
    embedding vector not null,
    answer bytea not null,
    expires_at timestamptz not null,
    primary key (tenant, context, question)
);
create index similar_answer_expires on rotina.similar_answer (expires_at);
