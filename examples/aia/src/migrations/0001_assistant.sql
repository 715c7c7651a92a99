create table documents (
    id uuid primary key,
    name text not null,
    content_type text not null,
    -- Written before the object is stored and removed after it, so that no object is without a row.
    storage_key text not null unique,
    size bigint,
    state text not null
        check (state in ('uploading', 'pending', 'running', 'done', 'failed', 'deleting')),
    pages integer,
    error text,
    job text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- The sweep looks for what nobody works on any more.
create index documents_unfinished on documents (updated_at) where state not in ('done', 'failed');

create table passages (
    document_id uuid not null references documents (id) on delete cascade,
    number integer not null,
    page integer not null,
    text text not null,
    -- Not a generated column: the service cuts Chinese text into pairs of characters first.
    words tsvector not null,
    primary key (document_id, number)
);

create index passages_words on passages using gin (words);

create table conversations (
    id uuid primary key,
    title text not null,
    tokens_used bigint not null default 0,
    -- For answers that are being written.
    tokens_reserved bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table conversation_documents (
    conversation_id uuid not null references conversations (id) on delete cascade,
    document_id uuid not null references documents (id) on delete cascade,
    position integer not null,
    primary key (conversation_id, document_id)
);

create index conversation_documents_document on conversation_documents (document_id);

create table messages (
    id uuid primary key,
    conversation_id uuid not null references conversations (id) on delete cascade,
    role text not null check (role in ('user', 'assistant')),
    state text not null check (state in ('complete', 'streaming', 'incomplete', 'failed')),
    text text not null,
    finish_reason text,
    error text,
    model text,
    sources jsonb not null default '[]',
    -- While the answer is being written, what its prompt is expected to cost.
    prompt_tokens bigint not null default 0,
    completion_tokens bigint not null default 0,
    tokens_estimated boolean not null default false,
    -- What was set aside for the answer when it began, and on which day's budget.
    tokens_reserved bigint not null default 0,
    day date not null default (now() at time zone 'utc')::date,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index messages_in_order on messages (conversation_id, created_at, id);

-- One answer at a time in a conversation.
create unique index messages_streaming on messages (conversation_id) where state = 'streaming';

-- The account of each day (UTC): deleting a conversation gives nothing back.
create table token_days (
    day date primary key,
    prompt_tokens bigint not null default 0,
    completion_tokens bigint not null default 0,
    tokens_reserved bigint not null default 0,
    answers bigint not null default 0
);
